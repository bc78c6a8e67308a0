"""Stages in the pipelines that people have: rawpy, numpy, fast-openISP, Infinite-ISP."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from restonnx import arrays
from restonnx.errors import InputError
from restonnx.isp import cfa, libraw
from restonnx.isp.frame import Frame, FrameMeta, NoiseProfile, Pattern, pattern_of
from restonnx.isp.stage import Progress, Stage, apply

if TYPE_CHECKING:
    from restonnx.session import Cancel

Array = np.ndarray[Any, np.dtype[Any]]
Levels = float | tuple[float, float, float, float]


def inject(
    raw: Any,
    stage: Stage,
    *,
    noise: NoiseProfile | None = None,
    strength: float = 1.0,
    seed: int = 0,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Frame:
    """Restore the data of an open rawpy object in place, and give back the frame; `raw.postprocess` renders it then.

    Call it before `postprocess`, and pass that `adjust_maximum_thr=0.0`: by default LibRaw takes the brightest pixel
    of the frame for white, and a clean frame has less bright ones than a noisy one.
    noise: the frame's profile, where it is known; a rawpy object does not hold the tag of a DNG.
    Raises InputError for stages that need other data than the file holds: colours from a mosaic.
    """
    image, meta = libraw.frame_of(raw)
    given = Frame(image, _with_noise(meta, noise))
    restored = apply(given, stage, strength=strength, seed=seed, progress=progress, cancel=cancel)
    if restored.image.shape != image.shape:
        raise InputError(f"the stage makes images {stage.scale} times as large, which do not fit into the rawpy object")
    if restored is not given:
        libraw.replace_pixels(raw, restored)
    return restored


def restore_mosaic(
    mosaic: Any,
    stage: Stage,
    *,
    white: Levels,
    black: Levels = 0.0,
    pattern: str | Pattern = "RGGB",
    noise: NoiseProfile | None = None,
    strength: float = 1.0,
    seed: int = 0,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Array:
    """A mosaic (rows, columns) of integers or floats, restored: a new array of the same shape, dtype and levels.

    pattern: "RGGB", "BGGR", "GRBG" or "GBRG", from the first pixel on, or a nested tuple of 0, 1, 2 (6x6 for X-Trans).
    black, white: the numbers for no light and saturation; four of them go for the places of the pattern row by row.
    noise: the frame's profile, else it is estimated.
    """
    values = np.asarray(arrays.as_array(mosaic))
    if values.ndim != 2 or values.dtype.kind not in "iuf":
        raise InputError(f"a mosaic is an array of numbers (rows, columns), not {values.dtype} of shape {values.shape}")
    low, high = (level if isinstance(level, tuple) else (float(level),) for level in (black, white))
    if not all(b < w for b, w in zip(np.ravel(low), np.broadcast_to(high, np.shape(low)), strict=True)):
        raise InputError(f"white must be above black, not {white} above {black}")
    form = pattern_of(pattern)
    meta = _with_noise(FrameMeta("cfa", form, low, high), noise)
    given = Frame(cfa.to_unit(values, form, low, high), meta)
    restored = apply(given, stage, strength=strength, seed=seed, progress=progress, cancel=cancel)
    if restored is given:
        return values.copy()
    numbers = cfa.in_numbers(restored.image, form, low, high)
    return np.asarray(arrays.to_dtype(numbers, values.dtype))


def openisp_module(
    stage: Stage, *, black: Levels = 0.0, white: Levels | None = None, strength: float = 1.0, seed: int = 0
) -> type:
    """A class in the form of fast-openISP's modules: `module = Class(cfg)`, then `module.execute(data)` replaces
    data["bayer"].

    It is meant for the place after black level compensation, where black is 0 and white `cfg.saturation_values.hdr`;
    for another place give them. The pattern is `cfg.hardware.bayer_pattern`.
    """

    class Restoration:
        def __init__(self, cfg: Any) -> None:
            self.cfg = cfg
            self._pattern = str(_entry(_entry(cfg, "hardware"), "bayer_pattern"))
            self._white = white if white is not None else float(_entry(_entry(cfg, "saturation_values"), "hdr"))

        def execute(self, data: MutableMapping[str, Any]) -> None:
            options: dict[str, Any] = {"pattern": self._pattern, "black": black, "white": self._white}
            data["bayer"] = restore_mosaic(data["bayer"], stage, **options, strength=strength, seed=seed)

    return Restoration


def infinite_isp_module(
    stage: Stage, *, black: Levels = 0.0, white: Levels | None = None, strength: float = 1.0, seed: int = 0
) -> type:
    """A class in the form of Infinite-ISP's BayerNoiseReduction: `Class(img, sensor_info, parm, platform).execute()`
    gives the restored mosaic.

    It stands after black level correction: black is 0, white 2**bit_depth - 1 of `sensor_info`, unless given. Nothing
    happens where `parm["is_enable"]` is false.
    """

    class Restoration:
        def __init__(self, img: Any, sensor_info: Any, parm: Any = None, platform: Any = None) -> None:
            self.img, self.platform = img, platform
            self.enable = parm is None or bool(parm.get("is_enable", True))
            self._pattern = str(sensor_info["bayer_pattern"])
            self._white = white if white is not None else float(2 ** int(sensor_info["bit_depth"]) - 1)

        def execute(self) -> Any:
            if self.enable:
                options: dict[str, Any] = {"pattern": self._pattern, "black": black, "white": self._white}
                self.img = restore_mosaic(self.img, stage, **options, strength=strength, seed=seed)
            return self.img

    return Restoration


def _with_noise(meta: FrameMeta, noise: NoiseProfile | None) -> FrameMeta:
    return meta if noise is None else replace(meta, noise=noise)


def _entry(config: Any, name: str) -> Any:
    """Of a configuration with attributes or keys."""
    try:
        return getattr(config, name) if hasattr(config, name) else config[name]
    except (KeyError, TypeError):
        raise InputError(f"the configuration has no {name}, which the module needs") from None
