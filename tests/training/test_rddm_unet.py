from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from restonnx.diffusion import rddm, rddm_paths, rddm_schedules  # noqa: E402
from restonnx.errors import ModelError  # noqa: E402
from restonnx.training.networks.official import rddm_blocks  # noqa: E402
from restonnx.training.networks.official.rddm_unet import (  # noqa: E402
    RddmConfig,
    build,
    config_from_state_dict,
    network_state,
    predictor,
    schedule_buffers,
)

SMALL = {"dim": 8, "dim_mults": (1, 2)}
VARIANTS = {
    "single": RddmConfig("single", **SMALL),
    "two": RddmConfig("two", **SMALL),
    "shared": RddmConfig("shared", **SMALL),
    "one network of six outputs": RddmConfig("single", heads_per_network=2, **SMALL),
    "grey, two outputs": RddmConfig("single", channels=1, in_channels=2, heads_per_network=2, **SMALL),
    "with a mask": RddmConfig("single", in_channels=9, **SMALL),
    "without the degraded image": RddmConfig("two", in_channels=3, **SMALL),
    "self-conditioned, with a mask": RddmConfig("two", in_channels=12, **SMALL),
    "fourier": RddmConfig("shared", fourier=8, **SMALL),
    "wide attention": RddmConfig("single", attention_heads=8, **SMALL),
    "three levels, one repeated": RddmConfig("two", dim=8, dim_mults=(1, 2, 2)),
}
variants = pytest.mark.parametrize("config", [pytest.param(c, id=name) for name, c in VARIANTS.items()])


@variants
def test_a_network_is_recognised_from_its_weights(config: RddmConfig) -> None:
    network = build(config)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert config_from_state_dict(state) == config
    saved = {f"model.{name}": tensor for name, tensor in state.items()}
    saved |= {name: torch.zeros(1000) for name in ("alphas", "betas_cumsum", "posterior_variance")}
    average = {"initted": torch.tensor(True), "step": torch.tensor(7)}
    for part, gain in (("online_model", 1.0), ("ema_model", 2.0)):
        average |= {f"{part}.{name}": gain * tensor for name, tensor in saved.items()}
    checkpoint = {"step": 7, "model": saved, "opt0": {"state": {}}, "ema": average, "scaler": None}
    for wrapped in (saved, average, checkpoint, {f"module.{name}": tensor for name, tensor in saved.items()}):
        assert config_from_state_dict(wrapped) == config
        assert network_state(wrapped).keys() == state.keys()
        network.load_state_dict(network_state(wrapped), strict=True)
    name = next(iter(state))
    torch.testing.assert_close(network_state(checkpoint)[name], 2 * state[name])
    torch.testing.assert_close(network_state(checkpoint, ema=False)[name], state[name])
    assert schedule_buffers(checkpoint).keys() == {"alphas", "betas_cumsum", "posterior_variance"}


@variants
def test_every_head_has_the_shape_of_an_image(config: RddmConfig) -> None:
    network = build(config).eval()
    x = torch.randn(2, config.in_channels, 3 * network.multiple, 5 * network.multiple)
    with torch.no_grad():
        outputs = network(x, torch.tensor([3, 900]), torch.tensor([20.0, 7.5]))
    heads = 2 if config.layout != "single" else config.heads_per_network
    assert [tuple(output.shape) for output in outputs] == [(2, config.channels, *x.shape[2:])] * heads


def test_a_bare_network_is_taken_for_a_single_one() -> None:
    network = build(VARIANTS["single"])
    assert config_from_state_dict(network.unet0.state_dict()) == VARIANTS["single"]
    network.load_state_dict(network_state(network.unet0.state_dict()), strict=True)


@pytest.mark.parametrize(
    ("config", "tensors", "parameters"),
    [
        (RddmConfig("single"), 276, 36_261_187),
        (RddmConfig("single", in_channels=3), 276, 36_251_779),
        (RddmConfig("single", in_channels=9), 276, 36_270_595),
        (RddmConfig("two"), 552, 72_522_374),
        (RddmConfig("shared"), 396, 51_980_614),
        (RddmConfig("single", heads_per_network=2), 276, 36_261_382),
    ],
)
def test_the_paper_s_networks_have_their_true_number_of_weights(
    config: RddmConfig, tensors: int, parameters: int
) -> None:
    with torch.device("meta"):
        state = build(config).state_dict()
    assert len(state) == tensors
    assert sum(tensor.numel() for tensor in state.values()) == parameters


