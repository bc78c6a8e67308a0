from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason='exporting needs torch: pip install "restonnx[train]"')

import torch
from safetensors.torch import save_file
from tiny_published import RESSHIFT, VQ, traced_once
from torch import Tensor, nn

from restonnx.diffusion.consistency import Preconditioning
from restonnx.diffusion.resshift import Reading, sample
from restonnx.diffusion.schedules import exponential
from restonnx.errors import InputError, ModelError
from restonnx.onnx_export import parts
from restonnx.onnx_export.freeze import compare, to_onnx
from restonnx.onnx_export.official import read_published, recognise
from restonnx.onnx_export.official_graphs import PUBLISHED, AdmDenoiser, ConsistencyDenoiser, LatentResShift
from restonnx.training.networks.official import adm_unet, resshift_unet, vq
from restonnx.training.networks.official.adm_unet import AdmConfig

ADM = AdmConfig(
    model_channels=32, channel_mult=(1, 1), num_res_blocks=1, attention_resolutions=(), num_head_channels=16
)
CONSISTENCY = replace(ADM, attention_dims=2, use_new_attention_order=True, use_scale_shift_norm=False)
SCHEDULE = exponential(2, kappa=2.0, min_noise_level=0.2)
ALPHAS = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), dim=0)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def built(module: Any, config: Any) -> Any:
    """The network with random weights in every place, zero-initialised ones too."""
    torch.manual_seed(0)
    network: nn.Module = module.build(config).eval()
    for i, parameter in enumerate(network.parameters()):
        parameter.data += 0.05 * drawn(*parameter.shape, seed=i)
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def adm() -> dict[str, Tensor]:
    state: dict[str, Tensor] = built(adm_unet, ADM).state_dict()
    return state


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


WRAPPINGS = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"epoch": 3, "state_dict": state},
    "model of several devices": lambda state: {"model": prefixed(state, "module.")},
    "compiled": lambda state: prefixed(state, "_orig_mod."),
    "lightning": lambda state: {"state_dict": prefixed(state, "model."), "epoch": 3},
    "averaged beside the last": lambda state: {"model": {n: 0 * v for n, v in state.items()}, "ema": state},
    "averaged by ema_pytorch": lambda state: {
        "step": 7,
        "ema": {"initted": torch.tensor(True)} | prefixed(state, "ema_model.") | prefixed(state, "online_model."),
    },
}


@pytest.mark.parametrize("wrapping", WRAPPINGS.values(), ids=WRAPPINGS)
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
def test_wrappers_and_prefixes_are_taken_off(
    adm: dict[str, Tensor], tmp_path: Path, wrapping: Any, suffix: str
) -> None:
    torch.save(wrapping(adm), tmp_path / f"file{suffix}")
    found = read_published(tmp_path / f"file{suffix}")
    assert found.keys() == adm.keys()
    assert all(torch.equal(found[name], adm[name]) for name in adm)


def test_safetensors_and_old_torch_files_are_read(adm: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(prefixed(adm, "module."), tmp_path / "file.safetensors")
    torch.save(adm, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert read_published(tmp_path / "file.safetensors").keys() == adm.keys()
    assert read_published(tmp_path / "old.pt").keys() == adm.keys()


class Foreign:
    """What no checkpoint may make us build."""

    built = 0

    def __setstate__(self, state: Any) -> None:
        Foreign.built += 1


def test_python_objects_are_never_unpickled(adm: dict[str, Tensor], tmp_path: Path) -> None:
    foreign = Foreign()
    foreign.__dict__["x"] = 1
    torch.save({"state_dict": adm, "callback": foreign}, tmp_path / "file.pth")
    with pytest.raises(ModelError, match="Foreign") as error:
        read_published(tmp_path / "file.pth")
    assert "never unpickled" in str(error.value)
    assert "\n" not in str(error.value)
    assert Foreign.built == 0


@pytest.mark.parametrize("name", ["file.pth", "file.safetensors", "old.pt"])
@pytest.mark.parametrize("kept", [0, 10, 2000, -500])
def test_a_damaged_file_is_refused_in_one_line(adm: dict[str, Tensor], tmp_path: Path, name: str, kept: int) -> None:
    path = tmp_path / name
    if path.suffix == ".safetensors":
        save_file(adm, path)
    else:
        torch.save(adm, path, _use_new_zipfile_serialization=path.suffix == ".pth")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelError, match=name) as error:
        read_published(path)
    assert "\n" not in str(error.value)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint"):
        read_published(tmp_path / "absent.pth")
    (tmp_path / "file.txt").write_text("weights")
    with pytest.raises(InputError, match=r"\.pth"):
        read_published(tmp_path / "file.txt")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="no weights by name, but a list"):
        read_published(tmp_path / "list.pth")
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "numbers.pth")
    with pytest.raises(ModelError, match="the entries epoch, lr"):
        read_published(tmp_path / "numbers.pth")


