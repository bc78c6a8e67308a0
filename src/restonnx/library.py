"""Which models exist: those that ship inside the package, and those in the user's own folder."""

from __future__ import annotations

import contextlib
import difflib
import functools
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restonnx.errors import ModelError
from restonnx.model import Metadata, ModelFile, read

if TYPE_CHECKING:
    from restonnx.model import InputSpec
    from restonnx.onnx_file import TensorInfo

SHIPPED = Path(__file__).parent / "zoo"
CHECKSUMS = "SHA256SUMS"
"""File beside the shipped models, as `sha256sum` writes it."""

VERIFY_SIDE = 64
"""Pixels; the side of the tile on which `verify` runs a model, rounded up to what the model can take."""


@dataclass(frozen=True)
class ModelEntry:
    """A model of the library. The file is read when its metadata is first asked for."""

    name: str
    """What `find` knows it by: the file's name without ".onnx"."""
    path: Path
    shipped: bool
    """Whether it came with the package; the others are the user's."""

    @property
    def metadata(self) -> Metadata:
        """Raises ModelError for an entry that has a `problem`."""
        if not isinstance(self._content, Metadata):
            raise ModelError(self._content)
        return self._content

    @property
    def problem(self) -> str:
        """Why the model cannot be used, in one line; "" where it can."""
        return "" if isinstance(self._content, Metadata) else self._content

    @property
    def task(self) -> str:
        return self._content.task if isinstance(self._content, Metadata) else ""

    @property
    def title(self) -> str:
        return self._content.title if isinstance(self._content, Metadata) else ""

    @property
    def card(self) -> str:
        """The text of <name>.md beside the file, "" without one."""
        with contextlib.suppress(OSError):
            return self.path.with_suffix(".md").read_text(encoding="utf-8", errors="replace")
        return ""

    @functools.cached_property
    def _content(self) -> Metadata | str:
        if not self.shipped and (SHIPPED / self.path.name).is_file():
            return f"{self.path} has the name of a shipped model; rename it"
        try:
            return read(self.path).metadata
        except ModelError as error:
            return str(error)


def user_folder() -> Path:
    """Where the user's models lie: $RESTONNX_MODELS, else the platform's data folder. It need not exist."""
    chosen = os.environ.get("RESTONNX_MODELS")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("restonnx", appauthor=False)) / "models"


def models() -> tuple[ModelEntry, ...]:
    """The shipped models, then the user's, each sorted by name; broken files too, with their `problem`."""
    return tuple(_entries(SHIPPED, shipped=True) + _entries(user_folder(), shipped=False))


def find(name_or_path: str | Path) -> ModelFile:
    """The model of that name in the library, or the file of that path (it ends in ".onnx").

    Raises ModelError for an unknown name (naming the nearest right ones) and for what `model.read` refuses.
    """
    text = os.fspath(name_or_path)
    if text.lower().endswith(".onnx"):
        return read(text)
    return read(_entry(text).path)


