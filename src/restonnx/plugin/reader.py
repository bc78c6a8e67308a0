"""A model dropped on the viewer is added to the user's library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from restonnx.errors import RestonnxError


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[tuple[None]]] | None:
    """napari asks with one path or several; None for what is no .onnx file."""
    paths = [path] if isinstance(path, str) else path
    return add_models if paths and all(Path(one).suffix.lower() == ".onnx" for one in paths) else None


def add_models(path: str | list[str]) -> list[tuple[None]]:
    """Add each file and say so. -> what tells napari that there is nothing to show."""
    from napari.utils.notifications import show_error, show_info

    from restonnx.plugin import catalogue

    for one in [path] if isinstance(path, str) else path:
        try:
            entry = catalogue.add(one)
        except (RestonnxError, OSError) as error:
            show_error(str(error))
        else:
            show_info(f'Added the model "{entry.name}"; choose it in Plugins > restonnx > Restore.')
    return [(None,)]
