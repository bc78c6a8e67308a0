"""Any model of the library as a stage of a RAW pipeline, at the place that its metadata names."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from restonnx import arrays
from restonnx.errors import InputError, ModelError
from restonnx.isp import cfa, colors
from restonnx.isp.frame import SATURATED, Domain, Floats, Frame, FrameMeta, NoiseProfile, pattern_name
from restonnx.isp.means import with_means_of
from restonnx.isp.noise_profiles import Table, noise_profile
from restonnx.isp.packed import restore_planes
from restonnx.isp.stabilise import KSigma, Stabiliser
from restonnx.isp.stage import Progress, camera_values
from restonnx.isp.strips import by_rows, strips
from restonnx.model import ModelFile
from restonnx.restore import Restorer

if TYPE_CHECKING:
    from restonnx.session import Cancel

Model = str | Path | ModelFile

FOR_RAW: tuple[str, ...] = ("raw-denoise", "linear-denoise", "denoise-gray")
"""The shipped models for camera files: the first that suits is taken."""
TARGET_MEAN = 0.18
"""Linear light that the mean of a dark frame is lifted to before a display-trained model: mid-grey."""
MOST_LIFT = 100.0
BRIGHT_PERCENTILE = 99.5
"""So many percent of the pixels stay within the display's range after the lift."""


