"""One run: a model, a source and settings in, arrays out; without Qt, in whatever thread calls it."""

from __future__ import annotations

import shutil
import tempfile
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restonnx import arrays
from restonnx.errors import InputError
from restonnx.plugin.catalogue import restores_file
from restonnx.plugin.settings import Settings, asked_for
from restonnx.plugin.source import Source
from restonnx.restore import Progress, Restorer, load_model, tile_within

if TYPE_CHECKING:
    from restonnx.model import Metadata
    from restonnx.registration import Registration
    from restonnx.session import Cancel

CHUNK = 512
"""Pixels; side of the chunks of a result on the disk."""


@dataclass(frozen=True)
class Job:
    """What is to be done. Nothing in it belongs to the viewer."""

    source: Source
    settings: Settings
    region: tuple[slice, ...] | None = None
    """One slice for each axis of the data; None: all of it."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """Arrays for the further inputs that come from layers, by role."""
    preview: bool = False

    @property
    def pixels(self) -> float:
        """Of all planes and samples."""
        spans = self.region or tuple(slice(0, n) for n in self.source.shape)
        return float(np.prod([span.stop - span.start for span in spans[: self.source.ndim]])) * self.settings.samples


@dataclass(frozen=True)
class Outcome:
    """What came out of it."""

    job: Job
    original: Any
    """The part of the input that was restored."""
    restored: Any
    """Of full strength: a numpy array, or one of zarr on the disk."""
    std: Any
    """The samples' standard deviation, float32 and without colour, or None."""
    metadata: Metadata
    sha256: str
    provider: str
    device: str
    """"cpu" or "cuda:N"."""
    fallback: str | None
    """Why it ran on the CPU although a GPU was wished for."""
    seconds: float
    computed: int
    """Pixels that went through the model, with the surroundings that tiles and previews need; all samples counted."""
    registration: Registration | None = None
    """Where the reference was found, if it had to be looked for."""

    @property
    def pixels_per_second(self) -> float:
        """Of the input, all samples counted."""
        return self.job.pixels / max(self.seconds, 1e-3)

    @property
    def computed_per_second(self) -> float:
        return self.computed / max(self.seconds, 1e-3)


