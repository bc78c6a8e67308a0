"""Opening the widget in a viewer, or finding it where it is open."""

from __future__ import annotations

from typing import Any

from napari.layers import Image

DOCK = "Restore (restonnx)"
"""As napari names the dock of a plugin's widget."""


def is_open(viewer: Any) -> bool:
    """Whether the widget "Restore" is in the viewer already."""
    return DOCK in viewer.window.dock_widgets


def opened(viewer: Any) -> Any:
    """The widget "Restore" of a viewer; the selected layer becomes its input where that is an image."""
    _, widget = viewer.window.add_plugin_dock_widget("restonnx", "Restore")
    active = viewer.layers.selection.active
    if isinstance(active, Image):
        widget.form.image.choose(str(active.unique_id))
    return widget
