from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from restonnx.diffusion import rddm, rddm_schedules  # noqa: E402
from restonnx.diffusion.rddm import Reading  # noqa: E402
from restonnx.training.networks.official.rddm_unet import RddmConfig, build  # noqa: E402
from restonnx.training.objectives.rddm import (  # noqa: E402
    NOISE,
    RESIDUAL,
    UNDECIDED,
    ObjectiveSelection,
    RddmObjective,
    head_losses,
    posterior_loss,
    reinitialise,
)

SCHEDULE = rddm_schedules.power(1000)


def batch(n: int = 4) -> tuple[Any, Any, Any, Any]:
    """Clean, degraded, noise (1, N, 1, 8, 8) and draws (N + 2,)."""
    generator = torch.Generator().manual_seed(0)
    clean, degraded = (torch.rand(n, 1, 8, 8, generator=generator) * 2 - 1 for _ in range(2))
    return clean, degraded, torch.randn(1, n, 1, 8, 8, generator=generator), torch.rand(n + 2, generator=generator)


class Remembered(torch.nn.Module):
    """A linear network that notes what it was given."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.linspace(0.1, 0.5, heads))
        self.seen: list[Any] = []

    def forward(self, x: Any, time_residual: Any, time_noise: Any) -> Any:
        self.seen.append((x, time_residual, time_noise))
        return [gain * x[:, :1] for gain in self.gain]


@pytest.mark.parametrize("prediction", rddm.PREDICTIONS)
@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_a_perfect_network_has_no_loss_in_any_head(prediction: str, loss: Any) -> None:
    clean, degraded, noise, draws = batch()
    wanted = rddm.targets(clean, degraded, noise[0], prediction)

    class Perfect(torch.nn.Module):
        def forward(self, *inputs: Any) -> Any:
            return wanted

    objective = RddmObjective(Perfect(), SCHEDULE, Reading(prediction), loss=loss)
    t = torch.tensor([0, 1, 500, 999])
    assert [float(x) for x in objective.losses(clean, degraded, noise[0], t)] == [0.0] * len(wanted)
    assert float(objective(clean, degraded, noise, draws, 0.0)) == 0


def test_the_loss_is_the_sum_of_the_heads() -> None:
    clean, degraded, noise, draws = batch()
    objective = RddmObjective(Remembered(2), SCHEDULE)
    t = (draws[:4] * 1000).long()
    losses = objective.losses(clean, degraded, noise[0], t)
    assert len(losses) == 2
    assert objective(clean, degraded, noise, draws, 0.0).item() == pytest.approx(sum(loss.item() for loss in losses))


def test_of_two_heads_the_residual_is_the_first_and_the_noise_the_last() -> None:
    clean, degraded, noise, _ = batch()
    t, both = torch.tensor([1, 10, 500, 900]), Remembered(2)
    separate = RddmObjective(both, SCHEDULE).losses(clean, degraded, noise[0], t)
    for prediction, expected in zip(("pred_res", "pred_noise"), separate, strict=True):
        (alone,) = RddmObjective(both, SCHEDULE, Reading(prediction)).losses(clean, degraded, noise[0], t)
        assert alone.item() == expected.item()


def test_the_network_sees_what_the_task_gives_it() -> None:
    clean, degraded, noise, _ = batch()
    mask, t = torch.ones_like(clean), torch.tensor([1, 10, 500, 900])
    x_t = rddm.forward(clean, degraded, noise[0], SCHEDULE, t)
    for conditioned, given, expected in (
        (True, mask, [x_t, degraded, mask]),
        (True, None, [x_t, degraded]),
        (False, None, [x_t]),
    ):
        network = Remembered(2)
        RddmObjective(network, SCHEDULE, conditioned=conditioned).losses(clean, degraded, noise[0], t, given)
        torch.testing.assert_close(network.seen[0][0], torch.cat(expected, dim=1))
    network = Remembered(2)
    RddmObjective(network, SCHEDULE, Reading(time="cumulative")).losses(clean, None, noise[0], t)
    x, time_residual, time_noise = network.seen[0]
    torch.testing.assert_close(x, rddm.forward(clean, None, noise[0], SCHEDULE, t))
    torch.testing.assert_close(time_residual, torch.tensor(1000 * SCHEDULE.alpha_bar[t]).float())
    torch.testing.assert_close(time_noise, torch.tensor(1000 * SCHEDULE.beta_bar[t]).float())


def test_self_conditioning_shows_half_of_the_batches_their_own_estimate_without_a_gradient() -> None:
    clean, degraded, noise, draws = batch()
    for coin, calls in ((0.2, 2), (0.8, 1)):
        network = Remembered(2)
        objective = RddmObjective(network, SCHEDULE, Reading(self_condition=True))
        draws[-1] = coin
        objective(clean, degraded, noise, draws, 0.0)
        assert len(network.seen) == calls
        shown = network.seen[-1][0][:, :1]
        assert bool(shown.any()) == (calls == 2)
        assert not shown.requires_grad


def test_the_posterior_loss_weighs_the_heads_by_what_a_step_takes_of_them() -> None:
    clean, degraded, noise, _ = batch()
    t = torch.tensor([5, 5, 5, 5])
    wanted = rddm.targets(clean, degraded, noise[0], "pred_res_noise")
    shifted = (wanted[0] + 1, wanted[1])
    found = posterior_loss(shifted, wanted, SCHEDULE, t)
    assert found.item() == pytest.approx(1e4 * SCHEDULE.alphas[5], rel=1e-4)
    shifted = (wanted[0], wanted[1] + 1)
    found = posterior_loss(shifted, wanted, SCHEDULE, t)
    assert found.item() == pytest.approx(1e4 * SCHEDULE.betas2[5] / SCHEDULE.beta_bar[5], rel=1e-4)
    (loss,) = RddmObjective(Remembered(2), SCHEDULE, compare="posterior").losses(clean, degraded, noise[0], t)
    assert loss.item() > 0
    with pytest.raises(ValueError, match="pred_res_noise"):
        RddmObjective(Remembered(1), SCHEDULE, Reading("pred_res"), compare="posterior")


def test_the_loss_of_the_clean_image_is_taken_where_it_is_shown() -> None:
    clean, degraded, noise, _ = batch()
    t = torch.tensor([5, 5, 5, 5])

    def loss(**settings: Any) -> float:
        objective = RddmObjective(Remembered(1), SCHEDULE, Reading("pred_res"), **settings)
        return objective.losses(clean, degraded, noise[0], t)[0].item()

    assert loss(compare="clean") == pytest.approx(loss(), rel=1e-5)
    assert loss(compare="clean", shown=lambda image: 3 * image + 1) == pytest.approx(3 * loss(), rel=1e-5)
    with pytest.raises(ValueError, match="goes with pred_res, not pred_noise"):
        RddmObjective(Remembered(1), SCHEDULE, Reading("pred_noise"), compare="clean")


def test_the_loss_by_psnr_weighs_samples_alike_whatever_their_damage() -> None:
    wanted = torch.zeros(2, 1, 8, 8)
    off = torch.tensor([0.1, 0.01]).view(2, 1, 1, 1).expand_as(wanted)
    losses = [head_losses([share * off], [wanted], "psnr")[0].item() for share in (1.0, 0.5)]
    assert losses[0] == pytest.approx((math.log(1e-2) + math.log(1e-4)) / 2, abs=1e-3)
    assert losses[0] - losses[1] == pytest.approx(2 * math.log(2), abs=3e-3)
    assert math.isfinite(head_losses([wanted], [wanted], "psnr")[0].item())


@pytest.mark.parametrize(("share", "last"), [(0.0, 0.001), (0.6, 0.6), (1.0, 1.0)])
def test_a_share_of_the_samples_is_where_samplers_begin(share: float, last: float) -> None:
    draws = torch.linspace(0, 1, 1001)[:-1]
    times = RddmObjective(Remembered(2), SCHEDULE, first_share=share)._times(draws)
    assert (times == SCHEDULE.steps - 1).float().mean().item() == pytest.approx(last, abs=0.002)
    others = times[times < SCHEDULE.steps - 1].double()
    assert share == 1 or others.mean().item() == pytest.approx(SCHEDULE.steps / 2, rel=0.01)


def test_heads_that_do_not_fit_the_objective_are_refused() -> None:
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match="1 heads, the objective wants 2"):
        head_losses([x], [x, x])


@pytest.mark.parametrize(
    ("preference", "decision"), [(0.5, UNDECIDED), (0.505, UNDECIDED), (0.52, RESIDUAL), (0.48, NOISE)]
)
def test_the_decision_falls_where_the_preference_has_left_the_middle(preference: float, decision: int) -> None:
    selection = ObjectiveSelection(Remembered(1), SCHEDULE)
    torch.nn.init.constant_(selection.preference, preference)
    selection(*batch(), 0.0)
    assert int(selection.decision) == decision
    assert selection.selected == {1: "pred_res", 0: "pred_noise", -1: None}[decision]


@pytest.mark.parametrize(("decision", "prediction"), [(RESIDUAL, "pred_res"), (NOISE, "pred_noise")])
def test_a_decision_given_or_saved_holds_whatever_the_preference_is(decision: int, prediction: str) -> None:
    clean, degraded, noise, draws = batch()
    first = ObjectiveSelection(Remembered(1), SCHEDULE, decision=decision)
    second = ObjectiveSelection(Remembered(1), SCHEDULE)
    torch.nn.init.constant_(first.preference, 0.9 if decision == NOISE else 0.1)  # on the other side
    second.load_state_dict(first.state_dict())
    t = (draws[:4] * 1000).long()
    (expected,) = RddmObjective(first.network, SCHEDULE, Reading(prediction)).losses(clean, degraded, noise[0], t)
    for selection in (first, second):
        assert selection.selected == prediction
        assert selection(clean, degraded, noise, draws, 0.0).item() == expected.item()
        assert selection.decide() == decision
        losses = selection.losses(clean, degraded, noise[0], t)
        assert [x.item() for x in losses] == ([expected.item(), 0.0] if decision else [0.0, expected.item()])


def test_while_undecided_the_preference_learns_with_the_network() -> None:
    selection = ObjectiveSelection(Remembered(1), SCHEDULE)
    selection(*batch(), 0.0).backward()
    assert selection.preference.grad is not None
    assert float(selection.preference.grad) != 0
    assert bool(selection.network.gain.grad.any())


def test_nothing_breaks_at_the_ends_of_the_schedule() -> None:
    clean, degraded, noise, _ = batch(2)
    schedule = rddm_schedules.power(
        1000, grid="zero_one", dtype="float32"
    )  # Bbar is 0 at first, Abar 1 before the last
    selection = ObjectiveSelection(Remembered(1), schedule)
    loss = selection.total(selection.losses(clean, degraded, noise[0], torch.tensor([0, 999])))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(selection.preference.grad)


def test_the_selected_objective_starts_with_a_fresh_network() -> None:
    selection = ObjectiveSelection(Remembered(1), SCHEDULE, time="cumulative", loss="l2")
    with pytest.raises(ValueError, match="nothing is decided"):
        selection.selected_objective(Remembered(1))
    selection.decision.fill_(NOISE)
    fresh = Remembered(1)
    objective = selection.selected_objective(fresh)
    assert objective.network is fresh
    assert (objective.reading, objective.loss) == (Reading("pred_noise", "cumulative"), "l2")
    with pytest.raises(ValueError, match="residual"):
        ObjectiveSelection(fresh, SCHEDULE, decision=2)


def test_reinitialising_draws_every_weight_anew() -> None:
    network = build(RddmConfig("single", dim=8, dim_mults=(1, 2), fourier=4))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(7.0)
    reinitialise(network)
    assert not any(bool((parameter == 7).any()) for parameter in network.parameters())


@pytest.mark.parametrize("layout", ["two", "shared"])
def test_every_weight_of_a_network_with_two_heads_learns(layout: str) -> None:
    network = build(RddmConfig(layout, dim=16, dim_mults=(1, 2), channels=1, in_channels=2))
    RddmObjective(network, SCHEDULE, loss="l2")(*batch(2), 0.0).backward()  # signs alone may cancel out
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())
