"""What the score of two draws of a chain rewards: the truth's own spread, square by square."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from restonnx.errors import InputError  # noqa: E402
from restonnx.training.objectives.build import build_objective  # noqa: E402
from restonnx.training.objectives.scores import energy_score  # noqa: E402
from restonnx.training.recipe import load  # noqa: E402

RDDM = (
    'network={kind="residual_backbone",widths=[8,8],down=[1,1],up=[1]}',
    'sampler={family="rddm",steps=1,total=50,sum_scale=1.0}',
    'objective={kind="rddm"}',
)
CLEAN = ("objective.prediction=pred_res", "objective.compare=clean", "objective.first_share=1")


def images(seed: int, *, square: int = 1) -> Any:
    """(400, 3, 32, 32) standard normal, one value for each square of pixels."""
    side = 32 // square
    values = torch.randn(400, 3, side, side, generator=torch.Generator().manual_seed(seed))
    return values.repeat_interleave(square, dim=2).repeat_interleave(square, dim=3)


def test_draws_as_spread_as_the_truth_score_best() -> None:
    truth = images(0)
    scores = {
        spread: energy_score(spread * images(1), spread * images(2), truth).item() for spread in (0.0, 0.5, 1.0, 1.6)
    }
    assert min(scores, key=scores.__getitem__) == 1.0


def test_draws_around_another_mean_score_worse() -> None:
    truth = images(0)
    right, wrong = (energy_score(images(1) + shift, images(2) + shift, truth) for shift in (0.0, 0.3))
    assert right < wrong


def test_pixels_that_belong_together_are_scored_together() -> None:
    truth = images(0, square=4)
    together = energy_score(images(1, square=4), images(2, square=4), truth)
    apart = energy_score(images(1), images(2), truth)  # each pixel by itself is distributed alike
    assert together < 0.99 * apart


def test_what_is_the_same_for_a_whole_image_is_drawn_for_all_of_it() -> None:
    truth = images(0, square=32)
    together = energy_score(images(1, square=32), images(2, square=32), truth)
    in_quarters = energy_score(images(1, square=16), images(2, square=16), truth)
    assert together < 0.99 * in_quarters


def test_a_perfect_draw_has_a_gradient() -> None:
    truth = images(0)
    draw = truth.clone().requires_grad_()
    energy_score(draw, draw, truth).backward()
    assert draw.grad is not None
    assert torch.isfinite(draw.grad).all()


def test_a_chain_that_is_scored_learns_from_two_of_its_draws(recipe: Path) -> None:
    settings = load(recipe, ["objective.loss=energy"])
    assert settings.training_draws == 2 * settings.sampler.steps
    objective = build_objective(settings, settings.build())
    clean = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(6, 2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    chains, draws = noise.chunk(2), torch.zeros(4)
    scored = objective(clean, clean, noise, draws, 1.0).item()
    assert scored == pytest.approx(objective(clean, clean, torch.cat(chains[::-1]), draws, 1.0).item(), rel=1e-5)
    assert scored < objective(clean, clean, torch.cat([chains[0], chains[0]]), draws, 1.0).item()


def test_rddm_learns_from_two_draws_of_the_clean_image(recipe: Path) -> None:
    settings = load(recipe, [*RDDM, *CLEAN, "objective.loss=energy", "network.wide_noise=true"])
    assert settings.training_draws == 2
    torch.manual_seed(0)
    network = settings.build()
    torch.nn.init.normal_(network.encoder.noise_convs[-1].weight)
    objective = build_objective(settings, network)
    clean = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    scored = objective(clean, clean, noise, torch.zeros(4), 1.0).item()
    assert scored == pytest.approx(objective(clean, clean, noise.flip(0), torch.zeros(4), 1.0).item(), rel=1e-5)
    alike = noise[:1].expand_as(noise)
    assert scored < objective(clean, clean, alike, torch.zeros(4), 1.0).item()


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["objective.loss=energy"], 'loss = "energy" goes with compare = "clean"'),
        ([*CLEAN, "objective.loss=energy", "sampler.sum_scale=0"], "sampler.sum_scale must be greater than 0"),
        (["network.wide_noise=true", "sampler.sum_scale=0"], "wide_noise goes with sampler.sum_scale greater than 0"),
        (["network.wide_noise=true", "sampler.generate=true", 'degradation={kind="none"}'], "without generate"),
    ],
)
def test_rddm_without_what_two_draws_need_is_refused(recipe: Path, overrides: list[str], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        load(recipe, [*RDDM, *overrides])


@pytest.mark.parametrize("override", ["sampler.kappa=0", "objective.loss_on=every", "objective.forward_share=0.5"])
def test_what_goes_without_two_draws_is_refused(recipe: Path, override: str) -> None:
    with pytest.raises(InputError, match="energy"):
        load(recipe, ["objective.loss=energy", override])
