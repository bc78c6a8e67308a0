"""Denoising at every noise level (Karras et al. 2022, arXiv 2206.00364), and consistency training and distillation
(Song et al. 2023, arXiv 2303.01469): the losses as functions, then the objectives that the loop calls.

clean and noise are (N, C, H, W), noise standard normal; a loss is per sample, (N,).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from restonnx.diffusion.consistency import (
    Denoise,
    Preconditioning,
    Vector,
    column,
    dpm_step,
    even_shares,
    falling,
    integrate,
)
from restonnx.diffusion.consistency_training import Curriculum, loss_weight, pair

DISTILLATION = Curriculum()
NORMS = ("l1", "l2", "l2-32", "pseudo-huber")
HUBER = 0.00054
"""Where the pseudo-Huber distance turns from square to absolute: per root of the number of elements, of images in
[-1, 1] (Song and Dhariwal 2024, arXiv 2310.14189, section 3.3)."""
Norm = str | Callable[[Tensor, Tensor], Tensor]
"""One of NORMS, or a callable (estimate, wanted) -> (N,), for instance a perceptual distance."""


def denoising_loss(denoise: Denoise, clean: Tensor, noise: Tensor, sigma: Tensor, weight: Tensor) -> Tensor:
    """weight * mean squared error of the clean image's estimate; sigma and weight are (N,)."""
    noisy = clean + column(sigma, clean) * noise
    return weight * distance(denoise(noisy, sigma), clean, "l2")


def consistency_loss(
    online: Denoise,
    target: Denoise,
    clean: Tensor,
    noise: Tensor,
    index: Tensor,
    grid: Vector,
    *,
    teacher: Denoise | None = None,
    norm: Norm = "l2",
    weight: str = "uniform",
    sigma_data: float = 0.5,
) -> Tensor:
    """weight(sigma_i) * distance between f_online(x_i, sigma_i) and f_target(x_{i+1}, sigma_{i+1}).

    index: integers (N,) in 0..points-2.  grid: (points,) noise levels, falling.  teacher: for distillation; without
    it this is consistency training.  Only `online` gets a gradient, and both are given the same dropout.
    """
    with torch.no_grad():
        neighbours = pair(clean, noise, grid, index, teacher)
        with torch.random.fork_rng([clean.device] if clean.is_cuda else []):  # rewinds the generators when it ends
            wanted = target(neighbours.x_next, neighbours.sigma_next)
    estimate = online(neighbours.x, neighbours.sigma)
    weights = loss_weight(neighbours.sigma, weight, sigma_data, neighbours.sigma_next)
    return weights * distance(estimate, wanted, norm)


def path_loss(
    online: Denoise,
    teacher: Denoise,
    clean: Tensor,
    noise: Tensor,
    levels: Sequence[Any],
    *,
    norm: Norm = "l2",
    weight: str = "uniform",
    sigma_data: float = 0.5,
) -> Tensor:
    """weight(sigma) * distance between f_online(x, sigma) and the end of the teacher's path from x.

    levels: of the path, falling from sigma (N,), each (N,) or a number.  Where the consistency loss of every level is 0
    this one is 0 too; but no error of one level's target enters that of the next (Luhman and Luhman 2021,
    arXiv 2101.02388). The steps are DPM-Solver-2's, as few of Heun's leave noise (docs/notes/priors.md).
    """
    x = clean + column(levels[0], clean) * noise
    with torch.no_grad():
        end = integrate(teacher, x, levels, dpm_step)
    return loss_weight(levels[0], weight, sigma_data) * distance(online(x, levels[0]), end, norm)


def distance(estimate: Tensor, wanted: Tensor, norm: Norm) -> Tensor:
    """(N,): mean of |d| (l1), of d^2 (l2), of d^2 after a bilinear resize to 32 x 32 (l2-32), or the published
    pseudo-Huber distance over the root of the number of elements, sqrt(mean of d^2 + HUBER^2) - HUBER."""
    if callable(norm):
        return norm(estimate, wanted)
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}; it must be one of {', '.join(NORMS)}")
    difference = estimate - wanted
    if norm == "l1":
        return difference.abs().flatten(1).mean(1)
    if norm == "l2-32":
        difference = F.interpolate(difference, size=(32, 32), mode="bilinear", align_corners=False)
    squares = difference.square().flatten(1).mean(1)
    return (squares + HUBER**2).sqrt() - HUBER if norm == "pseudo-huber" else squares


def lognormal(draws: Tensor, mean: float = -1.2, std: float = 1.2) -> Tensor:
    """Uniform draws in [0, 1) as noise levels whose logarithm is normal: EDM's."""
    return torch.exp(mean + std * torch.special.ndtri(draws.clamp(1e-6, 1 - 1e-6)))


def loguniform(draws: Tensor, sigma_min: float = 0.002, sigma_max: float = 80.0) -> Tensor:
    """Uniform draws in [0, 1) as noise levels whose logarithm is uniform: all of them count alike."""
    return sigma_min * (sigma_max / sigma_min) ** draws