class RestorationStage:
    """A model as a stage, loaded once and used for many frames.

    cfa: the Bayer mosaic packed and turned to RGGB, black subtracted, its noise made alike by the frame's profile. A
        model of four channels sees all planes at once; one of one channel, also a display model, plane by plane. A
        monochrome frame is one plane.
    camera_rgb: models trained on the sensor's linear colours see them as they are, or with the noise of the mosaic that
        they were made of alike everywhere.
    linear_rgb: models trained on linear colours see them as they are; display-trained ones, here or on the sensor's
        colours, through an invertible proxy: one exposure for the whole frame, sRGB's transfer function, and back.
        What lies above the display's white is added again afterwards.
    display_rgb: the picture as it will be seen.

    Pixels at or above 0.99 of saturation are returned as they were, and each colour keeps the mean of the others.
    """

    def __init__(
        self,
        model: Model | Restorer = "denoise",
        *,
        domain: Domain | None = None,
        noise: NoiseProfile | None = None,
        noise_table: Table | None = None,
        keep_means: bool = True,
        otherwise: Model | Sequence[Model] = (),
        device: str = "auto",
        tile: int | None = None,
    ) -> None:
        """model: a name, a path or what `load_model` gave, or a Restorer that has loaded it already.

        domain: where it stands; by default what its metadata names, for display models of three channels linear_rgb
            by the proxy, and for those of one the mosaic, or linear_rgb for frames without a Bayer mosaic.
        noise: the frame's noise profile, instead of what its file says or its pixels show.
        noise_table: for frames of which neither says anything, see `restonnx.isp.noise_profiles.from_table`.
        keep_means: False for models that are meant to change the brightness.
        otherwise: the model, or those in turn, that `develop` takes instead where this one does not suit: a packed one
            does not suit frames without a Bayer mosaic, one of the sensor's colours suits those of a mosaic of colours.
        device, tile: as in `restonnx.restore`; a Restorer has its own.
        Raises ModelError for a domain that the model cannot stand at.
        """
        self._restorer = model if isinstance(model, Restorer) else Restorer(model, device=device, tile=tile)
        self.metadata = self._restorer.metadata
        self.domain: Domain = _place(self.metadata.domain, self.metadata.channels, domain, self.metadata.name)
        self.scale = self.metadata.scale
        self.name = f"{self.metadata.name} {self.metadata.version}"
        self._is_free = domain is None
        self._noise, self._table, self._keep_means = noise, noise_table, keep_means
        given: dict[str, Any] = {"noise": noise, "noise_table": noise_table, "keep_means": keep_means}
        self._others = (otherwise,) if isinstance(otherwise, (str, Path, ModelFile)) else tuple(otherwise)
        self._next: RestorationStage | None = None
        self._settings = given | {"device": device, "tile": tile}

    def placed(self, meta: FrameMeta) -> RestorationStage:
        """The stage itself; or where no domain was asked for and this frame has no Bayer mosaic, the same model on
        linear colours, or another model that was named for such frames."""
        if self._others and not self._suits(meta):
            if self._next is None:
                self._next = RestorationStage(self._others[0], otherwise=self._others[1:], **self._settings)
            return self._next.placed(meta)
        on_mosaic = meta.is_bayer or meta.is_monochrome
        if not self._is_free or self.domain != "cfa" or on_mosaic or self.metadata.domain == "cfa":
            return self
        other = copy.copy(self)
        other.domain = "linear_rgb"
        return other

    def _suits(self, meta: FrameMeta) -> bool:
        if self.domain == "cfa" and self.metadata.channels > 1:
            return meta.is_bayer
        # Where every pixel measured all colours the noise is white, which a model of demosaicked noise leaves in part.
        return self.metadata.domain != "camera_rgb" or (meta.cfa is not None and not meta.is_monochrome)

    @property
    def restorer(self) -> Restorer:
        """The model that runs, and where it runs."""
        return self._restorer

    def __call__(
        self,
        image: Floats,
        *,
        meta: FrameMeta,
        strength: float = 1.0,
        seed: int = 0,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
    ) -> Floats:
        """The image restored; strength: 0 gives it back, between 0 and 1 a blend in the stage's domain.

        Raises InputError for a frame of another domain or without a noise profile where one is needed, ModelError
        where the model changes a colour's mean by more than half.
        """
        if meta.domain != self.domain:
            raise InputError(f"{self.name} stands at {self.domain}, but the frame is {meta.domain}; use apply()")
        if not 0 <= strength <= 1 or (strength != 1 and self.scale > 1):
            raise InputError(f"strength must be from 0 to 1, and 1 for models that enlarge, not {strength!r}")
        if strength == 0:
            return image.copy()
        run: dict[str, Any] = {"seed": seed, "progress": progress, "cancel": cancel}
        if self.domain == "cfa":
            restored = self._on_mosaic(image, meta, run)
        elif self.domain == "display_rgb":
            return _blended(image, self._restored(image, run), strength)
        elif self.metadata.domain in ("display_rgb", "display_gray"):
            restored = self._through_proxy(image, run)
        elif self.metadata.mosaic is not None:
            restored = self._stabilised(image.transpose(2, 0, 1), Frame(image, meta), run).transpose(1, 2, 0)
        else:
            restored = self._restored(image, run)
        if self.scale > 1:
            return restored
        bright = _saturated(image, meta)
        if self._keep_means:
            sensor = self.domain != "linear_rgb"
            restored = with_means_of(image, restored, ~bright, meta.cfa, self.name, offset=sensor)
        result = _blended(image, restored, strength)
        result[bright] = image[bright]
        return result

    def _on_mosaic(self, image: Floats, meta: FrameMeta, run: dict[str, Any]) -> Floats:
        pattern = meta.cfa
        if pattern is None or len(pattern) == 6:
            name = pattern_name(pattern)
            raise InputError(
                f"{self.name} restores Bayer mosaics, not {name}; use a model of linear_rgb or display_rgb"
            )
        planes = image[None] if meta.is_monochrome else cfa.pack(image, pattern)
        if self.metadata.channels > len(planes):
            raise InputError(f"{self.name} restores packed Bayer mosaics, not {pattern_name(pattern)}")
        back = self._stabilised(planes, Frame(image, meta), run)
        if meta.is_monochrome:
            one: Floats = back[0]
            return one
        return cfa.unpack(back, pattern, (image.shape[0], image.shape[1]))

    def _stabilised(self, planes: Floats, frame: Frame, run: dict[str, Any]) -> Floats:
        """The model on the planes (C, h, w) of a frame, in the reading that it was trained in."""
        readings = self._readings(frame)
        seen = np.empty(planes.shape, np.float32)
        for reading, plane, target in zip(readings, planes, seen, strict=True):
            by_rows(reading.forward, plane, out=target)
        level = readings[0].sigma if isinstance(readings[0], Stabiliser) else None
        restored = restore_planes(self._restorer, seen, noise_level=level, **run)
        for reading, plane in zip(readings, restored, strict=True):
            by_rows(reading.inverse, plane, out=plane)
        return restored

    def _readings(self, frame: Frame) -> list[KSigma | Stabiliser | Linear]:
        """What makes each plane what the model was trained on."""
        spec, meta = self.metadata.mosaic, frame.meta
        colours = (1,) if meta.is_monochrome else cfa.RGGB_COLOURS if meta.is_bayer else (0, 1, 2)
        reading = spec.reading if spec else "linear"
        if self.metadata.domain not in ("cfa", "camera_rgb"):
            reading = "variance-stabilised"
        if reading == "linear":
            if any(spec.role == "noise_level" for spec in self.metadata.inputs):
                raise ModelError(f"{self.name} takes one noise level, and needs the reading variance-stabilised for it")
            return [Linear()] * len(colours)
        profile = self._noise or noise_profile(frame, self._table)
        pairs = [profile.of(colour) for colour in colours]
        anchor = spec.anchor if spec else None
        if anchor is not None:
            return [KSigma(a, b, anchor) for a, b in pairs]
        span = max(Stabiliser(a, b).own_span for a, b in pairs)
        return [Stabiliser(a, b, span) for a, b in pairs]

    def _through_proxy(self, image: Floats, run: dict[str, Any]) -> Floats:
        """Exposure and transfer on, model, transfer and exposure off."""
        lift = np.float32(_lift(image))
        restored = self._restored(by_rows(lambda part: colors.encode(np.minimum(part * lift, 1)), image), run)

        def lowered(part: Floats, source: Floats) -> Floats:
            lifted = source * lift
            linear: Floats = (colors.decode(part) + (lifted - np.minimum(lifted, 1))) / lift
            return linear

        if self.scale > 1:
            image = image.repeat(self.scale, 0).repeat(self.scale, 1)
        return by_rows(lowered, restored, image, out=restored)

    def _restored(self, image: Floats, run: dict[str, Any]) -> Floats:
        level: Literal["estimate"] | None = (
            "estimate" if any(spec.role == "noise_level" for spec in self.metadata.inputs) else None
        )
        fixed = arrays.Scaling(0.0, 1.0)
        # To a model of one channel the colours are planes, one after the other: at once they take thrice the memory.
        axes = "YXS" if self.metadata.channels == 3 else "YXZ"
        result: Floats = self._restorer(image, axes=axes, scaling=fixed, noise_level=level, **run)
        return result


