"""The library's models as the widget offers them: by task, and the best one for an image first."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restonnx import library
from restonnx.errors import InputError, ModelError
from restonnx.model import read
from restonnx.plugin.settings import asked_for
from restonnx.restore import RGB_DOMAINS

if TYPE_CHECKING:
    from restonnx.library import ModelEntry
    from restonnx.model import Metadata

FIRST = "denoise"
"""The task that the widget begins with."""
PRIOR = "prior"
"""The task of models that `solve` works with."""
MICROGRAPHS = "denoise-micrographs"
"""The model that grey layers begin with: in napari most of them are micrographs."""

_watchers: list[Callable[[], Any]] = []


def by_task() -> dict[str, list[ModelEntry]]:
    """The sound models of each task that display images have, the shipped ones first; some are `fitting` no layer but
    those of RAW files. Denoising, which most images need, comes before the other tasks."""
    found: dict[str, list[ModelEntry]] = {}
    for entry in library.models():
        if not entry.problem:
            found.setdefault(entry.task, []).append(entry)
    ordered = sorted(found.items(), key=lambda item: item[0] != FIRST)
    return {task: entries for task, entries in ordered if fitting(entries)}


def restores_file(meta: Metadata, pattern: str) -> bool:
    """Whether the model restores the data of the RAW file behind a layer, and not its picture.

    Models of packed mosaics those of Bayer sensors, models of linear colours X-Trans too, and a model that takes the
    noise off grey images a monochrome sensor's.  pattern: as in `Source.raw_pattern`.
    """
    if meta.for_raw:
        return sorted(pattern) == list("BGGR") or (pattern == "X-Trans" and meta.domain == "camera_rgb")
    denoises = meta.domain == "display_gray" and meta.task == FIRST and not asked_for(meta)
    return pattern == "monochrome" and denoises


def fitting(entries: Iterable[ModelEntry], pattern: str = "") -> list[ModelEntry]:
    """Those for a layer: models of a sensor's data only where it is the picture of a RAW file that they restore."""
    return [entry for entry in entries if not entry.metadata.for_raw or restores_file(entry.metadata, pattern)]


def shipped_tasks() -> dict[str, str]:
    """The tasks that have a command in the menus, by its name: those of shipped models, priors left out, which are for
    `solve`."""
    offered = {task: fitting(entries) for task, entries in by_task().items() if task != PRIOR}
    return {task.replace("-", "_"): task for task, entries in offered.items() if any(one.shipped for one in entries)}


def best(entries: Iterable[ModelEntry], *, rgb: bool, pattern: str = "") -> ModelEntry | None:
    """The model to begin with: for a RAW file one of its data, best of its mosaic, where the noise is as it was before
    it was spread; else one for colour or for grey as the image is, that asks for nothing more. A grey image that is no
    photograph, as that of a monochrome sensor is, is taken for a micrograph."""

    def rank(entry: ModelEntry) -> tuple[bool, bool, bool, bool, int]:
        meta = entry.metadata
        of_file, grey = restores_file(meta, pattern), meta.domain not in RGB_DOMAINS
        others = pattern == "" and entry.name != MICROGRAPHS
        return not of_file, meta.domain != "cfa", grey == rgb, others, len(asked_for(meta))

    return min(fitting(entries, pattern), key=rank, default=None)


def title(task: str) -> str:
    """As it stands in a menu: "super-resolution-x2" is "Super resolution x2"."""
    return task.replace("-", " ").capitalize()


def summary(meta: Metadata) -> str:
    """One line about a model, for a tooltip."""
    steps = f"{meta.sampler.steps} step" + "s" * (meta.sampler.steps > 1)
    larger = f", {meta.scale} times as large" if meta.scale > 1 else ""
    return f"{meta.title} {meta.version}: {meta.sampler.family}, {steps}{larger}, {meta.licence}"


def add(path: str | Path, *, overwrite: bool = False) -> ModelEntry:
    """Add a model file to the user's library, and tell those who `watch`; the same file twice is no error.

    Raises ModelError; `is_taken` says whether `overwrite` would help.
    """
    path = Path(path)
    if path.suffix.lower() != ".onnx":
        raise InputError(f"{path.name} is no model; models are files that end in .onnx")
    model = read(path)
    old = library.user_folder() / f"{model.metadata.name}.onnx"
    same = old.is_file() and hashlib.sha256(old.read_bytes()).hexdigest() == model.sha256
    entry = library.add(path, overwrite=overwrite or same)
    for call in list(_watchers):
        call()
    return entry


def is_taken(path: str | Path) -> bool:
    """Whether another model of the user's bears the name that the file at `path` has in its metadata."""
    try:
        name = read(path).metadata.name
    except ModelError:
        return False
    return any(entry.name == name and not entry.shipped for entry in library.models())


def watch(call: Callable[[], Any]) -> Callable[[], None]:
    """Call this after a model was added. -> what ends it."""
    _watchers.append(call)
    return lambda: _watchers.remove(call)