@pytest.mark.parametrize(
    ("kind", "module", "config", "overrides"),
    [
        ("adm", adm_unet, ADM, {"num_head_channels": 16}),
        ("adm", adm_unet, replace(ADM, num_head_channels=-1, num_heads=4), {"num_heads": 4}),
        ("consistency", adm_unet, CONSISTENCY, {"num_head_channels": 16}),
        ("resshift", resshift_unet, RESSHIFT, {}),
        ("vq", vq, VQ, {}),
    ],
)
def test_a_network_is_recognised_and_has_its_weights(
    kind: str, module: Any, config: Any, overrides: dict[str, Any]
) -> None:
    original = built(module, config)
    half = {name: v.half() if v.is_floating_point() else v for name, v in original.state_dict().items()}
    network = recognise(half, kind, overrides)
    assert network.config == config
    assert not network.training
    for name, value in network.state_dict().items():
        assert value.dtype == original.state_dict()[name].dtype
        torch.testing.assert_close(value, half[name].to(value.dtype), rtol=0, atol=0)


def test_parts_of_a_latent_diffusion_model_are_found() -> None:
    config = replace(ADM, use_scale_shift_norm=False, num_head_channels=32)
    network, coder = built(adm_unet, config), built(vq, VQ).state_dict()
    last = {name: 0 * value for name, value in network.state_dict().items()}
    averaged = {name.replace(".", ""): value for name, value in network.state_dict().items()}
    state = (
        prefixed(last, "model.diffusion_model.")
        | prefixed(averaged, "model_ema.diffusion_model")
        | prefixed(coder, "first_stage_model.")
        | {"betas": torch.zeros(1000), "first_stage_model.loss.logvar": torch.zeros(())}
    )
    found = recognise(state, "latent-diffusion")
    assert torch.equal(found.state_dict()["out.2.weight"], network.state_dict()["out.2.weight"])
    assert recognise(state, "vq").config == VQ


def test_missing_unexpected_and_misshapen_weights_are_named(adm: dict[str, Tensor]) -> None:
    state = {name: value for name, value in adm.items() if not name.startswith("middle_block.1.")}
    with pytest.raises(ModelError, match=r"6 missing \(middle_block\.1\.norm\.weight, .*, \.\.\.\)"):
        recognise(state, "adm", {"num_head_channels": 16})
    with pytest.raises(ModelError, match=r"1 unexpected \(surplus\)"):
        recognise(adm | {"surplus": torch.zeros(1)}, "adm", {"num_head_channels": 16})
    with pytest.raises(ModelError, match=r"of another shape \(out\.2\.bias \(5,\) in place of \(3,\)\)"):
        recognise(adm | {"out.2.bias": torch.zeros(5)}, "adm", {"num_head_channels": 16})
    with pytest.raises(ModelError, match=r"not finite \(out\.2\.bias\)"):
        recognise(adm | {"out.2.bias": torch.full((3,), torch.nan)}, "adm", {"num_head_channels": 16})


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("resshift", "this is no resshift checkpoint: .*patch_embed"),
        ("vq", "this is no vq checkpoint: .*encoder"),
        ("consistency", "its attention is that of ADM"),
    ],
)
def test_a_file_of_another_kind_is_refused(adm: dict[str, Tensor], kind: str, complaint: str) -> None:
    overrides = {"num_head_channels": 16} if kind == "consistency" else {}
    with pytest.raises(ModelError, match=complaint) as error:
        recognise(adm, kind, overrides)
    assert "\n" not in str(error.value)


