from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason='exporting needs torch: pip install "restonnx[train]"')

import torch
from tiny_published import RDDM, built, drawn, traced_once

from restonnx.diffusion import rddm, rddm_ddim, rddm_paths, rddm_schedules
from restonnx.diffusion.rddm import Reading
from restonnx.onnx_export import parts
from restonnx.onnx_export.freeze import compare
from restonnx.onnx_export.rddm_graphs import Rddm, RddmConverted, standardised

SCHEDULE = rddm_schedules.power(20)
DDIM = rddm_schedules.from_betas(rddm_schedules.ddim_betas(20, end=0.2))
BOUNDS = (-1.0, 1.0)
TWO = replace(RDDM, layout="two")
NOTHING_SEEN = replace(RDDM, layout="two", in_channels=3)
BLIND = replace(RDDM, in_channels=3)
MASKED = replace(RDDM, in_channels=9)
SIDE = 8


def image(samples: int = 2) -> torch.Tensor:
    return drawn(samples, 3, SIDE, SIDE).tanh()


def noise(draws: int, samples: int = 2) -> torch.Tensor:
    return drawn(samples, draws, 3, SIDE, SIDE, seed=1)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("order", ["together", "residual_first", "noise_first"])
def test_the_module_is_the_sampler_with_the_degraded_image_shown(order: str, eta: float) -> None:
    network, reading = built(TWO), Reading(clip_clean=BOUNDS)
    module = Rddm(network, SCHEDULE, reading, steps=3, eta=eta, order=order)
    assert module.draws == (3 if eta else 1)
    degraded, draws = image(), noise(module.draws)

    def predict(x: torch.Tensor, times: Any) -> Any:
        return network(torch.cat([x, degraded], dim=1), *times)

    common: dict[str, Any] = {"times": 3, "eta": eta}
    if order == "together":
        expected = rddm.sample(predict, degraded, draws.transpose(0, 1), SCHEDULE, reading, **common)
    else:
        expected = rddm_paths.sample_decoupled(
            predict, degraded, draws.transpose(0, 1), SCHEDULE, reading, order=order, **common
        )
    torch.testing.assert_close(module(degraded, draws), expected)


def test_a_mask_is_shown_as_one_where_the_image_is_to_be_restored() -> None:
    network = built(MASKED)
    known = (drawn(2, 1, SIDE, SIDE, seed=3) > 0).float()
    for signed, shown in ((False, 1 - known), (True, 1 - 2 * known)):
        module = Rddm(network, SCHEDULE, Reading("pred_res"), steps=2, signed_mask=signed)
        assert [port.role for port in module.ports] == ["image", "noise", "mask"]
        seen: list[torch.Tensor] = []
        hook = network.register_forward_pre_hook(lambda _, inputs, kept=seen: kept.append(inputs[0]))
        module(image(), noise(1), known)
        hook.remove()
        torch.testing.assert_close(seen[0][:, 6:], shown.expand(-1, 3, -1, -1))
        torch.testing.assert_close(seen[0][:, 3:6], image())


def test_generation_sees_the_size_of_the_image_alone() -> None:
    module = Rddm(built(NOTHING_SEEN), DDIM, Reading(time="cumulative"), steps=2, generate=True)
    torch.testing.assert_close(module(image(), noise(1)), module(0 * image(), noise(1)))
    with pytest.raises(ValueError, match="cannot generate"):
        Rddm(built(TWO), DDIM, Reading(), generate=True)


def test_a_network_of_the_noise_is_moved_along_converted_coefficients() -> None:
    network = built(replace(NOTHING_SEEN, layout="single"))
    module = RddmConverted(network, DDIM, steps=4)
    expected = rddm_ddim.sample_converted(
        lambda x, t: network(x, t)[-1], noise(1).transpose(0, 1), DDIM, times=4, form="ddim"
    )
    np.testing.assert_allclose(module(image(), noise(1)), expected, atol=2e-5)