class Engine:
    """Keeps the model of the last run, so that the next one starts at once. For one thread at a time."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] = ()
        self._restorer: Restorer | None = None
        self._scaled: tuple[Any, str, str, arrays.Scaling] | None = None
        self._registered: tuple[Any, Any, int, Any, Registration] | None = None

    def load(self, settings: Settings) -> Restorer:
        """The model on its device; kept until another one is asked for. Raises what `Restorer` raises."""
        model = load_model(settings.model)
        tile = tile_within(model.metadata, settings.memory_bytes)
        key = (model.path, model.path.stat().st_mtime_ns, settings.device, tile)
        if self._restorer is None or key != self._key:
            self._restorer = None  # frees its memory before the next one takes some
            self._restorer, self._key = Restorer(model, device=settings.device, tile=tile), key
        return self._restorer

    def release(self) -> None:
        """Give back the memory of the model, on a GPU above all."""
        self._restorer = self._scaled = self._registered = None

    def run(self, job: Job, progress: Progress | None = None, cancel: Cancel | None = None) -> Outcome:
        """Do the job. Raises what `Restorer` raises; nothing is left on the disk then."""
        restorer = self.load(job.settings)
        meta = restorer.metadata
        if meta.for_raw or restores_file(meta, job.source.raw_pattern):
            return _developed(job, restorer, progress, cancel)
        settings = job.settings.for_model(meta)
        source = job.source
        layout = arrays.layout(source.data, source.axes)
        scaling = self._scaling(source, layout, meta.domain, fresh=not job.preview)
        reference, registration = self._reference(job, layout, meta.scale, cancel)
        started, before = time.perf_counter(), restorer.computed
        out, holder = _room(job, settings, layout, meta.scale)
        try:
            result = restorer(
                source.data,
                axes=source.axes,
                seed=settings.seed,
                samples=settings.samples,
                return_std=settings.uncertainty,
                noise_level=settings.noise_level if "noise_level" in asked_for(meta) else None,
                mask=job.given.get("mask"),
                kernel=job.given.get("kernel"),
                reference=reference,
                progress=progress,
                cancel=cancel,
                region=job.region,
                scaling=scaling,
                out=out,
            )
        except BaseException:
            if holder is not None:
                shutil.rmtree(holder, ignore_errors=True)
            raise
        restored, std = result if settings.uncertainty else (result, None)
        if holder is not None:
            # The arrays live on in layers; the folder goes with the last of them, or with the program.
            keep = [restored] if std is None else [restored, std]
            _remove_with(holder, keep)
        cut = lazily(source.data) if job.region is None else source.data[job.region]
        return Outcome(
            job=job,
            original=np.asarray(cut) if job.preview else cut,
            restored=restored,
            std=None if std is None else without_colour(std, rgb=source.rgb),
            metadata=meta,
            sha256=restorer.model.sha256,
            provider=restorer.provider,
            device=restorer.device,
            fallback=restorer.fallback,
            seconds=time.perf_counter() - started,
            computed=restorer.computed - before,
            registration=registration,
        )

    def _reference(
        self, job: Job, layout: arrays.Layout, scale: int, cancel: Cancel | None
    ) -> tuple[Any, Registration | None]:
        """On the result's pixels: of a single image one of another size is registered, once for many previews."""
        reference, image = job.given.get("reference"), job.source.data
        size = arrays.result_shape(layout, scale)[:2]
        if reference is None or layout.plane_axes or tuple(reference.shape[:2]) == size:
            self._registered = None
            return reference, None
        kept = self._registered
        if kept is None or kept[0] is not image or kept[1] is not reference or kept[2] != scale or not job.preview:
            from restonnx.registration import aligned

            self._registered = None  # frees its memory before the next one takes some
            self._registered = kept = (image, reference, scale, *aligned(image, reference, scale=scale, cancel=cancel))
        return kept[3:]

    def _scaling(self, source: Source, layout: arrays.Layout, domain: str, *, fresh: bool) -> arrays.Scaling:
        """That of the whole layer, asked once for many previews: it looks at all planes."""
        kept = self._scaled
        if kept is None or fresh or kept[0] is not source.data or kept[1:3] != (domain, layout.axes):
            self._scaled = kept = (source.data, domain, layout.axes, arrays.value_range(source.data, layout, domain))
        return kept[3]


def _developed(job: Job, restorer: Restorer, progress: Progress | None, cancel: Cancel | None) -> Outcome:
    """The picture of a RAW file whose data were restored, as large as the layer that was developed without."""
    from restonnx import isp

    source = job.source
    if not source.raw:
        raise InputError(f'{restorer.metadata.name} restores RAW files; "{source.name}" was not developed from one')
    started, before = time.perf_counter(), restorer.computed
    stage = isp.RestorationStage(restorer)
    picture = isp.develop(source.raw, [stage], seed=job.settings.seed, progress=progress, cancel=cancel)
    pixels = picture.pixels if source.rgb else np.ascontiguousarray(picture.pixels[..., 0])
    if pixels.shape != tuple(source.data.shape):
        raise InputError(f'"{source.name}" is not the whole picture of {source.raw} any more; open the file again')
    return Outcome(
        job=job,
        original=source.data,
        restored=pixels,
        std=None,
        metadata=restorer.metadata,
        sha256=restorer.model.sha256,
        provider=restorer.provider,
        device=restorer.device,
        fallback=restorer.fallback,
        seconds=time.perf_counter() - started,
        computed=restorer.computed - before,
    )


