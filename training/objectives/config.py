"""The objectives' settings, apart from their code so that a recipe can be read without building anything."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

RESIDUAL, NOISE, UNDECIDED = 1, 0, -1
"""What an automatic selection between the two has decided."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    loss: str

    @property
    def draws(self) -> int:
        """How often the chain is run for each sample, with other noise."""
        return 2 if self.loss == "energy" else 1


class _Objective(_Section):
    loss: Literal["l1", "l2", "charbonnier", "psnr"] = "l1"
    """psnr: the logarithm of each sample's mean square, as in HINet (Chen et al. 2021, arXiv 2105.06086), so that
    samples with little damage count as much as those with a lot."""


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


class DataConsistent(_Section):
    """x_t is what the sampler itself has made of the degraded image (Cheng et al. 2024, arXiv 2412.12550)."""

    kind: Literal["data_consistent"] = "data_consistent"
    loss: Literal["l1", "l2", "charbonnier", "psnr", "energy"] = "l1"
    """energy: two draws of a chain with noise are scored as a distribution (`objectives.scores.energy_score`), so
    that seeds differ as far as the truth is uncertain; every other loss teaches the chain to leave its noise aside."""
    gradient: Literal["full", "detached"] = "full"
    """Whether the gradient flows through the earlier steps of the chain, or x_t counts as given (biased, cheaper)."""
    loss_on: Literal["random", "every", "end"] = "random"
    """Which steps' estimates are compared with the clean image: one at random per batch, all, or the last."""
    direct_share: float = Field(0.0, ge=0, le=1)
    """For this first share of the run only the chain's first step is trained: cheap, and a good start for the rest."""
    forward_share: float = Field(0.0, ge=0, le=1)
    """This share of the batches is forward-noised instead."""

    @model_validator(mode="after")
    def _scores_one_estimate(self) -> Self:
        if self.loss == "energy" and (self.loss_on == "every" or self.forward_share):
            raise ValueError('loss = "energy" goes with loss_on = "end" or "random", and without forward_share')
        return self


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


class _Consistency(_Section):
    """One step is taught what the neighbouring noise level gives, along a path from noise to image."""

    loss: Literal["l2", "l1", "pseudo-huber"] = "l2"
    scales: int = Field(40, ge=2)
    """Noise levels of the Karras grid."""
    rho: float = Field(7.0, gt=0)
    weighting: Literal["snr", "snr+1", "karras", "truncated-snr", "uniform", "gap"] = "uniform"
    """gap is 1 / (sigma_i - sigma_{i+1}) (Song and Dhariwal 2024, arXiv 2310.14189)."""
    target: Literal["self", "ema"] = "self"
    """What the network is compared with: itself without gradient (Song and Dhariwal 2024: to average it gains
    nothing), or its slow average, as first published (Song et al. 2023, arXiv 2303.01469)."""
    target_decay: float = Field(0.95, gt=0, lt=1)
    """Of that average."""


class Distillation(_Consistency):
    """Teach one step what the teacher's ODE does in many (Song et al. 2023, arXiv 2303.01469, algorithm 2)."""

    kind: Literal["distillation"] = "distillation"
    teacher: str = "prior"
    """The prior to learn from: a name in the library or a file."""
    path_steps: int = Field(0, ge=0)
    """0: learn from what the student itself gives a level below, as published. More: learn the end of the teacher's
    path from any level, followed in so many steps (Luhman and Luhman 2021, arXiv 2101.02388, from every level in place
    of the highest). Every step costs two passes of the teacher; docs/notes/priors.md compares the two."""

    @model_validator(mode="after")
    def _has_neighbours_to_compare(self) -> Self:
        if self.path_steps and (self.weighting == "gap" or self.target == "ema"):
            raise ValueError('path_steps compares no neighbours: weighting = "gap" and target = "ema" go with 0')
        return self


class ConsistencyTraining(_Consistency):
    """The same without a teacher: the clean image shows the way (Song et al. 2023, arXiv 2303.01469, algorithm 3).

    The grid is coarse at first, which is easy and biased, and becomes fine.
    """

    kind: Literal["consistency_training"] = "consistency_training"
    loss: Literal["l2", "l1", "pseudo-huber"] = "pseudo-huber"
    scales: int = Field(10, ge=2)
    """Noise levels of the Karras grid at first."""
    end_scales: int = Field(160, ge=2)
    """At the end."""
    weighting: Literal["snr", "snr+1", "karras", "truncated-snr", "uniform", "gap"] = "gap"
    target_decay: float = Field(0.9, gt=0, lt=1)
    """Of the average that is the target, at first; it rises with the scales."""

    @model_validator(mode="after")
    def _becomes_finer(self) -> Self:
        if self.end_scales < self.scales:
            raise ValueError(f"end_scales must be at least scales, which is {self.scales}, not {self.end_scales}")
        return self


class ResidualDenoising(_Section):
    """RDDM (Liu et al. 2024, arXiv 2308.13712): residual and noise at any time of the schedule."""

    kind: Literal["rddm"] = "rddm"
    loss: Literal["l1", "l2", "charbonnier", "psnr", "energy"] = "l1"
    """energy: two draws of the clean image are scored as a distribution, as of `DataConsistent`; with
    compare = "clean"."""
    prediction: Literal[
        "pred_res_noise", "pred_res", "pred_noise", "pred_x0_noise", "pred_res_add_noise", "pred_x0_add_noise", "auto"
    ] = "pred_res_noise"
    """What the network gives, see `diffusion.rddm`. auto: residual or noise, whichever is easier to learn; once that is
    decided the training begins anew with it."""
    compare: Literal["heads", "posterior", "clean"] = "heads"
    """Each output with its target; or the posterior means that both imply, for pred_res_noise; or the clean images, as
    the display shows them, that they imply: with network.values = "log_light" not the same as the heads."""
    first_share: float = Field(0.0, ge=0, le=1)
    """This share of the samples is at the schedule's last time, where samplers begin; at all others x_t tells much of
    the residual. For few steps; 0 as published."""
    threshold: float = Field(0.01, gt=0, lt=0.5)
    """auto: how far the learned weight between the two must move from one half."""
    selection_lr: float = Field(8e-5, gt=0)
    """auto: the learning rate of that weight."""

    @model_validator(mode="after")
    def _compares_what_it_gives(self) -> Self:
        if self.compare == "posterior" and self.prediction != "pred_res_noise":
            raise ValueError('compare = "posterior" goes with prediction = "pred_res_noise"')
        if self.compare == "clean" and self.prediction != "pred_res":
            raise ValueError('compare = "clean" goes with prediction = "pred_res"')
        if self.loss == "energy" and self.compare != "clean":
            raise ValueError('loss = "energy" goes with compare = "clean"')
        if self.first_share and self.prediction == "auto":
            raise ValueError('first_share goes with a prediction that is decided, not "auto"')
        return self