def test_without_noise_in_the_schedule_none_is_asked_for() -> None:
    module = Rddm(built(TWO), rddm_schedules.power(20, sum_scale=0.0), Reading(), steps=2, eta=0.5)
    assert [port.role for port in module.ports] == ["image"]
    assert module.draws == 0
    assert module(image()).isfinite().all()


@pytest.mark.parametrize(("prediction", "kept"), [("pred_res", "unet0"), ("pred_noise", "unet1")])
def test_a_network_that_is_not_read_is_left_out(prediction: str, kept: str) -> None:
    network = built(TWO)
    module = Rddm(network, SCHEDULE, Reading(prediction, clip_clean=BOUNDS), steps=2)
    assert {name.split(".")[1] for name, _ in module.named_parameters()} == {kept}
    degraded = image()
    expected = rddm.sample(
        lambda x, times: network(torch.cat([x, degraded], dim=1), *times),
        degraded,
        noise(1).transpose(0, 1),
        SCHEDULE,
        module.reading,
        times=2,
    )
    torch.testing.assert_close(module(degraded, noise(1)), expected)


def test_standardising_the_weights_once_changes_nothing_and_can_be_repeated() -> None:
    network, x = built(RDDM), drawn(1, 6, SIDE, SIDE)
    (expected,) = network(x, 3)
    names = list(network.state_dict())
    (found,) = standardised(network)(x, 3)
    torch.testing.assert_close(found, expected)
    assert list(network.state_dict()) == names
    again = built(RDDM)
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(again(x, 3)[0], expected, rtol=1e-3, atol=1e-4)


def test_what_does_not_fit_the_network_is_refused() -> None:
    with pytest.raises(ValueError, match="reads 2 heads, but the network has 1"):
        Rddm(built(RDDM), SCHEDULE, Reading("pred_res_noise"))
    with pytest.raises(ValueError, match="must lie in"):
        Rddm(built(RDDM), SCHEDULE, Reading("pred_res"), steps=21)
    with pytest.raises(ValueError, match="order is 'both'"):
        Rddm(built(RDDM), SCHEDULE, Reading("pred_res"), order="both")
    with pytest.raises(ValueError, match="12 channels"):
        Rddm(built(replace(RDDM, in_channels=12)), SCHEDULE, Reading("pred_res"))


def graphs() -> dict[str, Any]:
    clipped = Reading(clip_clean=BOUNDS)
    return {
        "two networks": lambda: Rddm(built(TWO), SCHEDULE, clipped, steps=2, eta=1.0),
        "shared encoder": lambda: Rddm(built(replace(RDDM, layout="shared")), SCHEDULE, clipped, steps=2),
        "a mask": lambda: Rddm(built(MASKED), SCHEDULE, Reading("pred_res", clip_clean=BOUNDS), steps=2),
        "residual first": lambda: Rddm(
            built(TWO), DDIM, Reading(clip_clean=BOUNDS, time="cumulative"), steps=2, order="residual_first"
        ),
        "generation": lambda: Rddm(
            built(BLIND), SCHEDULE, Reading("pred_noise", clip_clean=BOUNDS), generate=True, steps=2
        ),
        "converted": lambda: RddmConverted(built(BLIND), DDIM, steps=2, clip=BOUNDS),
    }  # fmt: skip


@pytest.fixture(scope="module")
def each_network_once() -> Iterator[None]:
    with traced_once(parts):
        yield


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", graphs())
@pytest.mark.usefixtures("each_network_once")
def test_the_graph_equals_torch_at_every_size(name: str) -> None:
    module = graphs()[name]().eval()
    standardised(module.network)
    model = module.to_onnx(SIDE)
    names = [tensor.name for tensor in model.graph.initializer]
    assert all(names.count(weight) == 1 for weight in module.network.state_dict())
    assert max(compare(model.SerializeToString(), module, module.ports, SIDE)) < 1e-4
