"""The objectives' settings, apart from their code so that a recipe can be read without building anything."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Objective(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    loss: Literal["l1", "l2", "charbonnier"] = "l1"


class ForwardNoised(_Objective):
    """The usual training: x_t is made from the clean image by the forward process, t uniform."""

    kind: Literal["forward_noised"] = "forward_noised"
    weighted: bool = False
    """With loss = "l2": weigh the steps as the variational bound does."""

    @model_validator(mode="after")
    def _weights_squares_only(self) -> Self:
        if self.weighted and self.loss != "l2":
            raise ValueError('weighted = true goes with loss = "l2" alone')
        return self


class DataConsistent(_Objective):
    """x_t is what the sampler itself has made of the degraded image (Cheng et al. 2024, arXiv 2412.12550)."""

    kind: Literal["data_consistent"] = "data_consistent"
    gradient: Literal["full", "detached"] = "full"
    """Whether the gradient flows through the earlier steps of the chain, or x_t counts as given (biased, cheaper)."""
    loss_on: Literal["random", "every", "end"] = "random"
    """Which steps' estimates are compared with the clean image: one at random per batch, all, or the last."""
    direct_share: float = Field(0.0, ge=0, le=1)
    """For this first share of the run only the chain's first step is trained: cheap, and a good start for the rest."""
    forward_share: float = Field(0.0, ge=0, le=1)
    """This share of the batches is forward-noised instead."""


class Denoising(_Objective):
    """Denoise the clean image at noise levels drawn from all of them (Karras et al. 2022, arXiv 2206.00364)."""

    kind: Literal["denoising"] = "denoising"
    loss: Literal["l2"] = "l2"
    log_mean: float = -1.2
    log_std: float = Field(1.2, gt=0)
    """log(sigma) is normal with this mean and deviation; images lie in [-1, 1]."""
    weighting: Literal["snr", "snr+1", "karras", "karras-root", "truncated-snr", "uniform"] = "karras-root"
    """karras-root grows as 1 / sigma where the published "karras" grows as 1 / sigma^2 and a light network never gets
    beyond the lowest levels."""
    wide_share: float = Field(0.1, ge=0, le=1)
    """For this share it is uniform from sigma_min to sigma_max instead, so that no level stays untrained."""


class Distillation(_Objective):
    """Teach one step what the teacher's ODE does in many (Song et al. 2023, arXiv 2303.01469, algorithm 2).

    The target is the network itself without gradient: to average it, as first published, gains nothing (Song and
    Dhariwal 2024, arXiv 2310.14189).
    """

    kind: Literal["distillation"] = "distillation"
    loss: Literal["l2", "l1"] = "l2"
    teacher: str = "prior"
    """The prior to learn from: a name in the library or a file."""
    scales: int = Field(40, ge=2)
    """Noise levels of the Karras grid."""
    rho: float = Field(7.0, gt=0)
    weighting: Literal["snr", "snr+1", "karras", "truncated-snr", "uniform"] = "uniform"