def add(path: str | Path, *, overwrite: bool = False) -> ModelEntry:
    """Check the model file at `path` and copy it, and the card (.md) beside it, into the user's folder.

    The entry bears the name that stands in the metadata. Nothing is left half-copied. Raises ModelError for a
    file that `model.read` refuses, for the name of a shipped model, for a name that is taken unless
    `overwrite`, for weights outside the file, and where the folder cannot be written.
    """
    model = read(path)
    name, folder = model.metadata.name, user_folder()
    target = folder / f"{name}.onnx"
    if any(entry.name == name for entry in _entries(SHIPPED, shipped=True)):
        raise ModelError(f'"{name}" is the name of a shipped model; export yours with --name')
    if model.external:
        raise ModelError(f"{path} keeps weights in {model.external[0].name}; export it again as one file")
    if target.exists() and not overwrite:
        raise ModelError(
            f'there is already a model "{name}" in {folder}; '
            "`restonnx models add --overwrite` (overwrite=True) replaces it"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (target.exists() and target.samefile(model.path)):
            _copy(model.path, target)
    except OSError as error:
        raise ModelError(f'cannot add "{name}" to {folder}: {error.strerror or error}') from None
    return ModelEntry(name, target, shipped=False)


def remove(name: str) -> None:
    """Delete the user's model of that name, and its card. Raises ModelError for a shipped or unknown one."""
    entry = next((entry for entry in _entries(user_folder(), shipped=False) if entry.name == name), None)
    if entry is None and name.lower().endswith(".onnx"):
        raise ModelError(f'there is no model "{name}": give the name that `restonnx models list` shows, not a file')
    entry = entry or _entry(name)
    if entry.shipped:
        raise ModelError(f'"{name}" came with restonnx and cannot be removed; only models of your own can')
    try:
        entry.path.unlink()
        entry.path.with_suffix(".md").unlink(missing_ok=True)
    except OSError as error:
        raise ModelError(f'cannot remove "{name}" ({entry.path}): {error.strerror or error}') from None


def verify(name: str | Path) -> str:
    """Read a model, compare a shipped one with its published checksum, and run one small tile on the CPU.

    name: of the library, or the path of an .onnx file.  -> what was found, in one line.  Raises ModelError.
    """
    from restonnx.session import Session

    model = find(name)
    checked = "as published" if _has_published_checksum(model) else f"sha256 {model.sha256[:12]}"
    meta = model.metadata
    side = -(-min(VERIFY_SIDE, meta.tile.preferred) // meta.tile.multiple) * meta.tile.multiple
    session = Session(model, device="cpu")
    restored = session.run(_probe(model, side))
    wanted = (1, meta.channels, side * meta.scale, side * meta.scale)
    if restored.shape != wanted:
        raise ModelError(f"{model.path} gives an image of shape {restored.shape} where {wanted} is right")
    if not np.isfinite(restored).all():
        raise ModelError(f"{model.path} gives values that are not finite")
    size = f"{model.size_bytes / 1e6:.1f} MB"
    return f"sound: version {meta.version}, {size}, {checked}, ran on {session.provider}"


def _entries(folder: Path, *, shipped: bool) -> list[ModelEntry]:
    with contextlib.suppress(OSError):
        paths = [path for path in folder.iterdir() if path.suffix == ".onnx" and not path.name.startswith(".")]
        return [ModelEntry(path.stem, path, shipped) for path in sorted(paths, key=lambda path: path.stem)]
    return []


def _entry(name: str) -> ModelEntry:
    """The entry of that name; the shipped one where a file of the user's bears the same."""
    entries = {entry.name: entry for entry in reversed(models())}
    if name in entries:
        return entries[name]
    near = difflib.get_close_matches(name, entries, n=3)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif os.sep in name or Path(name).exists():
        hint = "the path of a model file ends in .onnx"
    else:
        hint = "`restonnx models list` shows all there are"
    raise ModelError(f'there is no model "{name}": {hint}')


def _copy(source: Path, target: Path) -> None:
    """Copy a model and its card under temporary names, then rename both; an old card goes with its model."""
    card = source.with_suffix(".md")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".adding-") as temporary:
        copied = Path(temporary) / "model"
        shutil.copyfile(source, copied)
        if card.is_file():
            shutil.copyfile(card, copied.with_suffix(".md"))
        os.replace(copied, target)
        if card.is_file():
            os.replace(copied.with_suffix(".md"), target.with_suffix(".md"))
        else:
            target.with_suffix(".md").unlink(missing_ok=True)


def _has_published_checksum(model: ModelFile) -> bool:
    """Whether the model ships with restonnx. Raises ModelError where it does and its checksum is wrong."""
    if model.path.parent != SHIPPED:
        return False
    sums = SHIPPED / CHECKSUMS
    lines = sums.read_text(encoding="utf-8").splitlines() if sums.is_file() else []
    published = {
        name.strip().lstrip("*"): digest for digest, _, name in (line.strip().partition(" ") for line in lines)
    }
    if model.path.name not in published:
        raise ModelError(f"{model.path.name} is not listed in {CHECKSUMS}: install restonnx again")
    if published[model.path.name] != model.sha256:
        raise ModelError(f"{model.path} is not the published file (its SHA-256 differs): install restonnx again")
    return True


def _probe(model: ModelFile, side: int) -> dict[str, np.ndarray[Any, Any]]:
    """Fixed feeds for one tile of side x side pixels: a ramp from black to white, noise of seed 0."""
    from restonnx import noise

    meta = model.metadata
    low, high = meta.range
    whole = meta.noise_window(slice(0, side), slice(0, side))
    ramp = np.linspace(low, high, side, dtype=np.float32)
    feeds: dict[str, np.ndarray[Any, Any]] = {
        "image": np.ascontiguousarray(np.broadcast_to(ramp, (1, meta.channels, side, side)))
    }
    if meta.sampler.draws:
        feeds["noise"] = noise.normal(0, meta.sampler.draws, meta.noise_channels, *whole)[None]
    for spec, tensor in zip(meta.inputs[len(feeds) :], model.inputs[len(feeds) :], strict=True):
        feeds[spec.name] = _neutral(spec, tensor, side * meta.scale if spec.role == "reference" else side)
    return feeds


def _neutral(spec: InputSpec, tensor: TensorInfo, side: int) -> np.ndarray[Any, Any]:
    """Values for an input beside image and noise; open sides of an image are `side`, other open lengths 1."""
    shape = tensor.shape or ()
    lengths = [
        length or (side if len(shape) == 4 and axis >= 2 and spec.role != "kernel" else 1)
        for axis, length in enumerate(shape)
    ]
    value = {"noise_level": 0.1, "reference": 0.5}.get(spec.role, 1.0)
    return np.full(lengths, value, np.float32)
