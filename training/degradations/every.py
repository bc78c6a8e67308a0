"""All kinds of damage, as a recipe chooses among them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from restonnx.training.degradations.clean import Clean
from restonnx.training.degradations.deblur import Deblur
from restonnx.training.degradations.dehaze import Dehaze
from restonnx.training.degradations.denoise import Denoise
from restonnx.training.degradations.derain import Derain
from restonnx.training.degradations.dual_camera import DualCamera
from restonnx.training.degradations.linear import Linear
from restonnx.training.degradations.low_light import LowLight
from restonnx.training.degradations.micrograph import Micrograph
from restonnx.training.degradations.missing import Missing
from restonnx.training.degradations.raindrop import Raindrop
from restonnx.training.degradations.raw import Raw
from restonnx.training.degradations.shadow import Shadow
from restonnx.training.degradations.super_resolution import SuperResolution

AnyDegradation = (
    Denoise
    | SuperResolution
    | Derain
    | Dehaze
    | DualCamera
    | Shadow
    | LowLight
    | Raindrop
    | Deblur
    | Missing
    | Micrograph
    | Raw
    | Linear
    | Clean
)
"""Each has `degrade(clean, generator) -> (clean, degraded, ...)`: a batch of clean images (N, C, H, W) in [0, 1] and
what became of them; then, where it has a `guide`, that, of the clean image's size."""

Degradation = Annotated[AnyDegradation, Field(discriminator="kind")]

DEGRADATIONS: dict[str, type[BaseModel]] = {
    str(kind.model_fields["kind"].default): kind
    for kind in (
        Denoise,
        SuperResolution,
        Derain,
        Dehaze,
        DualCamera,
        Shadow,
        LowLight,
        Raindrop,
        Deblur,
        Missing,
        Micrograph,
        Raw,
        Linear,
        Clean,
    )
}
"""By their `kind`."""
