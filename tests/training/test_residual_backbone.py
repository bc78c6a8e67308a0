from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from restonnx.diffusion.rddm import PREDICTIONS, Reading
from restonnx.training.networks import backbone
from restonnx.training.networks.residual_backbone import LAYOUTS, ResidualBackbone


def network(prediction: str = "pred_res_noise", layout: str = "single") -> ResidualBackbone:
    return randomised(ResidualBackbone(3, 100, prediction, layout, (8, 8), (1, 1), (1,)))


def randomised(built: ResidualBackbone) -> ResidualBackbone:
    generator = torch.Generator().manual_seed(0)
    for parameter in built.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    return built.requires_grad_(False)


def image(seed: int) -> Tensor:
    return torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_there_is_an_output_for_each_head_of_the_prediction(prediction: str) -> None:
    outputs = network(prediction)(image(0), image(1), 50)
    assert [output.shape for output in outputs] == [image(0).shape] * Reading(prediction).heads


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_number_and_a_tensor_say_the_same_time(layout: str) -> None:
    built, x, y = network(layout=layout), image(0), image(1)
    times = torch.tensor([7, 60])
    for n, output in enumerate(built(x, y, times)):
        apart = torch.cat([built(x[k : k + 1], y[k : k + 1], int(times[k]))[n] for k in range(2)])
        torch.testing.assert_close(output, apart, rtol=1e-4, atol=1e-3)
        assert (output - built(x, y, 7)[n])[1].abs().max() > 0.01  # and it matters


def test_residual_and_noise_hear_each_their_own_time() -> None:
    for layout in ("shared", "two"):
        built, x, y = network(layout=layout), image(0), image(1)
        features = built.encode(y)
        residual, noise = built.step(x, y, features, (10, 90))
        torch.testing.assert_close(residual, built(x, y, 10)[0])
        torch.testing.assert_close(noise, built(x, y, 90)[1])


def test_only_two_networks_share_no_encoder() -> None:
    count = {layout: sum(p.numel() for p in network(layout=layout).parameters()) for layout in LAYOUTS}
    encoder = sum(p.numel() for p in network().encoder.parameters())
    assert count["two"] == count["shared"] + encoder


def test_the_encoder_runs_once_for_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    built, calls = network(), []
    original = built.encoder.forward
    monkeypatch.setattr(built.encoder, "forward", lambda *given: calls.append(1) or original(*given))
    predict = built.predictor(image(1))
    for t in (80, 40, 0):
        predict(image(0), (t, t))
    assert len(calls) == 1


def test_wide_noise_reaches_what_the_head_does_not_see() -> None:
    """One corner's noise, and how far from it the result changes: with it as far as the encoder sees."""
    degraded = torch.zeros(1, 3, 64, 64)
    other = degraded.clone()
    other[..., :8, :8] = 1.0
    reach = {}
    for wide_noise in (False, True):
        built = randomised(ResidualBackbone(3, 100, "pred_res", "single", (8, 8), (1, 1), (1,), wide_noise=wide_noise))
        changed = (built(other, degraded, 99)[0] - built(degraded, degraded, 99)[0]).abs().amax(dim=(0, 1, 2))
        reach[wide_noise] = int(changed.nonzero().max())
    assert reach[False] < 16 < reach[True]


def test_every_level_is_given_noise_of_unit_variance_whose_values_are_independent() -> None:
    built = ResidualBackbone(3, 100, "pred_res", "single", (8, 8, 8), (1, 1, 1), (1, 1), wide_noise=True)
    given: list[Tensor] = []
    for conv in built.encoder.noise_convs:
        conv.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    degraded = torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(1, 3, 512, 512, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        built(degraded + noise, degraded, 99)
    assert [level.shape[1:3] for level in given] == [(3, 256), (3, 128), (6, 64)]
    for level in given:
        level = 1.05 * level[:, :3]  # the network's units, see LEAST_LEVEL
        assert level.std().item() == pytest.approx(1.0, abs=0.03)
        assert (level[..., 1:] * level[..., :-1]).mean().abs() < 0.03


def test_the_last_level_is_given_noise_of_a_wide_reach() -> None:
    noise = torch.randn(200, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    wide = backbone._widened(noise)
    for row in (0, 1, 7):  # at a border too
        assert wide[:, :, row].std().item() == pytest.approx(1.0, abs=0.1)
    beside, beyond = ((wide[..., :-far] * wide[..., far:]).mean().item() for far in (1, backbone.WIDE))
    assert beside > 0.8
    assert abs(beyond) < 0.1


def test_wide_noise_changes_nothing_before_it_is_trained() -> None:
    before = network("pred_res")
    after = ResidualBackbone(3, 100, "pred_res", "single", (8, 8), (1, 1), (1,), wide_noise=True)
    missing = after.load_state_dict(before.state_dict(), strict=False).missing_keys
    assert {name.split(".")[1] for name in missing} == {"noise_convs"}
    torch.testing.assert_close(after(image(0), image(1), 99)[0], before(image(0), image(1), 99)[0])


def test_an_untrained_head_of_the_clean_image_gives_the_degraded_one() -> None:
    built = ResidualBackbone(3, 100, "pred_x0_noise", "single", (8, 8), (1, 1), (1,)).requires_grad_(False)
    built.head.conv_out.weight.zero_()
    torch.testing.assert_close(built(image(0), image(1), 50)[0], image(1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_untrained_network_knows_the_noise_at_the_end_of_the_schedule(layout: str) -> None:
    levels = np.linspace(0.001, 0.2, 100)
    built = ResidualBackbone(3, 100, "pred_res_noise", layout, (8, 8), (1, 1), (1,), noise_levels=levels)
    built.requires_grad_(False)
    for head in (built.head, built.head_noise):
        if head is not None:
            head.conv_out.weight.zero_()
    degraded, noise = image(1), image(2)
    for t in (99, torch.tensor([99, 99])):
        found = built(degraded + 0.2 * noise, degraded, t)[1]
        torch.testing.assert_close(found, noise / 1.05, rtol=1e-4, atol=1e-4)


def test_a_network_can_be_read_otherwise_by_as_many_outputs() -> None:
    built = network("pred_res")
    before = built(image(0), image(1), 50)[0]
    built.read_as("pred_noise")
    torch.testing.assert_close(built(image(0), image(1), 50)[0], before / 1.05)
    with pytest.raises(ValueError, match="does not read 1 outputs"):
        built.read_as("pred_res_noise")


@pytest.mark.parametrize(
    ("prediction", "layout", "complaint"),
    [
        ("pred_res", "two", "has one output"),
        ("pred_noise", "shared", "has one output"),
        ("pred_res_noise", "three", "must be one of single, shared, two"),
        ("pred_all", "single", "unknown prediction"),
    ],
)
def test_networks_that_cannot_be_are_refused(prediction: str, layout: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        network(prediction, layout)
