"""The commands of the menus. They open the widget "Restore" and run it with what was chosen last.

Each task that a model is shipped for has one, under the task's name with underscores: the manifest alone lists them.
"""

from __future__ import annotations

from collections.abc import Callable
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


def __getattr__(name: str) -> Callable[..., None]:
    """The command of a task, such as `super_resolution_x2`, for the manifest's `python_name`s.

    Raises AttributeError for what is no task of a shipped model, so that a manifest which names one is found out.
    """
    from restonnx.plugin import catalogue

    task = None if name.startswith("_") else catalogue.shipped_tasks().get(name)
    if task is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}, and no shipped model has such a task")

    def command(viewer: napari.viewer.Viewer) -> None:
        _run_task(viewer, task)

    command.__name__ = command.__qualname__ = name
    command.__doc__ = f"{catalogue.title(task)}: restore the selected image with a model of this task."
    return command


def _run_task(viewer: napari.viewer.Viewer, task: str) -> None:
    """Restore the selected image with the model of that task and the settings that are shown; where the widget was
    closed or shows another task, with those of the task's last run, or with the best model for the image."""
    from napari.utils.notifications import show_warning

    from restonnx.plugin import last
    from restonnx.plugin.catalogue import title
    from restonnx.plugin.view.open import is_open

    was_open = is_open(viewer)
    widget = restore(viewer)
    chosen = widget.form.entry
    if chosen is None or chosen.task != task or not was_open:
        if not widget.form.choose_task(task):
            show_warning(f"There is no sound model for the task {title(task)}; `restonnx models list` says why.")
            return
        if (settings := last.recall(task)) is not None:
            widget.form.choose_last(settings)
    widget.start_restore()
