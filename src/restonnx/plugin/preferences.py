"""What the user has set for the plugin in napari's preferences."""

from __future__ import annotations

import os
from dataclasses import dataclass

FOLDER_VARIABLE = "RESTONNX_MODELS"

_applied = ""
"""What the variable was given here: what else stands in it is the user's own."""


@dataclass(frozen=True)
class Preferences:
    device: str = "auto"
    memory: float = 2.0
    """GB that tiles may take, and a result before it goes to the disk."""
    model_folder: str = ""
    """Where the user's models lie; empty for the platform's data folder."""


def preferences() -> Preferences:
    """Those of napari, else the defaults: napari has settings for plugins from version 0.9 on."""
    try:
        from napari.settings import get_plugin_settings

        found = get_plugin_settings("restonnx").restore
        return Preferences(str(found.device), float(found.memory), str(found.model_folder).strip())
    except Exception:  # an old napari, a broken settings file, a manifest that is not registered: the defaults do
        return Preferences()


def apply_model_folder(chosen: Preferences) -> None:
    """Let the library look into the folder of the preferences, also where they have changed; a variable that the user
    has set stands above it."""
    global _applied
    if os.environ.get(FOLDER_VARIABLE, "") not in ("", _applied):
        return
    os.environ.pop(FOLDER_VARIABLE, None)
    if chosen.model_folder:
        os.environ[FOLDER_VARIABLE] = chosen.model_folder
    _applied = chosen.model_folder