def test_a_number_and_a_tensor_of_times_are_the_same() -> None:
    x = torch.randn(2, 6, 4, 4)
    for layout in ("two", "shared"):
        network = build(RddmConfig(layout, **SMALL)).eval()
        with torch.no_grad():
            for found, expected in zip(
                network(x, 7, 30.5), network(x, torch.tensor([7, 7]), torch.full((2,), 30.5)), strict=True
            ):
                torch.testing.assert_close(found, expected)


def test_only_its_own_time_reaches_each_of_two_networks() -> None:
    network, x = build(VARIANTS["two"]).eval(), torch.randn(1, 6, 4, 4)
    with torch.no_grad():
        first, other_noise, other_residual = network(x, 5, 9), network(x, 5, 700), network(x, 600, 9)
    torch.testing.assert_close(first[0], other_noise[0])
    torch.testing.assert_close(first[1], other_residual[1])
    assert not torch.allclose(first[1], other_noise[1])
    assert not torch.allclose(first[0], other_residual[0])


def test_linear_attention_is_its_definition() -> None:
    module, x = rddm_blocks.LinearAttention(8, heads=2), torch.randn(2, 8, 3, 5)
    q, k, v = (part.reshape(2, 2, 32, 15) for part in module.to_qkv(x).chunk(3, dim=1))
    q, k = q.softmax(dim=2) / 32**0.5, k.softmax(dim=3)
    context = torch.einsum("nhdp,nhep->nhde", k, v / 15)
    expected = module.to_out(torch.einsum("nhde,nhdp->nhep", context, q).reshape(2, 64, 3, 5))
    torch.testing.assert_close(module(x), expected)


def test_attention_is_its_definition() -> None:
    module, x = rddm_blocks.Attention(8, heads=2), torch.randn(2, 8, 3, 5)
    q, k, v = (part.reshape(2, 2, 32, 15) for part in module.to_qkv(x).chunk(3, dim=1))
    weights = torch.einsum("nhdi,nhdj->nhij", q / 32**0.5, k).softmax(dim=-1)
    expected = module.to_out(torch.einsum("nhij,nhdj->nhdi", weights, v).reshape(2, 64, 3, 5))
    torch.testing.assert_close(module(x), expected)


def test_a_standardised_kernel_has_mean_0_and_variance_1() -> None:
    module = rddm_blocks.StandardisedConv(3, 2, 3, padding=1)
    impulse = torch.zeros(3, 3, 5, 5)
    impulse[range(3), range(3), 2, 2] = 1
    kernels = (module(impulse) - module.bias[:, None, None])[:, :, 1:4, 1:4].transpose(0, 1)
    torch.testing.assert_close(kernels.mean(dim=(1, 2, 3)), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(kernels.var(dim=(1, 2, 3), correction=0), torch.ones(2), atol=1e-2, rtol=0)


def test_time_embeddings_are_their_definitions() -> None:
    time = torch.tensor([0.0, 3.0, 999.0])
    found = rddm_blocks.Sinusoidal(6)(time)
    rates = [math.exp(-k * math.log(10000) / 2) for k in range(3)]
    expected = [[f(float(t) * rate) for f in (math.sin, math.cos) for rate in rates] for t in time]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    fourier = rddm_blocks.Fourier(2)
    angles = time[:, None] * fourier.weights * 2 * math.pi
    torch.testing.assert_close(fourier(time), torch.cat([time[:, None], angles.sin(), angles.cos()], dim=1))


def test_the_predictor_gives_the_network_its_images_in_order() -> None:
    seen: list[Any] = []

    class Network(torch.nn.Module):
        def forward(self, x: Any, *times: Any) -> Any:
            seen.append((x[0, :, 0, 0].tolist(), times))
            return (x,)

    x, degraded, mask, previous = (torch.full((1, 1, 1, 1), float(value)) for value in range(1, 5))
    predictor(Network(), degraded, mask, self_condition=True)(x, (5, 6), previous)
    predictor(Network(), degraded, self_condition=True)(x, (5, 6))
    predictor(Network())(x, (5, 6))
    assert [images for images, _ in seen] == [[4.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0], [1.0]]
    assert seen[0][1] == (5, 6)


def test_what_cannot_be_seen_can_be_given() -> None:
    state = build(RddmConfig("single", channels=6, in_channels=6, **SMALL)).state_dict()
    assert config_from_state_dict(state).channels == 3
    assert config_from_state_dict(state, channels=6, heads_per_network=1).channels == 6
    assert config_from_state_dict(state, groups=4).groups == 4
    with pytest.raises(ModelError, match="unknown option"):
        config_from_state_dict(state, width=4)


def test_other_weights_are_refused_with_what_is_missing() -> None:
    with pytest.raises(ModelError, match="init_conv"):
        config_from_state_dict({"conv.weight": torch.zeros(1)})
    state = build(VARIANTS["single"]).state_dict()
    del state["unet0.downs.1.3.weight"]
    with pytest.raises(ModelError, match=r"downs\.1\.3"):
        config_from_state_dict(state)


@pytest.mark.parametrize(
    "options",
    [
        {"layout": "three"},
        {"layout": "two", "heads_per_network": 2},
        {"dim": 12},
        {"dim_mults": ()},
        {"in_channels": 7},
    ],
)
def test_an_impossible_network_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"layout|heads_per_network|dim|in_channels"):
        RddmConfig(**options)


