"""The settings that each task was last run with, in a file of the user's: commands run with them again."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from restonnx.errors import InputError
from restonnx.plugin.settings import Settings, from_record


def path() -> Path:
    """Where they are kept: beside the user's other settings."""
    import platformdirs

    return Path(platformdirs.user_config_dir("restonnx", appauthor=False)) / "last-settings.json"


def keep(task: str, settings: Settings) -> None:
    """Remember them; where that is not possible, the next run begins with the defaults."""
    from restonnx.files import replaced

    target = path()
    with suppress(OSError, InputError):
        target.parent.mkdir(parents=True, exist_ok=True)
        with replaced(target, overwrite=True) as temporary:
            temporary.write_text(json.dumps(_all() | {task: asdict(settings)}, indent=1), encoding="utf-8")


def recall(task: str) -> Settings | None:
    """None where the task was not run yet, or its settings cannot be read."""
    try:
        return from_record(_all().get(task))
    except InputError:
        return None


def _all() -> dict[str, Any]:
    try:
        found = json.loads(path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