def blended(original: Any, restored: Any, strength: float) -> Any:
    """What `restore` would give at that strength, without a run: (1 - strength) * original + strength * restored.

    At once for an image, and plane by plane as they are looked at for what is large or on the disk.
    """
    if strength == 1:
        return restored
    if is_small(restored):
        return _blend(np.asarray(original), restored, strength)
    first, second = (_dask().asarray(array) for array in (original, restored))
    # Chunks of the result, whatever those of the original are: each is read once for the two of them.
    return _dask().map_blocks(_blend, first.rechunk(second.chunks), second, strength, dtype=second.dtype)


def difference(original: Any, restored: Any, *, rgb: bool, scale: int, axes: tuple[int, int]) -> Any:
    """restored - original as float32, of colours their mean; the original's pixels are repeated `scale` times."""

    whole = np.asarray if is_small(restored) else _dask().asarray
    before, after = whole(original), whole(restored)
    for axis in axes if scale > 1 else ():
        before = before.repeat(scale, axis)
    off = after.astype(np.float32) - before.astype(np.float32)
    return off[..., :3].mean(-1) if rgb else off


def without_colour(std: Any, *, rgb: bool) -> Any:
    """The deviation of a pixel over its colours, root mean square; alpha has none."""
    if not rgb:
        return std
    return np.sqrt((lazily(std)[..., :3] ** 2).mean(-1))


def lazily(array: Any) -> Any:
    """An array of which a part is a view: numpy's as it is, one of zarr and the like through dask."""
    if isinstance(array, np.ndarray):
        return array
    return _dask().asarray(array)


def is_small(array: Any) -> bool:
    """Whether an array is quickly computed with as a whole: in memory and of at most four million values."""
    return isinstance(array, np.ndarray) and array.size <= 4_000_000


def _dask() -> Any:
    import dask.array

    return dask.array


def _blend(original: Any, restored: Any, strength: float) -> Any:
    mixed = (1 - np.float32(strength)) * original.astype(np.float32) + np.float32(strength) * restored
    return arrays.to_dtype(mixed, restored.dtype)


def _room(job: Job, settings: Settings, layout: arrays.Layout, scale: int) -> tuple[Any, Path | None]:
    """Arrays on the disk and the folder that holds them, for a result that is too large for the memory."""
    if job.region is not None:
        return None, None
    shape = arrays.result_shape(layout, scale)
    values = float(np.prod([float(n) for n in shape]))
    needed = values * (layout.result_dtype.itemsize + 4 * settings.uncertainty)
    if needed <= settings.memory_bytes:
        return None, None
    holder = Path(tempfile.mkdtemp(prefix="restonnx-"))
    if shutil.disk_usage(holder).free < needed:
        holder.rmdir()
        raise InputError(
            f"the result needs {needed / 1e9:.1f} GB, more than the memory it may take and more than is free in "
            f"{holder.parent}; restore the current plane alone, or set TMPDIR to a larger disk"
        )
    try:
        import zarr
    except ImportError:
        holder.rmdir()
        raise InputError(
            f"the result needs {needed / 1e9:.1f} GB, more than the memory it may take, and goes to the disk through "
            'zarr, which is not installed: pip install "restonnx[napari]"'
        ) from None

    spatial = (layout.y, layout.x)
    chunks = tuple(
        min(CHUNK, n) if axis in spatial else n if axis == layout.channel else 1 for axis, n in enumerate(shape)
    )
    dtypes = {"restored": layout.result_dtype, "std": np.dtype("f4")}
    made = [
        # Not compressed: a chunk is written once for each of the tiles that touch it.
        zarr.create_array(holder / name, shape=shape, chunks=chunks, dtype=dtype, compressors=None)
        for name, dtype in dtypes.items()
        if name == "restored" or settings.uncertainty
    ]
    return (tuple(made) if settings.uncertainty else made[0]), holder


def _remove_with(folder: Path, keepers: list[Any]) -> None:
    """Delete a folder once all of `keepers` are gone, at the latest when the program ends."""
    left = len(keepers)

    def gone() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            shutil.rmtree(folder, ignore_errors=True)

    for keeper in keepers:
        weakref.finalize(keeper, gone)
