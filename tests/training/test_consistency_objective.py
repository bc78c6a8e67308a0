from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from restonnx.diffusion import consistency
from restonnx.diffusion.consistency import Preconditioning
from restonnx.diffusion.consistency_training import Curriculum, loss_weight
from restonnx.training.objectives.consistency import (
    DenoisingObjective,
    Distillation,
    consistency_loss,
    distance,
    lognormal,
    loguniform,
    path_loss,
)

CM = Preconditioning(boundary=True)
FOLLOWED = Curriculum(10, decay=0.9)
ALONE = Curriculum(10, decay=0.0)


class Gain(nn.Module):
    """raw(u, level) = gain(level) u: enough to know all about images whose pixels are N(0, 0.5^2)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, u: Tensor, level: Tensor) -> Tensor:
        assert level.shape == (len(u), 1, 1, 1)
        return u * self.layers(level.reshape(-1, 1)).reshape(-1, 1, 1, 1)


class Nothing(nn.Module):
    """The exact denoiser of those images, by what `Preconditioning` alone says."""

    def forward(self, u: Tensor, level: Tensor) -> Tensor:
        return 0 * u


def batch(seed: int, count: int = 64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(clean, degraded, noise, draws) as the loop hands them over."""
    generator = torch.Generator().manual_seed(seed)
    clean = 0.5 * torch.randn(count, 1, 8, 8, generator=generator)
    noise = torch.randn(1, *clean.shape, generator=generator)
    return clean, clean, noise, torch.rand(count + 2, generator=generator)


@pytest.mark.parametrize("sigmas", [lognormal, loguniform])
def test_the_exact_denoisers_error_counts_alike_at_every_level(sigmas: Any) -> None:
    objective = DenoisingObjective(Nothing(), Preconditioning(), sigmas=sigmas)
    assert objective(*batch(0, 256), 0.0).item() == pytest.approx(1, rel=0.05)


def test_every_level_lies_in_the_range_of_the_preconditioning() -> None:
    heard: list[Tensor] = []

    def network(u: Tensor, level: Tensor) -> Tensor:
        heard.append(level)
        return u

    objective = DenoisingObjective(Recorder(network), Preconditioning(0.5, 0.1, 1.0))
    clean, degraded, noise, draws = batch(0)
    draws[0], draws[1] = 0.0, 1 - 2**-24
    assert torch.isfinite(objective(clean, degraded, noise, draws, 0.0))
    sigma = torch.exp(4 * heard[0])
    assert sigma.min().item() == pytest.approx(0.1)
    assert sigma.max().item() == pytest.approx(1)


def test_uniform_draws_become_the_levels_that_their_names_say() -> None:
    draws = (torch.arange(10_000) + 0.5) / 10_000
    normal = lognormal(draws, mean=-0.4, std=0.7).log()
    assert normal.mean().item() == pytest.approx(-0.4, abs=1e-3)
    assert normal.std().item() == pytest.approx(0.7, abs=2e-3)
    torch.testing.assert_close(loguniform(torch.tensor([0.0, 0.5, 1.0]), 0.01, 1.0), torch.tensor([0.01, 0.1, 1.0]))


@pytest.mark.parametrize("curriculum", [FOLLOWED, ALONE])
@pytest.mark.parametrize("taught", [True, False])
def test_only_the_student_learns(curriculum: Curriculum, taught: bool) -> None:
    student, teacher = Gain(), Gain() if taught else None
    objective = Distillation(student, teacher, CM, curriculum=curriculum)
    objective(*batch(0), 0.0).backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in student.parameters())
    learning = {name.partition(".")[0] for name, weight in objective.named_parameters() if weight.requires_grad}
    assert learning == {"student"}


def test_a_teachers_dropout_stays_off() -> None:
    objective = Distillation(Gain(), nn.Sequential(nn.Dropout(0.5)), CM)
    objective.train()
    assert objective.teacher is not None
    assert objective.student.training
    assert not any(module.training for module in objective.teacher.modules())


