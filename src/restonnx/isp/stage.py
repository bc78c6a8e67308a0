"""A stage of a pipeline, and applying one to a frame of another domain where nothing is lost by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from restonnx.errors import InputError
from restonnx.isp import colors
from restonnx.isp.frame import DOMAINS, Domain, Floats, Frame, FrameMeta, checked, pattern_name
from restonnx.isp.strips import by_rows
from restonnx.session import Cancel, check_cancelled

Progress = Callable[[int, int], object]


class Stage(Protocol):
    """What can stand in a pipeline: anything that is called like this, with the two attributes.

    The image is float32, as `Frame.image`, and read-only; the result is a new one, `scale` times as large, finite,
    in the same domain. Negative values and those above 1 are meant and should survive. The same seed gives the same
    result; strength 0 gives the image back.
    """

    @property
    def domain(self) -> Domain:
        """Where the stage stands."""
        ...

    @property
    def scale(self) -> int:
        """Side of the result over the side of the image; more than 1 for colour images only."""
        ...

    def __call__(
        self,
        image: Floats,
        *,
        meta: FrameMeta,
        strength: float = 1.0,
        seed: int = 0,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> Floats: ...


def apply(
    frame: Frame,
    stage: Stage,
    *,
    strength: float = 1.0,
    seed: int = 0,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Frame:
    """The frame after the stage, in the frame's own domain: the very same one where the stage changed nothing.

    Domains are converted where that loses nothing: between the camera's colours, linear and display RGB by matrices
    and a transfer function without clipping, and from a monochrome sensor to colours and back. Pixels that the stage
    leaves alone keep their very values. The noise profile of a frame that was changed is unknown: None.
    Raises InputError for a stage of a domain that cannot be reached, such as colours from a mosaic, and for a result
    of another shape or with values that are not finite.
    """
    options: dict[str, Any] = {"strength": strength, "seed": seed, "progress": progress}
    return apply_placed(frame, placed(stage, frame.meta), cancel=cancel, **options)


def apply_placed(frame: Frame, stage: Stage, *, cancel: Cancel | None = None, **options: Any) -> Frame:
    """`apply` of a stage that was placed already: by the file's own frame, whose mosaic may be gone by now.

    options: what else the stage is called with.
    """
    given = convert(checked(frame), stage.domain)
    image = given.image.view()
    image.flags.writeable = False
    result = stage(image, meta=given.meta, cancel=cancel, **options)
    check_cancelled(cancel)
    result = _checked_result(result, image.shape, stage)
    if result.shape == image.shape and np.array_equal(result, image):
        return frame
    back = _back(Frame(result, given.meta), frame.meta)
    if given.meta.domain != frame.meta.domain and back.shape == frame.image.shape:
        same = (result == image).all(axis=-1, keepdims=back.ndim == 3)
        np.copyto(back, frame.image, where=same)
    meta = replace(frame.meta, noise=None)
    if stage.scale > 1:
        meta = replace(meta, active_area=(0, 0, *back.shape[:2]))
    return Frame(np.ascontiguousarray(back, np.float32), meta)


def convert(frame: Frame, domain: Domain) -> Frame:
    """The frame in another domain, where nothing is lost by it. Raises InputError where it would be."""
    meta = frame.meta
    if meta.domain == domain:
        return frame
    if domain not in DOMAINS:
        raise InputError(f"a stage's domain is one of {', '.join(DOMAINS)}, not {domain!r}")
    if meta.cfa is not None and not meta.is_monochrome:
        raise InputError(
            f"a {pattern_name(meta.cfa)} mosaic must be demosaicked before a stage of {domain}: "
            "restonnx.isp.develop does so, or demosaic it first"
        )
    if domain == "cfa":
        raise InputError(f"a stage on the mosaic (cfa) cannot follow demosaicking; this frame is {meta.domain}")
    image = np.repeat(frame.image[..., None], 3, axis=-1) if meta.cfa is not None else frame.image
    matrix = _between(meta, domain)

    def there(pixels: Floats) -> Floats:
        linear = _decoded(pixels, meta)
        linear = linear if matrix is None else _multiplied(linear, matrix)
        return colors.encode(linear) if domain == "display_rgb" else linear

    space = "camera" if domain == "camera_rgb" else "srgb"
    changed = replace(
        meta,
        domain=domain,
        cfa=None,
        color_space=space,
        transfer="srgb" if domain == "display_rgb" else "linear",
        noise=None,
        wb_applied=domain != "camera_rgb" or (meta.wb_applied and meta.domain == "camera_rgb"),
    )
    return Frame(by_rows(there, image), changed)


def camera_values(image: Floats, meta: FrameMeta) -> Floats:
    """The pixels on the sensor's own scale, on which 1 is saturation, whatever their linear domain."""
    if meta.domain != "linear_rgb" or meta.color_space != "srgb":
        return image
    return _multiplied(image, np.linalg.inv(colors.camera_matrix(replace(meta, wb_applied=False))))