def test_unknown_kinds_and_heads_that_cannot_be_are_refused(adm: dict[str, Tensor]) -> None:
    with pytest.raises(InputError, match="adm, consistency"):
        recognise(adm, "gan")
    with pytest.raises(InputError, match="unknown option 'head'"):
        recognise(adm, "adm", {"head": 3})
    with pytest.raises(ModelError, match="set num_head_channels or num_heads"):
        recognise(adm, "adm")  # the published heads have 64 channels, and this network has 32
    other = built(adm_unet, CONSISTENCY).state_dict()
    with pytest.raises(ModelError, match="that of a consistency model"):
        recognise(other, "adm", {"num_head_channels": 16})


def test_a_chain_in_pixels_is_the_sampler_with_the_image_as_its_condition() -> None:
    network = built(resshift_unet, RESSHIFT)
    graph = LatentResShift(network, None, SCHEDULE)
    image, noise = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0)), drawn(2, 2, 3, 8, 12)
    low = 2 * image - 1
    expected = sample(
        lambda x, t: network(x, torch.tensor([t]), low),
        low,
        noise.transpose(0, 1),
        SCHEDULE,
        Reading("xstart", "pixel"),
        clip=(-1.0, 1.0),
    )
    torch.testing.assert_close(graph(image, noise), (expected + 1) / 2)
    assert (graph.draws, graph.stride, graph.multiple) == (2, 1, 4)
    cut = LatentResShift(network, None, SCHEDULE, last=1)
    assert cut.draws == 1
    assert cut(image, noise[:, :1]).shape == image.shape


@pytest.mark.parametrize(("scale", "stages", "noise"), [(2, 0, "H*1"), (1, 1, "H/2")])
def test_the_chain_runs_at_the_size_of_the_latent(scale: int, stages: int, noise: str) -> None:
    network = built(resshift_unet, replace(RESSHIFT, lq_size=8 * 2**stages))
    graph = LatentResShift(network, built(vq, VQ), SCHEDULE, scale)
    assert graph.ports[1].shape == ("N", 2, 3, noise, noise.replace("H", "W"))
    side = graph.multiple
    assert side == (4 if scale == 2 else 8)
    restored = graph(torch.rand(1, 3, side, side), drawn(1, 2, 3, 4, 4))
    assert restored.shape == (1, 3, scale * side, scale * side)
    assert restored.min() >= 0
    assert restored.max() <= 1


def test_a_scale_that_does_not_fit_the_network_is_refused() -> None:
    with pytest.raises(ValueError, match="wants a condition 1 times as large"):
        LatentResShift(built(resshift_unet, RESSHIFT), built(vq, VQ), SCHEDULE, 4)


def test_known_pixels_are_returned_and_missing_ones_are_not_looked_at() -> None:
    network = built(resshift_unet, replace(RESSHIFT, lq_size=16, cond_mask=True))
    graph = LatentResShift(network, built(vq, VQ), SCHEDULE)
    image, noise = torch.rand(1, 3, 16, 16), drawn(1, 2, 3, 8, 8)
    mask = (torch.rand(1, 1, 16, 16) > 0.5).float()
    restored = graph(image, noise, mask)
    torch.testing.assert_close(restored * mask, image * mask)
    torch.testing.assert_close(graph(image * mask, noise, mask), restored)
    assert [port.role for port in graph.ports] == ["image", "noise", "mask"]


def test_the_timestep_is_that_of_the_noise_level() -> None:
    prior = AdmDenoiser(built(adm_unet, ADM), ALPHAS)
    sigmas = (1 / ALPHAS - 1).sqrt().float()
    steps = torch.arange(1000).float()
    torch.testing.assert_close(prior.timestep(sigmas), steps, rtol=0, atol=2e-3)
    torch.testing.assert_close(prior.sigma(steps), sigmas, rtol=1e-5, atol=0)
    between = (sigmas[100] * sigmas[101]).sqrt()
    assert prior.timestep(between).item() == pytest.approx(100.5, abs=2e-3)


