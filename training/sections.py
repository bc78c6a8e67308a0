"""The sections of a recipe: the network, the sampler, the training, and what the model says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Discriminator, Field, NonNegativeInt, PositiveInt, Tag, model_validator

from restonnx.diffusion import rddm_schedules
from restonnx.diffusion.consistency import Preconditioning
from restonnx.diffusion.rddm import Reading as RddmReading
from restonnx.diffusion.rddm_schedules import ResidualSchedule, Shape, Vector
from restonnx.diffusion.resshift import Reading
from restonnx.diffusion.schedules import ShiftSchedule, exponential
from restonnx.model import DataSource
from restonnx.training.networks.backbone import SLOPE, Backbone, Guide
from restonnx.training.networks.denoiser import Corrected, Denoiser
from restonnx.training.networks.residual_backbone import ResidualBackbone
from restonnx.training.networks.values import Values

UNSTATED = "not stated"
"""A licence of which nobody has said anything."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _UNet(Section):
    channels: Literal[1, 3, 4] = 3
    """Of the image: grey, colour, or the four planes of a mosaic."""
    widths: tuple[PositiveInt, ...] = (32, 64, 128)
    down: tuple[NonNegativeInt, ...] = (1, 1, 3)
    up: tuple[NonNegativeInt, ...] = (1, 1)
    head_blocks: int = Field(1, ge=0, le=16)
    relu_out: bool = False
    """A ReLU before the last convolution; worse, and only there so that networks trained with it can be read."""
    slope: float = Field(SLOPE, ge=0, lt=1)
    """Of the leaky ReLUs below 0; 0 for networks that were trained with plain ones."""

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        if len(self.down) != len(self.widths) or len(self.up) != len(self.widths) - 1:
            raise ValueError("down needs as many entries as widths, and up one fewer")
        return self


class BackboneSection(_UNet):
    """The network of a chain: heavy encoder of the degraded image, light head per step."""

    kind: Literal["backbone"] = "backbone"
    scale: Literal[1, 2, 4] = 1
    """How many times larger the result is; with more than 1 the encoder works at the size of the given image."""
    reference: bool = False
    """The network is given a second image of the place too, of the result's size."""
    mask: bool = False
    """The network is told where the image is to be restored."""
    head_width: PositiveInt | None = None
    """Of the head, where that is not widths[0]; for scales above 1."""
    gains: bool = False
    """Each step weighs its correction, and all but the first begin with 0: a chain can be trained by its first step
    alone, or `--from` a model of one step, and is no worse when the others join (objective.direct_share)."""

    @model_validator(mode="after")
    def _scale_fits(self) -> Self:
        if self.head_width is not None and self.scale == 1:
            raise ValueError("head_width is for scale = 2 or 4: the head of scale = 1 has the width of widths[0]")
        if self.reference and self.mask:
            raise ValueError("reference and mask do not go together")
        if self.guide and self.scale == 4:
            raise ValueError(f"{self.guide} goes with scale = 1 or 2, not 4")
        return self

    @property
    def guide(self) -> Guide | None:
        return "reference" if self.reference else "mask" if self.mask else None

    def build(self, steps: int, etas: Sequence[float] | None = None) -> Backbone:
        return Backbone(
            self.channels,
            steps,
            self.widths,
            self.down,
            self.up,
            self.head_blocks,
            scale=self.scale,
            guide=self.guide,
            head_width=self.head_width,
            relu_out=self.relu_out,
            slope=self.slope,
            etas=etas if self.gains else None,
        )


class ResidualBackboneSection(_UNet):
    """The backbone as a network of RDDM."""

    kind: Literal["residual_backbone"]
    layout: Literal["single", "shared", "two"] = "single"
    """One head for residual and noise; a head for each behind one encoder; or two networks."""
    mask: bool = False
    """The network is told where the image is to be restored."""
    values: Values = "display"
    """What the network works on: log_light where what is to be removed multiplies the light."""
    relights: bool = False
    """What is under the mask is first lifted by the mean difference of both sides of the mask's border."""
    wide_noise: bool = False
    """The encoder is given the noise too, so that draws can differ in wide areas; for objective.loss = "energy"."""

    @model_validator(mode="after")
    def _relighting_fits(self) -> Self:
        if self.relights and not (self.mask and self.values == "log_light"):
            raise ValueError('relights goes with mask = true and values = "log_light"')
        return self

    @property
    def guide(self) -> Guide | None:
        return "mask" if self.mask else None

    def build(self, sampler: RddmSection, prediction: str) -> ResidualBackbone:
        return ResidualBackbone(
            self.channels,
            sampler.total,
            prediction,
            self.layout,
            self.widths,
            self.down,
            self.up,
            self.head_blocks,
            not sampler.generate,
            sampler.noise_levels(),
            self.guide,
            self.values,
            self.relights,
            self.wide_noise,
        )