class Linear:
    """Nothing to be done."""

    def forward(self, x: Floats) -> Floats:
        return x

    def inverse(self, y: Floats) -> Floats:
        return y


def _place(own: str, channels: int, wanted: Domain | None, name: str) -> Domain:
    """Where a model stands: where it was trained, or a display model where it can be led to."""
    possible: dict[str, tuple[Domain, ...]] = {
        "cfa": ("cfa",),
        "camera_rgb": ("camera_rgb",),
        "linear_rgb": ("linear_rgb",),
        "display_rgb": ("linear_rgb", "camera_rgb", "display_rgb"),
        "display_gray": ("cfa", "linear_rgb", "camera_rgb", "display_rgb"),
    }
    allowed = possible[own] if own != "camera_rgb" or channels == 3 else ()
    if not allowed or (wanted is not None and wanted not in allowed):
        places = " or ".join(allowed) or "no place, as it has 4 channels"
        raise ModelError(f"{name} ({own}) can stand at {places} in a RAW pipeline, not at {wanted or own}")
    return wanted or allowed[0]


def _lift(image: Floats) -> float:
    """One gain of at least 1 for the whole frame, which makes a dark one as bright as models expect."""
    brightest = image.max(axis=-1)
    mean = max(float(image.mean(dtype=np.float64)), 1e-6)
    high = max(float(np.percentile(brightest[:: max(1, len(brightest) // 1000)], BRIGHT_PERCENTILE)), 1e-6)
    return float(np.clip(min(TARGET_MEAN / mean, 1 / high), 1.0, MOST_LIFT))


def _saturated(image: Floats, meta: FrameMeta) -> Any:
    """(rows, columns) booleans: where a colour of the sensor's own tells nothing but that it is bright."""
    bright = np.empty(image.shape[:2], np.bool_)
    for rows in strips(image):
        values = camera_values(image[rows], meta)
        bright[rows] = (values if values.ndim == 2 else values.max(axis=-1)) >= SATURATED
    return bright


def _blended(image: Floats, restored: Floats, strength: float) -> Floats:
    """In place of the restored image."""
    if strength == 1:
        return restored
    here, there = np.float32(1 - strength), np.float32(strength)
    return by_rows(lambda own, other: here * own + there * other, image, restored, out=restored)
