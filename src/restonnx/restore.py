"""The main path: any image through a model, tile by tile and sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from restonnx import arrays, noise, tiles
from restonnx.blend import Blend, touching
from restonnx.errors import InputError, ModelError
from restonnx.extra_inputs import MEANINGS, ExtraInputs
from restonnx.moments import Moments
from restonnx.pieces import Runner
from restonnx.region import region as part_of
from restonnx.session import LANES, Cancel, Session, check_cancelled
from restonnx.threads import ahead

if TYPE_CHECKING:
    from restonnx.model import Metadata, ModelFile, TileSpec

Array = np.ndarray[Any, np.dtype[Any]]
Floats = np.ndarray[Any, np.dtype[np.float32]]
Progress = Callable[[int, int], object]

RGB_DOMAINS = ("display_rgb", "linear_rgb", "camera_rgb")
BYTES_PER_PIXEL = 350.0
"""Working memory of a tile per pixel of the result, where the model's `measured` does not hold its own
"bytes_per_pixel": a little more than the shipped models take at most, but for those of `DCDP_BYTES_PER_PIXEL`."""
DCDP_BYTES_PER_PIXEL = 1000.0
"""The same of chains that alternate with data consistency, which were measured apart (docs/notes/speed.md)."""
MEMORY_SHARE = 0.25
"""Of the device's memory, free or not: the same machine then always cuts the same tiles."""


def load_model(name_or_path: str | Path) -> ModelFile:
    """The model of that name in the library, or the .onnx file at that path. Raises ModelError."""
    from restonnx import library

    return library.find(name_or_path)


