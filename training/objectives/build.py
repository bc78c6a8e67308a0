"""The objective that a recipe names, around its network."""

from __future__ import annotations

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
from restonnx.training.objectives.config import DataConsistent, Denoising, Distillation, ForwardNoised
from restonnx.training.objectives.consistency import DenoisingObjective, lognormal, loguniform
from restonnx.training.objectives.consistency import Distillation as ConsistencyDistillation
from restonnx.training.objectives.resshift import ResShiftObjective
from restonnx.training.recipe import Recipe, ResShiftSection


def build_objective(recipe: Recipe, network: nn.Module) -> nn.Module:
    """A module (clean, degraded, noise, draws, progress) -> loss; the recipe has checked that its parts fit."""
    sampler, config = recipe.sampler, recipe.objective
    if isinstance(sampler, ResShiftSection):
        assert isinstance(network, Backbone)
        assert isinstance(config, (DataConsistent, ForwardNoised))
        return ResShiftObjective(network, sampler.schedule(), config, sampler.reading())
    assert isinstance(network, Denoiser)
    settings = sampler.preconditioning()
    if isinstance(config, Denoising):
        levels = partial(_levels, config, settings)
        return _Centred(DenoisingObjective(network, settings, weight=config.weighting, sigmas=levels))
    assert isinstance(config, Distillation)
    curriculum = Curriculum(start=config.scales, decay=0.0)
    return _Centred(
        ConsistencyDistillation(
            network,
            _teacher(config.teacher),
            settings,
            curriculum=curriculum,
            norm=config.loss,
            weight=config.weighting,
            rho=config.rho,
        )
    )


class _Centred(nn.Module):
    """Hands images in [0, 1] on in [-1, 1], the range of priors."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, clean: Tensor, degraded: Tensor, noise: Tensor, draws: Tensor, progress: float) -> Tensor:
        loss: Tensor = self.objective(2 * clean - 1, 2 * degraded - 1, noise, draws, progress)
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
