"""RAW files through LibRaw (rawpy): opened with clear errors, described, demosaicked, rendered.

Three habits of LibRaw that this module keeps from its callers: an array of a closed file reads freed memory, so
pixels are copied; the pattern changes with the first rendering, so it is taken before; and the frame's own maximum
counts as white unless `adjust_maximum_thr` is 0, so that a cleaner frame would come out brighter.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from restonnx.errors import InputError
from restonnx.files import explained
from restonnx.isp import cfa, colors, dng_tags, transcode
from restonnx.isp.frame import MONOCHROME, Frame, FrameMeta, Matrix, Pattern

FOVEON = b"FOVb"
FLIPS = {0: 1, 3: 3, 5: 8, 6: 6}
"""LibRaw's number for the camera's position -> EXIF's orientation."""
PEDESTAL = 1 / 16
"""What a mosaic is lifted by to be demosaicked, of the way from black to saturation; more than noise goes below."""
DEMOSAIC = ("AHD", "LINEAR", "VNG", "PPG", "DCB", "DHT", "AAHD")
"""The algorithms of the LibRaw in rawpy's wheels."""


def read_raw(path: str | Path) -> Frame:
    """The sensor's data of any RAW file that LibRaw opens, and DNGs with other compressions that tifffile reads.

    Bayer, X-Trans and monochrome files give a frame of the domain cfa, linear DNGs one of camera_rgb; its visible part,
    unrotated. Raises InputError, in one line, for what is missing, empty, cut off, no RAW or not supported.
    """
    with opened(path) as raw:
        return frame_of(raw, path)


@contextmanager
def opened(path: str | Path) -> Iterator[Any]:
    """The file as a rawpy object, unpacked; its arrays are valid inside only. Raises InputError."""
    import rawpy

    path = Path(path)
    with explained(path, "read"):
        with path.open("rb") as file:
            start = file.read(16)
        if not start:
            raise InputError(f"{path} is empty; copy it again from where it came from")
        if start.startswith(FOVEON):
            raise InputError(f"{path} comes from a Foveon sensor, which is not supported; convert it to a linear DNG")
        dng_tags.check_complete(path)
        try:
            try:
                raw = _unpacked(str(path))
            except rawpy.LibRawFileUnsupportedError:
                raw = _unpacked(io.BytesIO(transcode.to_plain_dng(path)))
        except rawpy.LibRawError as error:
            reason = str(error.args[0].decode() if isinstance(error.args[0], bytes) else error)
            raise InputError(
                f"{path} cannot be read by LibRaw ({reason}): it is damaged, encrypted or cut off; copy it again"
            ) from error
    try:
        yield raw
    finally:
        raw.close()


@contextmanager
def opened_bytes(content: bytes) -> Iterator[Any]:
    """A DNG in memory, as `opened`."""
    raw = _unpacked(io.BytesIO(content))
    try:
        yield raw
    finally:
        raw.close()


def frame_of(raw: Any, path: str | Path | None = None) -> Frame:
    """The frame of a rawpy object that was not rendered yet. path: its file, where DNG tags and the name come from."""
    meta = describe(raw, path)
    pixels = visible(raw)
    image = cfa.to_unit(pixels, meta.cfa, meta.black, meta.white)
    return Frame(image, meta)


def describe(raw: Any, path: str | Path | None = None) -> FrameMeta:
    """What LibRaw and the DNG's tags say of a file that was not rendered yet. Raises InputError."""
    tags = None if path is None else dng_tags.read(Path(path))
    pattern, sites = _pattern(raw, path)
    black, white = _levels(raw, sites)
    sizes = raw.sizes
    area = (sizes.top_margin, sizes.left_margin, sizes.top_margin + sizes.height, sizes.left_margin + sizes.width)
    other, noise_colours = raw.other, 1 if pattern == MONOCHROME else 3
    names = [] if tags is None else [tags.first[code].value for code in (271, 272) if code in tags.first]
    return FrameMeta(
        domain="camera_rgb" if pattern is None else "cfa",
        cfa=pattern,
        black=black,
        white=white,
        wb=_white_balance(raw) if pattern != MONOCHROME else (1.0, 1.0, 1.0),
        xyz_to_cam=_xyz_to_cam(raw, tags) if pattern != MONOCHROME else None,
        noise=None if tags is None else dng_tags.noise_profile(tags, noise_colours),
        iso=float(other.iso_speed) or None,
        exposure_time=float(other.shutter_speed) or None,
        orientation=FLIPS.get(sizes.flip, 1),
        active_area=area,
        camera=_named(names),
        source=None if path is None else str(path),
    )


