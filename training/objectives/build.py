"""The objective that a recipe names, around its network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from restonnx import library
from restonnx.diffusion.consistency import Preconditioning
from restonnx.diffusion.consistency_training import Curriculum
from restonnx.errors import InputError
from restonnx.training import checkpoint
from restonnx.training.networks.backbone import Backbone
from restonnx.training.networks.denoiser import Denoiser
from restonnx.training.networks.residual_backbone import ResidualBackbone
from restonnx.training.networks.values import Values, back, into
from restonnx.training.objectives.config import (
    ConsistencyTraining,
    DataConsistent,
    Denoising,
    Distillation,
    ForwardNoised,
    ResidualDenoising,
)
from restonnx.training.objectives.consistency import DenoisingObjective, lognormal, loguniform
from restonnx.training.objectives.consistency import Distillation as ConsistencyDistillation
from restonnx.training.objectives.rddm import ObjectiveSelection, RddmObjective
from restonnx.training.objectives.resshift import ResShiftObjective
from restonnx.training.recipe import Recipe
from restonnx.training.sections import RddmSection, ResShiftSection


def build_objective(recipe: Recipe, network: nn.Module) -> nn.Module:
    """A module (clean, degraded, noise, draws, progress) -> loss; the recipe has checked that its parts fit."""
    sampler, config = recipe.sampler, recipe.objective
    if isinstance(sampler, ResShiftSection):
        assert isinstance(network, Backbone)
        assert isinstance(config, (DataConsistent, ForwardNoised))
        return ResShiftObjective(network, sampler.schedule(), config, sampler.reading())
    if isinstance(sampler, RddmSection):
        assert isinstance(network, ResidualBackbone)
        assert isinstance(config, ResidualDenoising)
        return _Centred(_residual(network, sampler, config), generates=sampler.generate, network=network)
    assert isinstance(network, Denoiser)
    settings = sampler.preconditioning()
    if isinstance(config, Denoising):
        levels = partial(_levels, config, settings)
        return _Centred(DenoisingObjective(network, settings, weight=config.weighting, sigmas=levels))
    assert isinstance(config, Distillation | ConsistencyTraining)
    return _Centred(
        ConsistencyDistillation(
            network,
            _teacher(config.teacher) if isinstance(config, Distillation) else None,
            settings,
            curriculum=_curriculum(config),
            norm=config.loss,
            weight=config.weighting,
            rho=config.rho,
            path_steps=config.path_steps if isinstance(config, Distillation) else 0,
        )
    )


def inner(objective: nn.Module) -> nn.Module:
    """The objective itself, without what only hands images on to it."""
    return inner(objective.objective) if isinstance(objective, _Centred) else objective


def kept_state(objective: nn.Module) -> dict[str, Tensor]:
    """What an objective has learned beside the network's weights, for the checkpoint."""
    own = inner(objective)
    kept: tuple[str, ...] = getattr(own, "kept", ())
    return {name: value for name, value in own.state_dict().items() if kept and name.startswith(kept)}


def load_kept(objective: nn.Module, state: dict[str, Tensor]) -> None:
    own = inner(objective)
    own.load_state_dict(own.state_dict() | state)


def _residual(
    network: ResidualBackbone, sampler: RddmSection, config: ResidualDenoising
) -> RddmObjective | ObjectiveSelection:
    schedule = sampler.residual_schedule()
    if config.prediction == "auto":
        return ObjectiveSelection(network, schedule, time=sampler.time, loss=config.loss, threshold=config.threshold)
    reading = sampler.reading(config.prediction)
    return RddmObjective(
        network,
        schedule,
        reading,
        loss=config.loss,
        compare=config.compare,
        shown=partial(back, values=network.values),
        first_share=config.first_share,
    )


def _curriculum(config: Distillation | ConsistencyTraining) -> Curriculum:
    decay = config.target_decay if config.target == "ema" else 0.0
    if isinstance(config, Distillation):
        return Curriculum(start=config.scales, decay=decay)
    return Curriculum(start=config.scales, end=config.end_scales, decay=decay, adaptive=decay > 0)


class _Centred(nn.Module):
    """Hands images in [0, 1] on in [-1, 1], the range of priors and of RDDM; generates: the clean ones alone."""

    def __init__(
        self, objective: nn.Module, *, generates: bool = False, network: ResidualBackbone | None = None
    ) -> None:
        super().__init__()
        self.objective = objective
        self.generates = generates
        self.seen: Callable[..., Tensor] = network.seen if network else lambda degraded: degraded
        self.values: Values = network.values if network else "display"

    def forward(
        self, clean: Tensor, degraded: Tensor, noise: Tensor, draws: Tensor, progress: float, *mask: Tensor
    ) -> Tensor:
        """mask: (N, 1, H, W), which stays as it is; for networks that take one."""
        given = None if self.generates else self.seen(2 * degraded - 1, *mask)
        loss: Tensor = self.objective(into(2 * clean - 1, self.values), given, noise, draws, progress, *mask)
        return loss


def _levels(config: Denoising, settings: Preconditioning, draws: Tensor) -> Tensor:
    """Uniform draws (N,) as noise levels: the first `wide_share` of [0, 1) wide, the rest log-normal."""
    wide = loguniform(draws / max(config.wide_share, 1e-9), settings.sigma_min, settings.sigma_max)
    narrow = lognormal((draws - config.wide_share) / max(1 - config.wide_share, 1e-9), config.log_mean, config.log_std)
    return torch.where(draws < config.wide_share, wide, narrow)


def _teacher(name_or_path: str) -> Denoiser:
    path = Path(name_or_path)
    teacher = checkpoint.load(path if path.exists() else library.find(name_or_path).path).build()
    if not isinstance(teacher, Denoiser):
        raise InputError(f"objective.teacher: {name_or_path} is no prior")
    return teacher