class DenoisingObjective(nn.Module):
    """(clean, degraded, noise, draws, progress) -> loss of a denoiser; degraded and progress are not looked at.

    network: raw(scaled, level), see `restonnx.diffusion.consistency`.  sigmas: draws (N,) uniform in [0, 1) -> noise
    levels (N,), which are kept within the preconditioning's range.  weight: one of `consistency_training.WEIGHTS`.
    """

    def __init__(
        self,
        network: nn.Module,
        preconditioning: Preconditioning,
        *,
        weight: str = "karras",
        sigmas: Callable[[Tensor], Tensor] = lognormal,
    ) -> None:
        super().__init__()
        self.network = network
        self.preconditioning = preconditioning
        self.weight = weight
        self.sigmas = sigmas

    def forward(self, clean: Tensor, degraded: Tensor, noise: Tensor, draws: Tensor, progress: float) -> Tensor:
        settings = self.preconditioning
        sigma = self.sigmas(draws[: len(clean)]).clamp(settings.sigma_min, settings.sigma_max)
        weight = loss_weight(sigma, self.weight, settings.sigma_data)
        return denoising_loss(settings.denoiser(self.network), clean, noise[0], sigma, weight).mean()


class Distillation(nn.Module):
    """(clean, degraded, noise, draws, progress) -> consistency loss; degraded is not looked at.

    student: raw(scaled, level), read in the consistency form.  teacher: a trained denoiser, read as EDM's with the same
    constants or as `teacher_preconditioning` says, whose path the student learns to cut short; or None: consistency
    training.

    path_steps: 0, or in how many steps the teacher's path is followed to its end (`path_loss`); the levels that it is
    followed from are then continuous, and curriculum does not matter.

    The target network is a copy of the student that follows it by `curriculum.target_decay`. The loop calls
    `follow(progress)` after every step of the optimiser, keeps the target in its checkpoints, and calls
    `restart()` after it has loaded other weights into the student. With a decay of 0 there is no copy (`target` is
    None): the student's own weights, without a gradient, are the target, and none of that is needed.
    """

    kept = ("target.",)
    """What of its state belongs in a checkpoint."""

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None,
        preconditioning: Preconditioning,
        *,
        teacher_preconditioning: Preconditioning | None = None,
        curriculum: Curriculum = DISTILLATION,
        norm: Norm = "l2",
        weight: str = "uniform",
        rho: float = 7.0,
        path_steps: int = 0,
    ) -> None:
        super().__init__()
        if path_steps and teacher is None:
            raise ValueError("the end of a path is a teacher's: path_steps without one must be 0")
        if not preconditioning.boundary:
            raise ValueError(
                "a consistency model must be the identity at sigma_min: use Preconditioning(boundary=True)"
            )
        self.student = student
        self.teacher = teacher.eval().requires_grad_(False) if teacher is not None else None
        self.target = copy.deepcopy(student).requires_grad_(False) if curriculum.decay > 0 else None
        self.preconditioning = preconditioning
        self.teacher_preconditioning = teacher_preconditioning or replace(preconditioning, boundary=False)
        self.curriculum = curriculum
        self.norm = norm
        self.weight = weight
        self.rho = rho
        self.path_steps = path_steps

    def forward(self, clean: Tensor, degraded: Tensor, noise: Tensor, draws: Tensor, progress: float) -> Tensor:
        settings = self.preconditioning
        student = settings.denoiser(self.student)
        teacher = self.teacher_preconditioning.denoiser(self.teacher) if self.teacher is not None else None
        further: dict[str, Any] = {"norm": self.norm, "weight": self.weight, "sigma_data": settings.sigma_data}
        if self.path_steps and teacher is not None:
            sigma = settings.between(draws[: len(clean)], self.rho)
            levels = falling(sigma, even_shares(self.path_steps), sigma_min=settings.sigma_min, rho=self.rho)
            return path_loss(student, teacher, clean, noise[0], levels, **further).mean()
        points = self.curriculum.points(progress)
        index = (draws[: len(clean)] * (points - 1)).long()
        return consistency_loss(
            student,
            settings.denoiser(self.student if self.target is None else self.target),
            clean,
            noise[0],
            index,
            settings.grid(points, self.rho),
            teacher=teacher,
            **further,
        ).mean()

    def train(self, mode: bool = True) -> Distillation:
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()  # the student may have dropout, its teacher never
        return self

    def follow(self, progress: float) -> None:
        """Move the target towards the student, after a step of the optimiser."""
        self._blend(self.curriculum.target_decay(progress))

    def restart(self) -> None:
        """Make the target equal to the student."""
        self._blend(0.0)

    @torch.no_grad()
    def _blend(self, decay: float) -> None:
        if self.target is None:
            return
        torch._foreach_lerp_(list(self.target.parameters()), list(self.student.parameters()), 1 - decay)
        for own, others in zip(self.target.buffers(), self.student.buffers(), strict=True):
            own.copy_(others)