def visible(raw: Any) -> Any:
    """A view of the image without its masked border, uint16: (H, W), or (H, W, 3) of a linear DNG. Valid while open."""
    image = raw.raw_image_visible
    if image.ndim == 3:
        return image[..., :3]
    return image[: raw.sizes.height, : raw.sizes.width]


def replace_pixels(raw: Any, frame: Frame) -> None:
    """Put a frame of the same form back into LibRaw, which renders it from then on; the masked border stays."""
    meta = frame.meta
    visible(raw)[...] = cfa.from_unit(frame.image, meta.cfa, meta.black, meta.white)


def render(raw: Any, space: str = "srgb", *, exposure: float = 0.0, demosaic: str = "AHD", upright: bool = True) -> Any:
    """LibRaw's picture of a file: (H, W, 3) uint16 in the colour space `space`, white balance as shot.

    exposure: in stops.  upright: False leaves it turned as the sensor was.
    Nothing in it depends on the picture: the same settings give a restored frame the brightness
    of its source.
    """
    import rawpy

    form = colors.space(space)
    options: dict[str, Any] = {"output_color": rawpy.ColorSpace[form.libraw], "gamma": form.libraw_gamma}
    if not upright:
        options["user_flip"] = 0
    picture = _postprocess(raw, demosaic, bright=2.0**exposure, **options)
    return np.repeat(picture, 3, axis=-1) if picture.shape[-1] == 1 else picture


def demosaicked(raw: Any, meta: FrameMeta, *, demosaic: str = "AHD") -> Frame:
    """The frame of the domain camera_rgb that LibRaw's demosaicking makes of a Bayer or X-Trans file.

    It works on balanced colours, whose edges agree, without clipping one channel before the others; the balance is
    taken off again. Noise below black, which LibRaw would cut off, is kept: the mosaic is lifted before and the colours
    let down after.
    """
    import rawpy

    options: dict[str, Any] = {"highlight_mode": rawpy.HighlightMode.Ignore, "gamma": (1, 1), "user_flip": 0}
    with _lifted(raw, meta) as (white, foot):
        pixels = _postprocess(raw, demosaic, output_color=rawpy.ColorSpace.raw, user_sat=white, **options)
    gains = np.array(meta.wb, np.float32)
    image = pixels.astype(np.float32)
    image /= np.float32(65535)
    image /= gains / gains.max()
    image -= np.float32(foot)
    image /= np.float32(1 - foot)
    image[pixels == 0] = 0  # edges that LibRaw leaves empty; nothing else lies so far below black
    described = replace(
        meta,
        domain="camera_rgb",
        cfa=None,
        black=(0.0,),
        white=(65535.0,),
        noise=None,
        active_area=(0, 0, *image.shape[:2]),
    )
    return Frame(np.ascontiguousarray(image), described)


@contextmanager
def _lifted(raw: Any, meta: FrameMeta) -> Iterator[tuple[int, float]]:
    """The mosaic inside LibRaw on a pedestal for a while: its white over black, and the pedestal's share of that.

    The numbers are multiplied by a whole number where 16 bits have room, so that nothing of them is lost by rounding.
    """
    pixels = visible(raw)
    before, black = pixels.copy(), cfa.spread(meta.black, meta.cfa)
    span = float(raw.white_level) - min(raw.black_level_per_channel)  # what LibRaw takes for 1
    gain = (65535 - float(black.max())) / (1 + PEDESTAL) / span
    gain = float(int(gain)) if gain >= 1 else gain
    foot = round(PEDESTAL * span * gain)
    try:
        for n, (_, where) in enumerate(cfa.sites(meta.cfa or MONOCHROME)):
            level = np.float32(black.flat[n])
            lifted = (before[where].astype(np.float32) - level) * np.float32(gain) + (level + foot)
            pixels[where] = np.clip(np.rint(lifted), 0, 65535)
        white = round(foot + span * gain)
        yield white, foot / white
    finally:
        pixels[...] = before


def _unpacked(file: str | io.BytesIO) -> Any:
    """The rawpy object with its pixels decoded, which otherwise happens, and fails, only when they are asked for."""
    import rawpy

    raw = rawpy.imread(file)
    try:
        raw.unpack()
    except rawpy.LibRawError:
        raw.close()
        raise
    return raw