def test_the_target_follows_the_student_and_starts_where_it_does() -> None:
    objective = Distillation(Gain(), None, CM, curriculum=FOLLOWED)
    assert objective.target is not None
    before = {name: value.clone() for name, value in objective.target.state_dict().items()}
    with torch.no_grad():
        for weight in objective.student.parameters():
            weight.add_(1)
        objective.student.get_buffer("calls").fill_(7)
    objective.follow(0.0)
    for name, weight in objective.target.named_parameters():
        torch.testing.assert_close(weight, before[name] + 0.1, msg=name)
    assert objective.target.get_buffer("calls") == 7
    objective.restart()
    for own, other in zip(objective.target.parameters(), objective.student.parameters(), strict=True):
        assert torch.equal(own, other)


def test_a_run_that_goes_on_with_the_targets_weights_is_the_same_run() -> None:
    def steps(objective: Distillation, seeds: range) -> None:
        optimizer = torch.optim.SGD(objective.student.parameters(), 0.1)
        for seed in seeds:
            optimizer.zero_grad()
            objective(*batch(seed), 0.0).backward()
            optimizer.step()
            objective.follow(0.0)

    torch.manual_seed(0)
    whole, resumed = (Distillation(Gain(), None, CM, curriculum=FOLLOWED) for _ in range(2))
    steps(whole, range(2))
    assert whole.target is not None
    assert resumed.target is not None
    resumed.student.load_state_dict(whole.student.state_dict())
    resumed.target.load_state_dict(whole.target.state_dict())
    for objective in (whole, resumed):
        steps(objective, range(2, 4))
    for own, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(own, other)


def test_student_and_target_drop_the_same() -> None:
    masks: list[Tensor] = []
    dropout = nn.Dropout(0.5)

    def network(u: Tensor, level: Tensor) -> Tensor:
        masks.append(dropout(torch.ones_like(u)))
        return u * masks[-1]

    Distillation(Recorder(network), None, CM, curriculum=ALONE)(*batch(0), 0.0)
    assert torch.equal(*masks)
    Distillation(Recorder(network), None, CM, curriculum=ALONE)(*batch(0), 0.0)
    assert not torch.equal(masks[0], masks[2])


def test_an_exact_consistency_model_has_nothing_left_to_learn() -> None:
    def exact(x: Tensor, sigma: Tensor) -> Tensor:
        column = consistency.column(sigma, x)
        return x * ((CM.sigma_min**2 + 0.25) / (column**2 + 0.25)) ** 0.5

    clean, _, noise, draws = batch(0)
    teacher = Preconditioning().denoiser(Nothing())
    fine, coarse = (
        consistency_loss(exact, exact, clean, noise[0], (draws[:-2] * (n - 1)).long(), CM.grid(n), teacher=teacher)
        for n in (160, 20)
    )
    assert fine.max() < 1e-6
    assert fine.mean() < coarse.mean() / 100


def test_a_student_learns_to_jump_to_the_end_of_its_teachers_path() -> None:
    torch.manual_seed(0)
    objective = Distillation(Gain(), Nothing(), CM, curriculum=Curriculum(12, decay=0.5), weight="uniform")
    optimizer = torch.optim.Adam(objective.student.parameters(), 0.01)
    for seed in range(600):
        optimizer.zero_grad()
        objective(*batch(seed), seed / 600).backward()
        optimizer.step()
        objective.follow(seed / 600)
    start = CM.sigma_max * batch(1000)[2][0]
    with torch.no_grad():
        drawn = consistency.sample(CM.denoiser(objective.student), start, (CM.sigma_max, CM.sigma_min))
    assert Preconditioning().denoise(Nothing(), start, 80.0).std() < 0.01  # the teacher's estimate is the mean
    assert drawn.std().item() == pytest.approx(0.5, rel=0.15)