class DenoiserSection(_UNet):
    """The network of a prior: one pass, told the noise level."""

    kind: Literal["denoiser"] = "denoiser"
    corrected: Corrected = "shrunk"
    """What the network's correction is added to: the image with its noise, as a blind denoiser's, or EDM's estimate."""

    def build(self, steps: int) -> Denoiser:
        return Denoiser(
            self.channels,
            self.widths,
            self.down,
            self.up,
            self.head_blocks,
            self.relu_out,
            self.slope,
            self.corrected,
        )


class ResShiftSection(Section):
    family: Literal["resshift"] = "resshift"
    steps: int = Field(4, ge=1, le=1000)
    kappa: float = Field(0.1, ge=0)
    """Standard deviation of the noise that the chain starts with, black being 0 and white 1; 0 for a chain without."""
    min_noise_level: float = Field(0.01, gt=0)
    etas_end: float = Field(0.99, gt=0, le=1)
    power: float = Field(0.3, gt=0)
    normalize: Literal["latent", "pixel", "none"] = "latent"
    parameterisation: Literal["xstart", "residual", "epsilon", "epsilon_scale"] = "xstart"

    @model_validator(mode="after")
    def _makes_a_schedule(self) -> Self:
        self.schedule()
        return self

    def schedule(self) -> ShiftSchedule:
        return exponential(
            self.steps,
            kappa=self.kappa,
            min_noise_level=self.min_noise_level,
            etas_end=self.etas_end,
            power=self.power,
        )

    def reading(self) -> Reading:
        return Reading(self.parameterisation, self.normalize)

    @property
    def training_draws(self) -> int:
        """Normal images that one chain takes."""
        return self.steps


class RddmSection(Section):
    """RDDM (Liu et al. 2024, arXiv 2308.13712); images in [-1, 1]. It is trained at all of `total` times, so that the
    number of steps can still be chosen when it is exported."""

    family: Literal["rddm"]
    steps: int = Field(5, ge=1, le=100)
    """Of the sampler, evenly spaced in time."""
    total: int = Field(1000, ge=2, le=10000)
    """T of the schedule."""
    schedule: Literal["power", "linear", "scaled_linear", "squaredcos_cap_v2"] = "power"
    """power: by alpha, beta2, sum_scale and grid; the others are converted from DDIM's betas."""
    alpha: Shape = ("decreased", 1.0)
    beta2: Shape = ("increased", 1.0)
    sum_scale: float = Field(1.0, ge=0, le=100)
    """Variance of the noise at the start; 0 for a chain without."""
    grid: Literal["one_based", "zero_one"] = "one_based"
    beta_start: float = Field(1e-4, gt=0, lt=1)
    beta_end: float = Field(0.02, gt=0, lt=1)
    eta: float = Field(0.0, ge=0, le=1)
    """0 samples without further noise, 1 with that of the true posterior."""
    order: Literal["together", "residual_first", "noise_first"] = "together"
    """Remove residual and noise together, or first the one and then the other, in twice the evaluations."""
    time: Literal["index", "cumulative"] = "index"
    """What the network is told: t, or the schedules' own levels, on which decoupled sampling rests."""
    clip: bool = False
    """Bound estimates of the clean image to [-1, 1]; those from the noise alone always are."""
    generate: bool = False
    """Start from noise alone: new images like those of the training, of a given one only the size counts."""

    @model_validator(mode="after")
    def _makes_a_schedule(self) -> Self:
        self.residual_schedule()
        if self.steps > self.total:
            raise ValueError(f"steps must be at most total, which is {self.total}, not {self.steps}")
        if self.generate and not self.sum_scale:
            raise ValueError("generate = true needs noise to start from: sum_scale must be greater than 0")
        return self

    def residual_schedule(self) -> ResidualSchedule:
        if self.schedule == "power":
            return rddm_schedules.power(
                self.total, alpha=self.alpha, beta2=self.beta2, sum_scale=self.sum_scale, grid=self.grid
            )
        betas = rddm_schedules.ddim_betas(self.total, self.schedule, self.beta_start, self.beta_end)
        return rddm_schedules.from_betas(betas)

    def noise_levels(self) -> Vector:
        """(total,): of the noise in x_t, by what the network is told of the time, rounded down."""
        levels = self.residual_schedule().beta_bar
        return levels if self.time == "index" else np.minimum(np.arange(self.total) / self.total, levels.max())

    def reading(self, prediction: str) -> RddmReading:
        clip = self.clip or prediction == "pred_noise"  # which divides by next to nothing at the start
        return RddmReading(prediction, self.time, clip_clean=(-1.0, 1.0) if clip else None)

    @property
    def training_draws(self) -> int:
        return 1