def _postprocess(raw: Any, demosaic: str, **options: Any) -> Any:
    import rawpy

    if demosaic not in DEMOSAIC:
        raise InputError(f"demosaic is one of {', '.join(DEMOSAIC)}, not {demosaic!r}")
    try:
        return raw.postprocess(
            use_camera_wb=True,
            no_auto_bright=True,
            adjust_maximum_thr=0.0,
            output_bps=16,
            demosaic_algorithm=rawpy.DemosaicAlgorithm[demosaic],
            **options,
        )
    except rawpy.LibRawError as error:
        raise InputError(f"LibRaw cannot render this file ({error}); try another --demosaic") from error


def _named(make_and_model: list[Any]) -> str | None:
    """Models often begin with the make."""
    names = [str(name).strip() for name in make_and_model]
    if len(names) == 2 and names[1].startswith(names[0]):
        names = names[1:]
    return " ".join(names) or None


def _pattern(raw: Any, path: str | Path | None) -> tuple[Pattern | None, Any]:
    """The pattern at the first visible pixel, and LibRaw's numbers of its colours, where 3 is the other green."""
    if raw.raw_image.ndim == 3:
        return None, np.arange(3)
    if raw.num_colors == 1:
        return MONOCHROME, np.zeros((1, 1), np.int64)
    if raw.num_colors != 3 or bytes(raw.color_desc)[:3] != b"RGB":
        names = bytes(raw.color_desc).decode("latin-1")
        raise InputError(
            f"{path or 'the file'} has the colours {names}; only those with red, green and blue are supported"
        )
    period = 6 if len(raw.raw_pattern) == 6 else 2
    # Not raw_pattern, which for X-Trans begins elsewhere where the masked border is odd.
    numbers = np.array(raw.raw_colors_visible[:period, :period], np.int64)
    return tuple(tuple(1 if c == 3 else int(c) for c in row) for row in numbers), numbers


def _levels(raw: Any, sites: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Black and white of each site. LibRaw lists black by colour, not by place."""
    blacks = [float(level) for level in raw.black_level_per_channel]
    black = tuple(blacks[n] for n in sites.ravel())
    whole = float(raw.white_level)
    each = raw.camera_white_level_per_channel or [whole] * 4
    white = []
    for n, low in zip(sites.ravel(), black, strict=True):
        level = float(each[n])
        near = low + 0.5 * (whole - low) <= level <= 65535
        white.append(level if near else whole)
    if any(high <= low for low, high in zip(black, white, strict=True)):
        raise InputError(f"the file's white level {white} is not above its black level {black}; it is damaged")
    return black, tuple(white)


def _white_balance(raw: Any) -> tuple[float, float, float]:
    """As shot, else daylight, else none; relative to green."""
    for gains in (raw.camera_whitebalance, raw.daylight_whitebalance):
        red, green, blue = (float(gain) for gain in gains[:3])
        if all(np.isfinite(gain) and gain > 0 for gain in (red, green, blue)):
            return red / green, 1.0, blue / green
    return 1.0, 1.0, 1.0


def _xyz_to_cam(raw: Any, tags: dng_tags.DngTags | None) -> Matrix | None:
    """From the DNG's tags, else from LibRaw's table of cameras, else from what LibRaw makes of this picture."""
    found = None if tags is None else dng_tags.xyz_to_cam(tags)
    return (
        found
        or dng_tags.matrix_of(raw.rgb_xyz_matrix[:3])
        or _inverted(raw.color_matrix[:3, :3])
        or _matrix_in_use(raw)
    )


def _inverted(to_srgb: Any) -> Matrix | None:
    """What leads to the matrix from balanced camera colours to sRGB."""
    known = dng_tags.matrix_of(to_srgb)
    return None if known is None else dng_tags.matrix_of(np.linalg.inv(known) @ np.linalg.inv(colors.to_xyz("srgb")))


def _matrix_in_use(raw: Any) -> Matrix | None:
    """For a few old cameras LibRaw has a matrix that it does not tell: found by comparing what goes in and out."""
    import rawpy

    linear: dict[str, Any] = {"gamma": (1, 1), "highlight_mode": rawpy.HighlightMode.Ignore}
    spaces = (rawpy.ColorSpace.raw, rawpy.ColorSpace.sRGB)
    camera, srgb = (_postprocess(raw, "LINEAR", output_color=s, **linear).reshape(-1, 3).astype(float) for s in spaces)
    inside = ((srgb > 500) & (srgb < 65000) & (camera > 500) & (camera < 65000)).all(axis=1)
    if inside.sum() < 1000:
        return None
    matrix, _, rank, _ = np.linalg.lstsq(camera[inside], srgb[inside], rcond=None)
    if rank < 3:
        return None
    return _inverted(matrix.T)