class Chain(torch.nn.Module):
    """A sampler around a network of two heads that has next to nothing in it, as an exporter would unroll them."""

    def __init__(self, sampler: Any, options: dict[str, Any]) -> None:
        super().__init__()
        self.network = torch.nn.Conv2d(6, 6, 3, padding=1)
        self.schedule = rddm_schedules.power(1000)
        self.sampler, self.options = sampler, options

    def forward(self, image: Any, noise: Any) -> Any:
        def network(x: Any, *times: Any) -> Any:
            residual, noise = self.network(x).chunk(2, dim=1)
            return residual + times[0] / 1000, noise - times[1] / 1000

        bounded = rddm.Reading(time="cumulative", clip_clean=(-1.0, 1.0))
        predict = predictor(network, image)  # type: ignore[arg-type]
        restored: Any = self.sampler(predict, image, noise.transpose(0, 1), self.schedule, bounded, **self.options)
        return restored


def sizes(side: int, *axes: int) -> Any:
    """Dynamic shapes of images whose first size, and height and width from each axis on, are free."""
    n, h, w = torch.export.Dim("n"), torch.export.Dim("h"), torch.export.Dim("w")
    return tuple({0: n, axis: side * h, axis + 1: side * w} for axis in axes)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("sampler", "options"),
    [
        (rddm.sample, {"times": 2, "eta": 1.0}),
        (rddm_paths.sample_decoupled, {"times": 2, "eta": 1.0}),
        (rddm_paths.sample_decoupled, {"times": 2, "as_published": True}),
    ],
)
def test_an_unrolled_sampler_is_traced_once_for_all_sizes(sampler: Any, options: dict[str, Any]) -> None:
    chain = Chain(sampler, options).eval()
    inputs = (torch.zeros(2, 3, 8, 12), torch.zeros(2, 2, 3, 8, 12))
    traced = torch.export.export(chain, inputs, dynamic_shapes=sizes(2, 2, 3)).module()
    for n, height, width in ((1, 16, 10), (3, 6, 8)):
        image, noise = torch.randn(n, 3, height, width), torch.randn(n, 2, 3, height, width)
        with torch.no_grad():
            torch.testing.assert_close(traced(image, noise), chain(image, noise), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_network_is_traced_once_for_all_sizes() -> None:
    network = build(VARIANTS["shared"]).eval()

    class AtOneTime(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Any) -> Any:
            return self.network(x, 499, 30.5)

    with torch.no_grad():
        traced = torch.export.export(AtOneTime(), (torch.zeros(2, 6, 8, 12),), dynamic_shapes=sizes(2, 2)).module()
        for n, height, width in ((1, 16, 10), (3, 6, 8)):
            x = torch.randn(n, 6, height, width)
            for found, expected in zip(traced(x), network(x, 499, 30.5), strict=True):
                torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