@pytest.mark.parametrize("t", [0, 250, 999])
def test_a_network_of_the_noise_is_a_denoiser_by_tweedies_formula(t: int) -> None:
    network = built(adm_unet, replace(ADM, out_channels=6))
    prior, abar = AdmDenoiser(network, ALPHAS), ALPHAS[t].float()
    clean, noise = drawn(2, 3, 8, 8, seed=1), drawn(2, 3, 8, 8, seed=2)
    shrunk = abar.sqrt() * clean + (1 - abar).sqrt() * noise
    epsilon = network(shrunk, torch.full((2,), t))[:, :3]
    expected = (shrunk - (1 - abar).sqrt() * epsilon) / abar.sqrt()
    sigma = (1 / abar - 1).sqrt()
    found = prior(clean + sigma * noise, sigma.expand(2, 1, 1, 1))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * sigma.item())


def test_several_steps_follow_ddim() -> None:
    network = built(adm_unet, replace(ADM, num_classes=3))
    prior = AdmDenoiser(network, ALPHAS, steps=3, label=2)
    x, steps = drawn(1, 3, 8, 8), [600, 400, 200]
    sigmas = [(1 / ALPHAS[t] - 1).sqrt().float() for t in steps]
    for t, sigma, lower in zip(steps, sigmas, [*sigmas[1:], torch.tensor(0.0)], strict=True):
        epsilon = network(x / (1 + sigma**2).sqrt(), torch.tensor([t]), torch.tensor([2]))
        x = x - sigma * epsilon + lower * epsilon
    found = prior(drawn(1, 3, 8, 8), sigmas[0].reshape(1, 1, 1, 1))
    torch.testing.assert_close(found, x, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="at least one step"):
        AdmDenoiser(network, ALPHAS, steps=0)


def test_a_consistency_model_is_read_as_published() -> None:
    network = built(adm_unet, CONSISTENCY)
    x, sigma = drawn(2, 3, 8, 8), torch.tensor([0.5, 20.0]).reshape(2, 1, 1, 1)
    raw = network(x / (sigma**2 + 0.25).sqrt(), 250 * sigma.flatten().log())
    skip, out = 0.25 / ((sigma - 0.002) ** 2 + 0.25), (sigma - 0.002) * 0.5 / (sigma**2 + 0.25).sqrt()
    torch.testing.assert_close(ConsistencyDenoiser(network)(x, sigma), skip * x + out * raw)
    least = torch.full((2, 1, 1, 1), PUBLISHED.sigma_min)
    torch.testing.assert_close(ConsistencyDenoiser(network)(x, least), x)
    teacher = ConsistencyDenoiser(network, Preconditioning(time_scale=250.0))
    assert not torch.allclose(teacher(x, least), x, atol=1e-5)


def graphs() -> dict[str, Any]:
    return {
        "latent x2": lambda: LatentResShift(built(resshift_unet, RESSHIFT), built(vq, VQ), SCHEDULE, 2, last=1),
        "latent with a mask": lambda: LatentResShift(
            built(resshift_unet, replace(RESSHIFT, lq_size=16, cond_mask=True)), built(vq, VQ), SCHEDULE, last=1
        ),
        "pixels": lambda: LatentResShift(built(resshift_unet, RESSHIFT), None, SCHEDULE),
        "adm": lambda: AdmDenoiser(built(adm_unet, ADM), ALPHAS),
        "adm with classes, two steps": lambda: AdmDenoiser(
            built(adm_unet, replace(ADM, num_classes=3, num_res_blocks=(1,), channel_mult=(1,))),
            ALPHAS,
            steps=2,
            label=1,
        ),
        "consistency": lambda: ConsistencyDenoiser(built(adm_unet, CONSISTENCY)),
    }


@pytest.fixture(scope="module")
def each_network_once() -> Iterator[None]:
    with traced_once(parts):
        yield


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", graphs())
@pytest.mark.usefixtures("each_network_once")
def test_the_graph_equals_torch_at_every_size(name: str) -> None:
    graph = graphs()[name]().eval()
    unit = 2 * graph.multiple
    if isinstance(graph, LatentResShift):
        model = graph.to_onnx(unit)
    else:
        model = to_onnx(graph, graph.ports, unit=unit, multiple=graph.multiple)
    assert [value.name for value in model.graph.input] == [port.name for port in graph.ports]
    errors = compare(model.SerializeToString(), graph, graph.ports, unit)
    assert len(errors) > 1
    assert max(errors) < 1e-4