def _back(frame: Frame, meta: FrameMeta) -> Floats:
    """The inverse of `convert`, to the domain of `meta`."""
    if meta.domain == frame.meta.domain:
        return frame.image
    matrix = _between(meta, frame.meta.domain)

    def here(pixels: Floats) -> Floats:
        image = _decoded(pixels, frame.meta)
        image = image if matrix is None else _multiplied(image, np.linalg.inv(matrix))
        if meta.cfa is not None:
            image = image.mean(axis=-1, dtype=np.float32)
        return colors.encode(image, meta.transfer) if meta.domain == "display_rgb" else image

    shape = frame.image.shape if meta.cfa is None else frame.image.shape[:2]
    return by_rows(here, frame.image, out=np.empty(shape, np.float32))


def _between(meta: FrameMeta, domain: Domain) -> Any:
    """The matrix from a frame's linear colours to those of another domain (sRGB's primaries); None where it is 1."""
    ours = np.eye(3)
    if meta.domain == "camera_rgb":
        ours = colors.camera_matrix(meta)
    elif meta.color_space in colors.SPACES and meta.color_space != "srgb":
        ours = np.linalg.inv(colors.to_xyz("srgb")) @ _to_d65(meta.color_space)
    theirs = colors.camera_matrix(replace(meta, wb_applied=False)) if domain == "camera_rgb" else np.eye(3)
    matrix = np.linalg.inv(theirs) @ ours
    return None if np.allclose(matrix, np.eye(3), atol=1e-9) else matrix


def _to_d65(name: str) -> Any:
    matrix = colors.to_xyz(name)
    return colors.adapted(matrix, matrix.sum(axis=1), colors.to_xyz("srgb").sum(axis=1))


def _decoded(image: Floats, meta: FrameMeta) -> Floats:
    return image if meta.transfer == "linear" else colors.decode(image, meta.transfer)


def _multiplied(image: Floats, matrix: Any) -> Floats:
    result: Floats = (image @ np.asarray(matrix).T.astype(np.float32)).astype(np.float32, copy=False)
    return result


def _checked_result(result: Any, shape: tuple[int, ...], stage: Stage) -> Floats:
    wanted = (shape[0] * stage.scale, shape[1] * stage.scale, *shape[2:])
    result = np.asarray(result)
    if result.shape != wanted:
        raise InputError(f"the stage {name_of(stage)} gave an image of shape {result.shape}; it should be {wanted}")
    if result.dtype.kind not in "f" or not np.isfinite(result).all():
        raise InputError(f"the stage {name_of(stage)} gave {result.dtype} values that are not all finite numbers")
    floats: Floats = result.astype(np.float32, copy=False)
    return floats


def placed(stage: Stage, meta: FrameMeta) -> Stage:
    """The stage for this kind of frame: those that may stand at several places have a method `placed` to choose."""
    choose = getattr(stage, "placed", None)
    chosen: Stage = stage if choose is None else choose(meta)
    return chosen


def name_of(stage: Stage) -> str:
    """How a file's software tag calls the stage: its own `name`, else that of the function or class."""
    own = getattr(stage, "name", None) or getattr(stage, "__name__", None)
    return str(own or type(stage).__name__)