def test_the_end_of_the_path_is_what_an_exact_consistency_model_gives_from_every_level() -> None:
    def exact(x: Tensor, sigma: Tensor) -> Tensor:
        return x * ((CM.sigma_min**2 + 0.25) / (consistency.column(sigma, x) ** 2 + 0.25)) ** 0.5

    clean, _, noise, draws = batch(0, 16)
    teacher = Preconditioning().denoiser(Nothing())
    sigma = Preconditioning(sigma_max=2.0).between(draws[:-2])
    few, many = (
        path_loss(exact, teacher, clean, noise[0], consistency.falling(sigma, consistency.even_shares(steps))).max()
        for steps in (4, 16)
    )
    mean = path_loss(teacher, teacher, clean, noise[0], consistency.falling(sigma, consistency.even_shares(4))).max()
    assert few < mean / 50
    assert many < few / 30


def test_a_student_learns_the_end_of_the_path_from_every_level_at_once() -> None:
    torch.manual_seed(0)
    reading = Preconditioning(sigma_max=2.0, boundary=True)
    objective = Distillation(Gain(), Nothing(), reading, norm="pseudo-huber", path_steps=4)
    optimizer = torch.optim.Adam(objective.student.parameters(), 0.01)
    for seed in range(150):
        optimizer.zero_grad()
        objective(*batch(seed), 0.0).backward()
        optimizer.step()
    clean, _, noise, _ = batch(1000)
    for sigma in (0.5, 1.5):  # whose conditional means have 0.35 and 0.16
        with torch.no_grad():
            drawn = reading.denoiser(objective.student)(clean + sigma * noise[0], sigma)
        assert drawn.std().item() == pytest.approx(0.5, rel=0.1)


def test_any_distance_can_be_given() -> None:
    a, b = batch(0)[0], batch(1)[0]
    assert torch.equal(distance(a, b, lambda a, b: (a - b).abs().amax((1, 2, 3))), (a - b).abs().amax((1, 2, 3)))
    constant = distance(a, a + 0.5, "l2-32")
    torch.testing.assert_close(constant, torch.full((len(a),), 0.25))


def test_the_last_draw_of_all_stays_within_the_grid() -> None:
    clean, degraded, noise, draws = batch(0)
    draws[:] = 1 - 2**-24
    assert torch.isfinite(Distillation(Gain(), None, CM)(clean, degraded, noise, draws, 0.0))


def test_wrong_options_are_refused_with_the_right_ones() -> None:
    with pytest.raises(ValueError, match="boundary=True"):
        Distillation(Gain(), None, Preconditioning())
    with pytest.raises(ValueError, match="path_steps without one must be 0"):
        Distillation(Gain(), None, CM, path_steps=4)
    with pytest.raises(ValueError, match="l1, l2, l2-32, pseudo-huber"):
        distance(batch(0)[0], batch(1)[0], "lpips")
    narrow = DenoisingObjective(Gain(), Preconditioning(), sigmas=partial(loguniform, sigma_max=1.0), weight="snr3")
    with pytest.raises(ValueError, match="snr3"):
        narrow(*batch(0), 0.0)


class Recorder(nn.Module):
    """A function as a network."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, u: Tensor, level: Tensor) -> Tensor:
        return self.function(u, level)


def test_the_pseudo_huber_distance_is_the_published_one_whatever_the_size() -> None:
    for side in (8, 32):
        a, b = torch.rand(2, 3, side, side), torch.rand(2, 3, side, side)
        size = 3 * side**2
        c = 0.00054 * size**0.5
        published = ((a - b).flatten(1).square().sum(1) + c**2).sqrt() - c
        torch.testing.assert_close(distance(a, b, "pseudo-huber"), published / size**0.5)
        assert not distance(a, a, "pseudo-huber").any()


def test_the_weight_of_a_gap_is_one_over_it() -> None:
    sigma, following = torch.tensor([1.0, 4.0]), torch.tensor([0.5, 3.0])
    torch.testing.assert_close(loss_weight(sigma, "gap", 0.5, following), torch.tensor([2.0, 1.0]))
    with pytest.raises(ValueError, match="pair of noise levels"):
        loss_weight(sigma, "gap")
