"""The commands of the menus. They open the widget "Restore" and run it with what was chosen last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import napari


def restore(viewer: napari.viewer.Viewer) -> Any:
    """Open the widget, with the selected image as its input."""
    from restonnx.plugin.view.open import opened

    return opened(viewer)


def restore_again(viewer: napari.viewer.Viewer) -> None:
    """As the selected result was made."""
    restore(viewer).restore_again()


def denoise(viewer: napari.viewer.Viewer) -> None:
    _run_task(viewer, "denoise")


def _run_task(viewer: napari.viewer.Viewer, task: str) -> None:
    """Restore the selected image with the model of that task that was chosen last, or the best one for the image."""
    widget = restore(viewer)
    if widget.form.entry is None or widget.form.entry.task != task:
        widget.form.choose_task(task)
    widget.start_restore()