class DenoiserSampling(Section):
    """A denoiser for every noise level, as EDM (Karras et al. 2022, arXiv 2206.00364) conditions it; images in [-1, 1].

    family = "consistency" for one that maps every level straight to the clean image (Song et al. 2023,
    arXiv 2303.01469).
    """

    family: Literal["direct", "consistency"]
    sigma_data: float = Field(0.5, gt=0)
    sigma_min: float = Field(0.002, gt=0)
    sigma_max: float = Field(80.0, gt=0)

    @property
    def steps(self) -> int:
        return 1

    @property
    def training_draws(self) -> int:
        return 1

    def preconditioning(self) -> Preconditioning:
        return Preconditioning(self.sigma_data, self.sigma_min, self.sigma_max, boundary=self.family == "consistency")


class TrainingSection(Section):
    iterations: int | None = Field(None, ge=1)
    minutes: float | None = Field(None, gt=0)
    """Instead of iterations: the learning rate follows the clock, and a resumed run is equal only in kind."""
    batch: int = Field(8, ge=1)
    """Samples per iteration, over all processes together."""
    patch: int = Field(64, ge=16)
    """Side of a sample in pixels; well above the network's reach, or it never learns to use context."""
    reduced: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    """Clean photographs are there again at these fractions of their sides, sharper by the pixel; not of pairs."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon (training/muon.py) learned far faster in the trials of docs/notes/training.md."""
    lr: float = Field(1e-3, gt=0)
    min_lr: float = Field(1e-6, ge=0)
    warmup: int = Field(200, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.99)
    ema: float = Field(0.999, ge=0, lt=1)
    clip: float = Field(0.5, gt=0)
    """Largest norm of the gradient."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """auto: bf16 on a GPU, float32 on a CPU."""
    seed: int = Field(0, ge=0)
    checkpoint_minutes: float = Field(3.0, gt=0)

    @model_validator(mode="after")
    def _one_length(self) -> TrainingSection:
        if (self.iterations is None) == (self.minutes is None):
            raise ValueError("give either iterations or minutes")
        return self


class About(Section):
    title: str
    description: str
    version: str = "1.0.0"
    task: str
    domain: Literal["display_rgb", "display_gray", "linear_rgb", "camera_rgb", "cfa"]
    licence: str = UNSTATED
    authors: tuple[str, ...] = ()
    training_data: tuple[DataSource, ...] = ()
    """Where it says none, a run notes what it was given."""


def _named(key: str, default: str) -> Discriminator:
    """Chooses a union's member by its `key`, which may be left out for the default one."""
    return Discriminator(lambda v: v.get(key, default) if isinstance(v, dict) else getattr(v, key))


Network = Annotated[
    Annotated[BackboneSection, Tag("backbone")]
    | Annotated[ResidualBackboneSection, Tag("residual_backbone")]
    | Annotated[DenoiserSection, Tag("denoiser")],
    _named("kind", "backbone"),
]
Sampler = Annotated[
    Annotated[ResShiftSection, Tag("resshift")]
    | Annotated[RddmSection, Tag("rddm")]
    | Annotated[DenoiserSampling, Tag("direct")]
    | Annotated[DenoiserSampling, Tag("consistency")],
    _named("family", "resshift"),
]
