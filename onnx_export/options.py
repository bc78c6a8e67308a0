"""What published weights do not show: how their networks were trained, and how they are to be sampled.

The defaults are the published settings; where those differ from task to task, the commonest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from torch import Tensor

from restonnx.diffusion import consistency, rddm_schedules
from restonnx.diffusion.consistency import PUBLISHED_TIME_SCALE, Preconditioning
from restonnx.diffusion.rddm import Reading as RddmReading
from restonnx.diffusion.rddm_schedules import ResidualSchedule, Shape
from restonnx.diffusion.resshift import Reading
from restonnx.diffusion.schedules import ShiftSchedule, exponential, respace
from restonnx.errors import InputError

LEAST_NOISE_LEVELS = {4: 0.2, 15: 0.04}
"""ResShift's min_noise_level by the number of steps, as published."""


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ResShiftOptions(_Options):
    """Of ResShift (Yue et al. 2023, arXiv 2307.12348)."""

    steps: int = Field(4, ge=1, le=1000)
    kappa: float = Field(2.0, ge=0)
    min_noise_level: float | None = Field(None, gt=0)
    """By default 0.2 for 4 steps and 0.04 for 15."""
    etas_end: float = Field(0.99, gt=0, le=1)
    power: float = Field(0.3, gt=0)
    respacing: int | None = Field(None, ge=1)
    """Keep so many of the steps."""
    scale: int | None = Field(None, ge=1, le=16)
    """By default the one that the network's condition shows."""
    space: Literal["latent", "pixel"] = "latent"
    latent_scale: float = Field(1.0, gt=0)
    parameterisation: Literal["xstart", "residual", "epsilon", "epsilon_scale"] = "xstart"
    normalize: Literal["latent", "pixel", "none"] | None = None
    """By default that of the space."""

    @model_validator(mode="after")
    def _has_a_least_noise_level(self) -> Self:
        if self.min_noise_level is None and self.steps not in LEAST_NOISE_LEVELS:
            raise ValueError(f"with {self.steps} steps min_noise_level must be given: none is published")
        return self

    def schedule(self) -> ShiftSchedule:
        least = self.min_noise_level or LEAST_NOISE_LEVELS[self.steps]
        full = exponential(
            self.steps, kappa=self.kappa, min_noise_level=least, etas_end=self.etas_end, power=self.power
        )
        return full if self.respacing is None else respace(full, self.respacing)

    def reading(self) -> Reading:
        return Reading(self.parameterisation, self.normalize or self.space)


