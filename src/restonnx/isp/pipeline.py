"""develop(): a RAW file through stages of restoration to a picture or a DNG, with LibRaw before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from restonnx.errors import InputError
from restonnx.isp import cfa, colors, dng, dng_tags, exif, libraw
from restonnx.isp.frame import DOMAINS, Frame, FrameMeta
from restonnx.isp.noise_profiles import estimate
from restonnx.isp.stage import Progress, Stage, apply_placed, name_of, placed
from restonnx.isp.strips import strips
from restonnx.session import Cancel, check_cancelled

if TYPE_CHECKING:
    from restonnx.images import Picture

Form = Literal["tiff", "png", "dng"]
SUFFIXES: dict[str, Form] = {".tif": "tiff", ".tiff": "tiff", ".png": "png", ".dng": "dng"}


@dataclass(frozen=True)
class Rendering:
    """How LibRaw makes a picture of a frame."""

    color_space: str = "srgb"
    """srgb, display-p3, rec2020 or prophoto."""
    exposure: float = 0.0
    """In stops."""
    demosaic: str = "AHD"
    """AHD, LINEAR, VNG, PPG, DCB, DHT or AAHD."""

    def __post_init__(self) -> None:
        colors.space(self.color_space)
        if self.demosaic not in libraw.DEMOSAIC:
            raise InputError(f"demosaic is one of {', '.join(libraw.DEMOSAIC)}, not {self.demosaic!r}")
        if not -10 <= self.exposure <= 10:
            raise InputError(f"exposure is in stops, from -10 to 10, not {self.exposure!r}")


def develop(
    path: str | Path,
    stages: Sequence[Stage] = (),
    output: str | Path | None = None,
    *,
    to: Form | None = None,
    rendering: Rendering | None = None,
    strength: float = 1.0,
    seed: int = 0,
    compression: dng.Compression = "lossless-jpeg",
    overwrite: bool = False,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Picture:
    """Develop a RAW file, with restoration on the way; the picture, 16 bits, with its profile and EXIF.

    Without stages, or with stages that change nothing, the pixels are exactly what LibRaw renders.

    stages: in the order of their domains: first those on the mosaic, then on linear colours, then on the picture.
    output: where to write it. A DNG holds the restored mosaic, or linear colours where a stage has worked on those
        or the file had no mosaic, and previews of the result; the picture that comes back is then turned as the sensor
        was, and in sRGB.
    to: the format, where the suffix of `output` does not say it.
    rendering: colour space, exposure and demosaicking of the picture.
    strength, seed: for every stage.
    compression: of a DNG, or "none".
    overwrite: replace an output that exists; the input is never replaced.
    progress: called as progress(done, total).
    Raises InputError for what cannot be read or written, and for stages in another order; ModelError, DeviceError and
    Cancelled as the stages do. Nothing half-written stays behind.
    """
    path, rendering = Path(path), rendering or Rendering()
    target = None if output is None else Path(output)
    form = _form(path, target, to, overwrite)
    if form == "dng":
        rendering = replace(rendering, color_space="srgb")
    with libraw.opened(path) as raw:
        frame = libraw.frame_of(raw, path)
        meta = frame.meta
        chain = [placed(stage, meta) for stage in stages]
        _check_order(chain, form)
        run = _Run(len(chain), strength, seed, progress, cancel)
        is_dng = target is not None and form == "dng"
        negative, fits = _restored(raw, frame, run, chain, rendering.demosaic, measure=is_dng)
        del frame  # large, and no longer needed
        pixels = _rendered(raw if fits else None, negative, rendering, upright=form != "dng")
        pixels = run.on_picture(pixels, meta, rendering, [s for s in chain if s.domain == "display_rgb"])
        picture = _picture(path, raw, pixels, meta, rendering, chain, upright=form != "dng")
        check_cancelled(cancel)
        if target is not None and is_dng:
            _write_dng(target, negative, picture, chain, compression, overwrite)
    if target is not None and not is_dng:
        _write_picture(target, picture, chain, form, overwrite)
    return picture


class _Run:
    """What all stages are called with, and the progress over all of them."""

    def __init__(
        self, stages: int, strength: float, seed: int, progress: Progress | None, cancel: Cancel | None
    ) -> None:
        self._options: dict[str, Any] = {"strength": strength, "seed": seed, "cancel": cancel}
        self._count, self._done, self._progress = stages, 0, progress

    def all(self, frame: Frame, stages: Sequence[Stage]) -> Frame:
        for stage in stages:
            frame = apply_placed(frame, stage, progress=self._report, **self._options)
            self._done += 1
        return frame

    def on_picture(self, pixels: Any, meta: FrameMeta, rendering: Rendering, stages: Sequence[Stage]) -> Any:
        if not stages:
            return pixels
        space = rendering.color_space
        image = pixels.astype(np.float32) / np.float32(65535)
        described = replace(meta, domain="display_rgb", cfa=None, color_space=space, transfer=space, wb_applied=True)
        seen = Frame(image, replace(described, noise=None, orientation=1))
        done = self.all(seen, stages)
        return pixels if done is seen else np.rint(np.clip(done.image, 0, 1) * 65535).astype(np.uint16)

    def _report(self, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(self._done * total + done, self._count * total)


def _form(path: Path, target: Path | None, to: Form | None, overwrite: bool) -> Form | None:
    """The format, and everything that can be refused before any work."""
    suffix = None if target is None else SUFFIXES.get(target.suffix.lower())
    if to is not None and to not in SUFFIXES.values():
        raise InputError(f"a file is written as tiff, png or dng, not {to!r}")
    if target is None:
        return to
    if suffix is None or (to is not None and suffix != to):
        wanted = "|".join(name for name, form in SUFFIXES.items() if to in (None, form))
        raise InputError(f"{target} has another suffix than {wanted}; rename it")
    if target.exists():
        if path.exists() and target.samefile(path):
            raise InputError(f"{target} is the input, which is never overwritten; choose another name")
        if not overwrite:
            raise InputError(f"{target} exists already; choose another name or allow overwriting")
    return suffix


def _check_order(stages: Sequence[Stage], form: Form | None) -> None:
    places = [DOMAINS.index(stage.domain) for stage in stages]
    for before, after in pairwise(stages):
        back = DOMAINS.index(after.domain) < DOMAINS.index(before.domain)
        if back and (after.domain == "cfa" or before.domain == "display_rgb"):  # linear colours lead to each other
            raise InputError(f"a stage of {after.domain} comes after one of {before.domain}; the order is {DOMAINS}")
    if form == "dng" and places and max(places) == DOMAINS.index("display_rgb"):
        raise InputError("a DNG holds no display image: place the stage at linear_rgb, or write a TIFF or PNG")


def _restored(
    raw: Any, frame: Frame, run: _Run, stages: Sequence[Stage], demosaic: str, *, measure: bool
) -> tuple[dng.Negative, bool]:
    """The DNG of the frame after its stages, and whether LibRaw holds just that, which it does where it fits.

    measure: whether to look for the noise that is left.
    """
    restored = run.all(frame, [stage for stage in stages if stage.domain == "cfa"])
    coloured = [stage for stage in stages if stage.domain in ("camera_rgb", "linear_rgb")]
    begun = restored
    if coloured and frame.meta.cfa is not None and not frame.meta.is_monochrome:
        begun = _colours(restored, demosaic)
    done = run.all(begun, coloured)
    if done is not begun:
        restored = done
    fits = restored.image.shape == frame.image.shape
    if fits and restored is not frame:
        libraw.replace_pixels(raw, restored)
    noise = _noise_of(restored) if measure else None
    return replace(_negative(raw if fits else None, restored, frame), noise=noise), fits


def _colours(mosaic: Frame, demosaic: str) -> Frame:
    """Demosaicked in a LibRaw of its own: what that takes for it, it gives back only when it is closed."""
    with libraw.opened(str(mosaic.meta.source)) as raw:
        libraw.replace_pixels(raw, mosaic)
        colours = libraw.demosaicked(raw, mosaic.meta, demosaic=demosaic)
    # Only on the mosaic the noise can be told; of what it becomes in its colours models know by training.
    return colours._replace(meta=replace(colours.meta, noise=_noise_of(mosaic)))


def _negative(raw: Any, restored: Frame, frame: Frame) -> dng.Negative:
    """The DNG of a restored frame: of the array that LibRaw holds, or without it of the frame's own linear colours."""
    source = dng_tags.read(Path(str(frame.meta.source)))
    if raw is not None:
        border = raw.raw_image if raw.raw_image.ndim == 2 else libraw.visible(raw)
        meta = restored.meta
        if raw.raw_image.ndim == 3:
            meta = replace(meta, active_area=(0, 0, *border.shape[:2]))
        return dng.Negative(border, meta, float(raw.white_level), source=source)
    meta = replace(restored.meta, black=(0.0,), white=(65535.0,))
    pixels = cfa.from_unit(restored.image, meta.cfa, meta.black, meta.white)
    same = restored.image.shape[:2] == frame.image.shape[:2]
    return dng.Negative(pixels, meta, 65535.0, source=source, same_geometry=same)