def restore(
    image: Any,
    model: str | Path | ModelFile = "denoise",
    *,
    axes: str | None = None,
    strength: float = 1.0,
    seed: int = 0,
    samples: int = 1,
    return_std: bool = False,
    noise_level: float | Literal["estimate"] | None = None,
    mask: Any = None,
    kernel: Any = None,
    reference: Any = None,
    device: str = "auto",
    tile: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Any:
    """Restore an image or a stack of them.

    Returns an array of the same axes and dtype, floats as float32; with `return_std` a pair of arrays.

    image: numpy array, or dask, zarr, memmap and the like, which are read window by window.
    model: a name from `restonnx.models()`, the path of an .onnx file, or what `load_model` gave.
    axes: such as "YX", "YXC", "TCYX". Without it a last axis of 3 or 4 is colour, and what comes before rows
        and columns is a stack. Three channels C are colour for a model of colours wherever they stand; four are red,
        green, blue and alpha as S or as the last axis, and four planes elsewhere.
    strength: 0 returns the image as it was, 1 the restored one, what is between them the linear blend.
    seed: of the sampler's noise, which alone decides the result: not the tile, the device or the threads.
    samples: how many samples the result is the mean of. `return_std` gives their standard deviation as well,
        which is what the sampler is unsure of: float32 in the image's units, before `strength`, 0 for alpha. Where
        tiles fade into each other it is the blend of their deviations, which is theirs together if they agree.
    noise_level, mask, kernel, reference: each for models that take it, and then needed, but for a noise level that
        the model has a default for.
        noise_level: the standard deviation of the image's noise in the image's own values (such as 25 for uint8), or
            "estimate" to find it from each plane.
        mask: booleans or integers, nonzero where the image is to be restored; one of (rows, columns) for all planes, or
            one of the image's shape without colour.
        kernel: the point spread function, (rows, columns), both odd; it is scaled to a sum of 1.
        reference: another image of the same place, of the result's size; `restonnx.registration.aligned` brings one of
            another camera there. One of the image's dtype has the image's black and white, others have their own.
    device: "auto", "cpu", "cuda" or "cuda:N".
    tile: the side in pixels of a square that no tile exceeds in area, halo included; by default what the model prefers.
    progress: called as progress(done, total), from (0, total) to (total, total), in tiles times samples.
    cancel: anything with is_set(), such as a threading.Event; the run then ends within a second.
    Raises InputError, ModelError, DeviceError, Cancelled.
    """
    return Restorer(model, device=device, tile=tile)(
        image,
        axes=axes,
        strength=strength,
        seed=seed,
        samples=samples,
        return_std=return_std,
        noise_level=noise_level,
        mask=mask,
        kernel=kernel,
        reference=reference,
        progress=progress,
        cancel=cancel,
    )


class Restorer:
    """A model that is loaded once, for many images. Calling it takes the arguments of `restore`."""

    def __init__(
        self,
        model: str | Path | ModelFile = "denoise",
        *,
        device: str = "auto",
        tile: int | None = None,
        threads: int | None = None,
    ) -> None:
        """model, device, tile as in `restore`; threads: of the CPU, by default all physical cores."""
        self.model = load_model(model) if isinstance(model, (str, Path)) else model
        _refuse_other_models(self.metadata)
        self._session = Session(self.model, device=device, threads=threads)
        self.tile = _tile_side(self.metadata, tile, self._session.memory)
        self._runner = Runner(self._session, self.metadata)

    @property
    def metadata(self) -> Metadata:
        return self.model.metadata

    @property
    def provider(self) -> str:
        """The ONNX Runtime provider that really runs, such as "CUDAExecutionProvider"."""
        return self._session.provider

    @property
    def device(self) -> str:
        """ "cpu" or "cuda:N"."""
        return self._session.device

    @property
    def fallback(self) -> str | None:
        """Why "auto" runs on the CPU, in one line; None on CUDA, and where the CPU was asked for."""
        return self._session.fallback

    @property
    def computed(self) -> int:
        """Pixels of all tiles and samples so far, their halos among them."""
        return self._runner.computed

    @property
    def graph_seconds(self) -> float:
        """Time spent inside the model's graph so far, all images together."""
        return self._session.graph_seconds

    def __call__(
        self,
        image: Any,
        *,
        axes: str | None = None,
        strength: float = 1.0,
        seed: int = 0,
        samples: int = 1,
        return_std: bool = False,
        noise_level: float | Literal["estimate"] | None = None,
        mask: Any = None,
        kernel: Any = None,
        reference: Any = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        region: Sequence[slice] | None = None,
        scaling: arrays.Scaling | None = None,
        out: Any = None,
    ) -> Any:
        """As `restore`, and for images that are large or restored bit by bit:

        region: one slice for each axis of the image: only this part is restored and comes back, as it would be in the
            whole result.
        scaling: what `arrays.value_range` gave for this image, where it was asked already: it looks at all planes.
        out: an array of the result's shape and dtype to write to, such as one of zarr; with `return_std` a pair,
            the second of float32 zeros. A run that ends with an error leaves it half written.
        """
        meta, scale = self.metadata, self.metadata.scale
        _check_arguments(meta, strength, seed, samples, return_std)
        image = arrays.as_array(image)
        named_colour = True if axes is not None and meta.domain in RGB_DOMAINS else None
        layout = arrays.layout(image, axes, color=named_colour)
        scaling = (scaling or arrays.value_range(image, layout, meta.domain)).onto(*meta.range)
        given = {"noise_level": noise_level, "mask": mask, "kernel": kernel, "reference": reference}
        extra = ExtraInputs(meta, image, layout, scaling, given)
        # Where networks see whole tiles, those of a part must be those of the whole.
        context = meta.tile.halo if meta.tile.mode == "halo" else max(layout.height, layout.width)
        part = part_of(layout, region, context=context, multiple=meta.tile.multiple)
        plan, fade = self.plan(*part.inside)
        plan = touching(plan, *part.wanted, fade)
        pixels = image if region is None else image[part.where]
        out, std = _targets(pixels, part.layout, scale, return_std, out)
        if strength == 0 and std is None:  # exactly, which blends of float32 are not where integers have 32 bits
            _report(progress, 0, 1)
            for plane in part.layout.planes:
                check_cancelled(cancel)
                where = part.layout.index(plane, slice(None), slice(None))
                out[where] = np.asarray(pixels[where])
            _report(progress, 1, 1)
            return out
        floats = replace(layout, dtype=np.dtype("f4"))
        blend, blend_std = (Blend(plan, part.inside, fade=fade, scale=scale) for _ in range(2))

        tiled = [part.placed(tile) for tile in plan]
        places = [(number, plane, n) for number, plane in part.planes(layout) for n in range(len(tiled))]
        reading = (_read(image, layout, plane, tiled[n], extra) for _, plane, n in places)
        images = arrays.batch_size(layout.channels, meta.channels)
        drawing = (
            self._draw(seed, sample, images, number, tiled[n]) for number, _, n in places for sample in range(samples)
        )
        done, total = 0, len(places) * samples
        _report(progress, done, total)
        with closing(ahead(reading)) as windows, closing(ahead(drawing)) as noises:

            def jobs() -> Iterator[tuple[Floats, dict[str, Floats]]]:
                for degraded, further in windows:
                    feeds = {"image": arrays.to_channels(scaling.to_unit(degraded), meta.channels)} | further
                    yield from ((degraded, feeds | next(noises)) for _ in range(samples))

            with closing(self._runner.each(jobs(), total, cancel)) as results:
                for _, plane, n in places:
                    moments = Moments()
                    for _ in range(samples):
                        degraded, restored = next(results)
                        moments.add(scaling.from_unit(arrays.from_channels(restored, layout.channels)))
                        done += 1
                        _report(progress, done, total)
                    result = moments.mean
                    if strength < 1:
                        result = (1 - strength) * degraded + strength * result
                    if (target := part.target(plane, *blend.add(n, result), scale)) is not None:
                        arrays.write_window(out, layout, *target)
                    if (
                        std is not None
                        and (target := part.target(plane, *blend_std.add(n, moments.std), scale)) is not None
                    ):
                        arrays.write_window(std, floats, *target)
        check_cancelled(cancel)
        return out if std is None else (out, std)

    def run(
        self,
        images: Floats,
        further: Mapping[str, Floats] | None = None,
        *,
        seed: int = 0,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> Floats:
        """The network alone, for those who bring images to its values themselves; as `restore`, tile by tile.

        images: (N, C, H, W), C being the model's channels, in its range (`metadata.range`). Returns the same,
            `metadata.scale` times as large.
        further: by their names the graph's other inputs but for the noise, (N, ...); the same for all tiles.
        progress: called from (0, total) to (total, total), in tiles.
        """
        count, channels, scale = len(images), self.metadata.channels, self.metadata.scale
        size = images.shape[2], images.shape[3]
        plan, fade = self.plan(*size)
        beyond = [(0, -side % self.metadata.tile.multiple) for side in size]
        padded = np.pad(images, [(0, 0), (0, 0), *beyond], mode="symmetric") if np.any(beyond) else images
        blend = Blend(plan, size, fade=fade, scale=scale)
        out = np.empty((count * channels, size[0] * scale, size[1] * scale), np.float32)
        _report(progress, 0, len(plan))
        drawing = (self._draw(seed, 0, count, 0, tile) for tile in plan)
        with closing(ahead(drawing)) as noises:
            windows = (np.ascontiguousarray(padded[:, :, tile.rows, tile.cols]) for tile in plan)
            jobs = ((n, {"image": window, **(further or {}), **next(noises)}) for n, window in enumerate(windows))
            with closing(self._runner.each(jobs, len(plan), cancel)) as results:
                for number, restored in results:
                    (rows, cols), finished = blend.add(number, restored.reshape(-1, *restored.shape[2:]))
                    out[:, rows, cols] = finished
                    _report(progress, number + 1, len(plan))
        return out.reshape(count, channels, *out.shape[1:])

    def plan(self, height: int, width: int) -> tuple[tiles.TilePlan, int]:
        """The tiles of a plane, once it is padded at the bottom and on the right to whole multiples, and how wide they
        fade into each other."""
        rule = self.metadata.tile
        size = tiles.padded(height, rule.multiple), tiles.padded(width, rule.multiple)
        plan = tiles.plan(*size, tile=self.tile, halo=_halo(rule), multiple=rule.multiple, shrink=rule.mode == "halo")
        return plan, rule.halo if rule.mode == "overlap" else 0

    def _draw(self, seed: int, sample: int, images: int, plane: int, tile: tiles.Tile) -> dict[str, Floats]:
        """The input `noise` (N, K, C', H', W') of a window, N being `images`."""
        meta, draws = self.metadata, self.metadata.sampler.draws
        if draws == 0:
            return {}
        of_each = meta.noise_channels
        window = meta.noise_window(tile.rows, tile.cols)
        values = noise.normal(seed, draws, images * of_each, *window, plane=plane, sample=sample)
        values = values.reshape(draws, images, of_each, *values.shape[2:])
        return {"noise": np.ascontiguousarray(values.swapaxes(0, 1))}


def _read(
    image: Any, layout: arrays.Layout, plane: tuple[int, ...], tile: tiles.Tile, extra: ExtraInputs
) -> tuple[Floats, dict[str, Floats]]:
    """What the network needs of a tile: (C, H, W) in the image's values, and the further inputs."""
    return arrays.read_mirrored(image, layout, plane, tile.rows, tile.cols), extra.feeds(plane, tile)


def _targets(image: Any, layout: arrays.Layout, scale: int, with_std: bool, out: Any) -> tuple[Any, Any]:
    """The arrays for the result and, where it is wanted, its standard deviation: `out`, or new ones."""
    given, given_std = out if with_std and out is not None else (out, None)
    result = arrays.allocate(image, layout, scale, out=given)
    if not with_std:
        return result, None
    if given_std is None:
        return result, np.zeros(result.shape, np.float32)
    arrays.check_target(given_std, result.shape, np.dtype(np.float32))
    return result, given_std


def tile_within(meta: Metadata, budget: float) -> int:
    """The side of square tiles: what the model prefers, and more where its halo would cost much, but no more than that
    as many as may run at once take about `budget` bytes of working memory. Never less than the smallest tile that the
    model can do with."""
    typical = DCDP_BYTES_PER_PIXEL if meta.sampler.family == "dcdp" else BYTES_PER_PIXEL
    per_pixel = meta.measured.get("bytes_per_pixel", typical * meta.scale**2)
    rule = meta.tile
    # Networks that see whole tiles do best at one size.
    wanted = max(rule.preferred, tiles.worthwhile_tile(rule.halo)) if rule.mode == "halo" else rule.preferred
    return tiles.tile_for_budget(
        wanted, bytes_per_pixel=LANES * per_pixel, budget=budget, halo=_halo(rule), multiple=rule.multiple
    )


def _tile_side(meta: Metadata, tile: int | None, memory: int) -> int:
    rule = meta.tile
    if tile is None:
        return tile_within(meta, memory * MEMORY_SHARE)
    least = tiles.smallest_tile(_halo(rule), rule.multiple)
    if isinstance(tile, bool) or not isinstance(tile, (int, np.integer)) or tile < least:
        raise InputError(f"tile must be an integer of at least {least} pixels for {meta.name}, not {tile!r}")
    return int(tile)


def _halo(rule: TileSpec) -> int:
    """What a tile's core keeps from its inner borders; of tiles that fade into each other, half of what they share."""
    return -(-rule.halo // 2) if rule.mode == "overlap" else rule.halo


def _refuse_other_models(meta: Metadata) -> None:
    known = ("image", "noise", *MEANINGS)
    others = [f"{spec.name} ({spec.role})" for spec in meta.inputs if spec.role not in known]
    if others:
        raise ModelError(f"{meta.name} also needs {', '.join(others)}, which restore() does not give")


def _check_arguments(meta: Metadata, strength: Any, seed: int, samples: Any, return_std: bool) -> None:
    if meta.for_raw and meta.channels > 1:
        data = "packed mosaic" if meta.domain == "cfa" else "linear colours"
        raise ModelError(
            f"{meta.name} restores the {data} of a camera RAW file, not an image: use `restonnx develop`, or "
            "restonnx.isp from Python"
        )
    noise.check_seed(seed)
    if not isinstance(strength, (int, float, np.number)) or not 0 <= strength <= 1:
        raise InputError(f"strength must be from 0 to 1, not {strength!r}")
    if strength != 1 and meta.scale > 1:
        raise InputError(f"strength must be 1, as {meta.name} makes images {meta.scale} times as large")
    if isinstance(samples, bool) or not isinstance(samples, (int, np.integer)) or samples < 1:
        raise InputError(f"samples must be an integer of at least 1, not {samples!r}")
    if return_std and samples == 1:
        raise InputError("return_std needs samples of at least 2, not 1")
    if samples > 1 and meta.sampler.draws == 0:
        raise InputError(f"samples must be 1, as {meta.name} draws no noise: all samples would be equal")


def _report(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