class RddmOptions(_Options):
    """Of RDDM (Liu et al. 2024, arXiv 2308.13712)."""

    steps: int = Field(5, ge=1, le=1000)
    eta: float = Field(0.0, ge=0, le=1)
    order: Literal["together", "residual_first", "noise_first"] = "together"
    generate: bool = False
    """Start from noise alone."""
    converted: bool = False
    """The network is one of DDPM or DDIM, which predicts the noise."""
    prediction: (
        Literal["pred_res_noise", "pred_res", "pred_noise", "pred_x0_noise", "pred_res_add_noise", "pred_x0_add_noise"]
        | None
    ) = None
    """By default pred_res_noise for two heads, pred_res for one, and pred_noise for one that generates."""
    schedule: Literal["power", "linear", "scaled_linear", "squaredcos_cap_v2"] | None = None
    """power: by alpha, beta2, sum_scale and grid; the others are converted from DDIM's betas. By default that which
    the file holds, else power, or linear where the network is converted."""
    total: int = Field(1000, ge=1)
    """Steps of the training."""
    alpha: Shape = ("decreased", 1.0)
    beta2: Shape = ("increased", 1.0)
    sum_scale: float = Field(1.0, ge=0)
    """Variance of the noise at the start; published: 1, for shadows and blur 0.01."""
    grid: Literal["one_based", "zero_one"] = "one_based"
    beta_start: float = Field(1e-4, gt=0, lt=1)
    beta_end: float = Field(0.02, gt=0, lt=1)
    time: Literal["index", "cumulative"] = "index"
    """What the network is told: t, or the schedules' own levels."""
    form: Literal["use_pred_noise", "use_x_start", "special_eta_0", "special_eta_1"] = "use_pred_noise"
    clip: bool = True
    """Bound estimates of the clean image to [-1, 1]."""
    clip_residual: bool = False
    """So also those of the residual, as the published code does, though they reach 2."""
    self_condition: bool = False
    mask: Literal["unit", "signed"] = "unit"
    """The network is shown its mask as 0 and 1, or as -1 and 1."""
    as_published: bool = False
    """The published sampler for residual_first, with its defects."""

    @field_validator("alpha", "beta2", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """decreased:1 and average as text."""
        if not isinstance(value, str):
            return value
        kind, _, ratio = value.partition(":")
        return (kind, ratio or 1.0)

    def reading(self, heads: int) -> RddmReading:
        one = "pred_noise" if self.generate else "pred_res"
        bounds = (-1.0, 1.0)
        return RddmReading(
            self.prediction or ("pred_res_noise" if heads > 1 else one),
            time=self.time,
            clip_clean=bounds if self.clip else None,
            clip_residual=bounds if self.clip_residual else None,
            self_condition=self.self_condition,
        )

    def residual_schedule(self, stored: Mapping[str, Tensor]) -> ResidualSchedule:
        """stored: what the file holds of its own schedule."""
        kind = self.schedule
        if kind is None and {"alphas_cumsum", "betas_cumsum"} <= stored.keys():
            alpha_bar, beta_bar = (stored[name].double().numpy() for name in ("alphas_cumsum", "betas_cumsum"))
            # In generation, and where DDIM was converted, the sampler starts with noise of unit variance.
            return rddm_schedules.from_cumulative(alpha_bar, beta_bar, start_std=1.0 if self.generate else None)
        if (kind or ("linear" if self.converted else "power")) == "power":
            return rddm_schedules.power(
                self.total, alpha=self.alpha, beta2=self.beta2, sum_scale=self.sum_scale, grid=self.grid
            )
        return rddm_schedules.from_betas(
            rddm_schedules.ddim_betas(self.total, kind or "linear", self.beta_start, self.beta_end)
        )


class AdmOptions(_Options):
    """Of a network of guided diffusion (Dhariwal and Nichol 2021, arXiv 2105.05233) as a denoiser."""

    steps: int = Field(1, ge=1, le=1000)
    """Of DDIM; 1 is Tweedie's formula."""
    label: int | None = Field(None, ge=0)
    """The class that a class-conditional network is asked for."""
    image_size: int = Field(256, ge=8)
    """Side of the training images: networks with attention over all pixels are best at it."""
    betas: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    total: int = Field(1000, ge=1)
    beta_start: float = Field(1e-4, gt=0, lt=1)
    beta_end: float = Field(0.02, gt=0, lt=1)

    def alphas_cumprod(self) -> Tensor:
        betas = rddm_schedules.ddim_betas(self.total, self.betas, self.beta_start, self.beta_end)
        return torch.cumprod(1 - torch.from_numpy(betas), dim=0)


class ConsistencyOptions(_Options):
    """Of a consistency model (Song et al. 2023, arXiv 2303.01469) or its EDM teacher as a denoiser."""

    steps: int = Field(1, ge=1, le=100)
    """More than one noise the estimate again in between, evenly in sigma^(1/7); of a consistency model alone."""
    indices: tuple[int, ...] | None = None
    """In place of even steps those of the published samplers, such as 0,22,39: rising from 0 into a grid of noise
    levels whose end is the last."""
    label: int | None = Field(None, ge=0)
    image_size: int = Field(256, ge=8)
    sigma_data: float = Field(0.5, gt=0)
    sigma_min: float = Field(0.002, gt=0)
    sigma_max: float = Field(80.0, gt=0)
    boundary: bool = True
    """The consistency form; false for an EDM teacher."""
    time_scale: float = Field(PUBLISHED_TIME_SCALE, gt=0)

    @field_validator("indices", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """0,22,39 as text."""
        return value.split(",") if isinstance(value, str) else value

    @model_validator(mode="after")
    def _steps_agree(self) -> Self:
        given = self.indices
        if given is None:
            return self
        if len(given) < 2 or given[0] != 0 or any(after <= before for before, after in pairwise(given)):
            raise ValueError(f"indices must be two or more that rise from 0, such as 0,22,39, not {list(given)}")
        if self.steps not in (1, len(given) - 1):
            raise ValueError(f"{len(given)} indices are of {len(given) - 1} steps, not {self.steps}: leave steps out")
        return self

    def shares(self) -> tuple[float, ...]:
        """Of `diffusion.consistency.falling`, one for each step."""
        if self.indices is None:
            return consistency.even_shares(self.steps)
        return tuple(index / self.indices[-1] for index in self.indices[:-1])

    def preconditioning(self) -> Preconditioning:
        return Preconditioning(
            self.sigma_data, self.sigma_min, self.sigma_max, boundary=self.boundary, time_scale=self.time_scale
        )


class DcdpOptions(_Options):
    """Of DCDP (Li et al. 2024, arXiv 2403.06054) with its operator inside; see `dcdp_export.export_dcdp`."""

    operator: Literal["blur", "inpaint", "superresolve", "denoise"] = "blur"
    scale: int = Field(4, ge=2, le=16)
    border: Literal["unknown", "mirrored"] = "unknown"
    rounds: int = Field(10, ge=1, le=1000)
    passes: int = Field(1, ge=1, le=100)
    iterations: int = Field(30, ge=1, le=1000)
    setting: Literal["solve", "published"] = "solve"
    """Where the defaults of what follows come from: `restonnx.solve`, or the paper."""
    first_level: int | None = Field(None, ge=1, le=1000)
    last_level: int | None = Field(None, ge=0, le=1000)
    style: Literal["geometric", "linear", "cosine", "bias_t1", "bias_t0", "reverse_cosine", "constant"] | None = None
    weight: float | None = Field(None, gt=0)
    noise: float | None = Field(None, ge=0, le=1)
    start: Literal["smooth", "zero"] | None = None
    smooth: float | None = Field(None, ge=0, lt=1)
    clip: bool | None = None


Published = ResShiftOptions | RddmOptions | AdmOptions | ConsistencyOptions
Options = Published | DcdpOptions
KINDS: dict[str, type[Options]] = {
    "resshift": ResShiftOptions,
    "rddm": RddmOptions,
    "adm": AdmOptions,
    "consistency": ConsistencyOptions,
    "dcdp": DcdpOptions,
}
PUBLISHED = ("resshift", "rddm", "adm", "consistency")
"""The kinds of checkpoints."""


def parse(kind: str, settings: Mapping[str, Any] | Sequence[str]) -> tuple[Options, dict[str, Any]]:
    """The options of a kind, and those of its network's configuration, which are named "network.NAME".

    settings: names and values, which may be text, or a sequence of "NAME=VALUE".  Raises InputError in one line.
    """
    given = dict(settings) if isinstance(settings, Mapping) else dict(_pair(text) for text in settings)
    network = {
        key.removeprefix("network."): _value(given.pop(key)) for key in list(given) if key.startswith("network.")
    }
    model = KINDS[kind]
    if unknown := sorted(set(given) - set(model.model_fields)):
        raise InputError(f"{kind} has no option {unknown[0]!r}; it has {', '.join(sorted(model.model_fields))}")
    try:
        return model.model_validate(given), network
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        subject = f"{kind}'s option {first['loc'][0]}" if first["loc"] else f"{kind}'s options"
        raise InputError(f"{subject}: {message[:1].lower()}{message[1:]}") from None


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"a setting is NAME=VALUE, such as steps=4, not {text!r}")
    return name.strip(), value.strip()


def _value(value: Any) -> Any:
    """A number, true, false, a comma-separated list of them, or the text itself."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(f"[{value}]" if "," in value and not value.startswith("[") else value)
    except ValueError:
        return value