def _rendered(raw: Any, negative: dng.Negative, rendering: Rendering, *, upright: bool) -> Any:
    """LibRaw's picture of what it holds, or without it of the DNG."""
    if raw is None:
        with libraw.opened_bytes(dng.to_bytes(negative)) as loose:
            return _rendered(loose, negative, rendering, upright=upright)
    form: dict[str, Any] = {"exposure": rendering.exposure, "demosaic": rendering.demosaic, "upright": upright}
    return libraw.render(raw, rendering.color_space, **form)


def _picture(
    path: Path, raw: Any, pixels: Any, meta: FrameMeta, rendering: Rendering, stages: Sequence[Stage], upright: bool
) -> Picture:
    from restonnx.images import Picture

    known = exif.finished(exif.read(path, raw), _software(stages), 1 if upright else meta.orientation)
    return Picture(pixels, "YXS", icc=colors.icc_profile(rendering.color_space), exif=known)


def _write_dng(
    target: Path,
    negative: dng.Negative,
    picture: Picture,
    stages: Sequence[Stage],
    compression: dng.Compression,
    overwrite: bool,
) -> None:
    from restonnx.files import explained, replaced
    from restonnx.images.picture import to_depth

    preview = np.empty(picture.pixels.shape, np.uint8)
    for rows in strips(preview):
        preview[rows] = to_depth(picture.pixels[rows], np.uint8)
    whole = replace(
        negative,
        preview=preview,
        exif=picture.exif,
        software=_software(stages),
    )
    with explained(target, "write"), replaced(target, overwrite=overwrite) as temporary:
        dng.write(temporary, whole, compression=compression)


def _noise_of(frame: Frame) -> Any:
    """What a reader of the DNG needs to know of the noise that is left; None where it cannot be said."""
    if frame.meta.noise is not None:
        return frame.meta.noise
    try:
        return estimate(frame)
    except InputError:
        return None


def _write_picture(target: Path, picture: Picture, stages: Sequence[Stage], form: Form | None, overwrite: bool) -> None:
    from restonnx import images
    from restonnx.images.tiff import TiffDetails

    native = TiffDetails(software=_software(stages)) if form == "tiff" else None
    images.write(target, replace(picture, native=native), overwrite=overwrite)


def _software(stages: Sequence[Stage]) -> str:
    """Such as "restonnx 0.1.0: raw-denoise 1.0 on cfa"."""
    try:
        program = f"restonnx {version('restonnx')}"
    except PackageNotFoundError:  # a source tree on the path, not installed
        program = "restonnx"
    done = ", ".join(f"{name_of(stage)} on {stage.domain}" for stage in stages)
    return f"{program}: {done}" if done else program
