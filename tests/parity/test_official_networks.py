"""The official networks against arrays made with the authors' code; every option comes from the files beside them.

The folder is the environment variable RESTONNX_PARITY, by default ../shared/parity beside the checkout.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason='official networks need torch: pip install "restonnx[train]"')

import torch
from torch import Tensor, nn

from restonnx.diffusion import resshift
from restonnx.diffusion.schedules import ShiftSchedule, exponential, respace
from restonnx.onnx_export.official import load, read_published
from restonnx.onnx_export.official_graphs import LatentResShift
from restonnx.training.networks.official import adm_unet, resshift_unet, vq

ROOT = Path(os.environ.get("RESTONNX_PARITY", Path(__file__).parents[3] / "shared" / "parity"))
CLOSE = {"rtol": 0, "atol": 1e-4}
Arrays = dict[str, Any]


def absent(folder: Path) -> Any:
    return pytest.param(None, id="full", marks=pytest.mark.skip(reason=f"no parity vectors at {folder}"))


def files(family: str, pattern: str) -> list[Any]:
    """The JSON files of one kind; the arrays and weights bear their names."""
    found = sorted((ROOT / family).glob(pattern))
    return [pytest.param(path, id=path.stem) for path in found] or [absent(ROOT / family)]


def adms() -> list[Any]:
    file = ROOT / "dcdp" / "unets.npz"
    if not file.exists():
        return [absent(file.parent)]
    with np.load(file) as content:
        names = [key.removesuffix("_kwargs") for key in content if key.endswith("_kwargs")]
    assert names
    return [pytest.param(name, id=name) for name in names]


def arrays(path: Path) -> Arrays:
    return dict(np.load(path))


def tensor(values: Any) -> Tensor:
    return torch.from_numpy(np.asarray(values))


def resshift_network(path: Path) -> nn.Module:
    config = resshift_unet.from_official(json.loads(path.read_text())["config"])
    state = read_published(path.with_suffix(".safetensors"))
    if config.cond_lq:  # what the weights alone show is enough to load them
        load(resshift_unet.build(resshift_unet.config_from_state_dict(state)), state, path.name)
    return load(resshift_unet.build(config), state, path.name)


def autoencoder(path: Path) -> nn.Module:
    config = vq.from_official(json.loads(path.read_text())["config"])
    return load(vq.build(config), read_published(path.with_suffix(".safetensors")), path.name)


@pytest.mark.parametrize("path", files("resshift", "unet*.json"))
def test_resshifts_network_equals_the_authors(path: Path) -> None:
    network = resshift_network(path)
    described = json.loads(path.read_text())["state_dict"]
    assert {name: list(value.shape) for name, value in network.state_dict().items()} == {
        name: shape for name, (shape, _) in described.items()
    }
    expected = arrays(path.with_name(f"{path.stem}_io.npz"))
    cases = {key.split("/")[0] for key in expected if key.endswith("/out")}
    assert cases
    for case in cases:
        inputs = {
            name: tensor(expected[f"{case}/{name}"])
            for name in ("x", "timesteps", "lq", "mask")
            if f"{case}/{name}" in expected
        }
        inside, hooks = watch(network, [key.split("/")[2] for key in expected if key.startswith(f"{case}/act/")])
        with torch.no_grad():
            out = network(**inputs)
        for hook in hooks:
            hook.remove()
        np.testing.assert_allclose(out, expected[f"{case}/out"], err_msg=case, **CLOSE)
        for name, value in inside.items():
            wanted = expected[f"{case}/act/{name}"]
            np.testing.assert_allclose(value[:, : wanted.shape[1]], wanted, err_msg=f"{case} {name}", **CLOSE)


def watch(network: nn.Module, names: list[str]) -> tuple[dict[str, Tensor], list[Any]]:
    """What the named modules give, filled in when the network runs."""
    inside: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, args, out: inside.__setitem__(name, out)

    return inside, [network.get_submodule(name).register_forward_hook(keep(name)) for name in names]


@pytest.mark.parametrize("path", files("resshift", "vq*.json"))
def test_the_autoencoder_equals_the_authors(path: Path) -> None:
    network, expected = autoencoder(path), arrays(path.with_name(f"{path.stem}_io.npz"))
    with torch.no_grad():
        latent = network.encode(tensor(expected["x"]))
        values, indices = network.quantize(tensor(expected["encode"]))
        entry = network.quantize.entry(tensor(expected["indices"]).reshape(len(latent), *latent.shape[2:]))
        found = {
            "encoder_out": network.encoder(tensor(expected["x"])),
            "encode": latent,
            "quantized": values,
            "codebook_entry": entry,
            "decode": network.decode(latent),
            "decode_not_quantized": network.decode(latent, force_not_quantize=True),
            "quant_loss": vq.quantization_loss(tensor(expected["encode"]), entry),
        }
    np.testing.assert_array_equal(indices, expected["indices"])
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], err_msg=name, **CLOSE)


@pytest.mark.parametrize("name", adms())
def test_adm_and_the_consistency_network_equal_the_authors(name: str) -> None:
    expected = arrays(ROOT / "dcdp" / "unets.npz")
    config = adm_unet.from_create_model(json.loads(str(expected[f"{name}_kwargs"])), consistency=name.startswith("cm"))
    state = read_published(ROOT / "dcdp" / f"{name}_unet.safetensors")
    network = load(adm_unet.build(config), state, name)
    keys = (f"{name}_{key}" for key in ("y", "classes", "labels", "label"))
    classes = next((expected[key] for key in keys if key in expected), None)
    with torch.no_grad():
        out = network(
            tensor(expected[f"{name}_x"]),
            tensor(expected[f"{name}_t"]),
            None if classes is None else tensor(classes).long(),
        )
    np.testing.assert_allclose(out, expected[f"{name}_out"], **CLOSE)


@pytest.mark.parametrize("path", files("resshift", "pipeline*.json"))
def test_latent_resshift_equals_the_authors_from_image_to_image(path: Path) -> None:
    options, expected = json.loads(path.read_text())["diffusion"], arrays(path.with_suffix(".npz"))
    network, coder = resshift_network(path.with_name("unet.json")), autoencoder(path.with_name("vq.json"))
    schedule, reading = schedule_of(options), reading_of(options)
    scale = options["scale_factor"]
    graph = LatentResShift(network, coder, schedule, options["sf"], reading=reading, latent_scale=scale)
    low = tensor(expected["y"])
    noise = tensor(np.concatenate([expected["noise_prior"][None], expected["noise_steps"]]))
    mask = tensor(expected["mask"]) if "mask" in expected else None
    with torch.no_grad():
        chain = graph.chain(low, noise, mask)
        np.testing.assert_allclose(chain, expected["z_seq"][-1], **CLOSE)
        np.testing.assert_allclose(graph.decode(chain), expected["final_decoded"], **CLOSE)
        if mask is None:  # from the range of files to that of files
            restored = graph((low + 1) / 2, noise.transpose(0, 1))
            np.testing.assert_allclose(2 * restored - 1, expected["final_decoded"].clip(-1, 1), **CLOSE)

        latent, t = scale * coder.encode(tensor(expected["gt"])), tensor(expected["train_t"])
        start, drawn = tensor(expected["z_y"]), tensor(expected["train_noise"])
        z_t = resshift.forward(latent, start, drawn, schedule, t)
        scaled = resshift.scale_input(z_t, schedule, t, reading.normalize)
        output = network(scaled, resshift.at_index(schedule, t), low, mask)
        wanted = resshift.target(latent, start, drawn, schedule, t, reading.parameterisation)
        clean = resshift.clean_from(output, z_t, start, schedule, t, reading.parameterisation)
        found = {
            "z_0": latent,
            "train_z_t": z_t,
            "train_pred_z0": clean,
            "train_x0_pred_decoded": graph.decode(clean),
            "train_mse": resshift.squared_error(
                output, wanted, schedule, t, reading.parameterisation, weighted=options["weighted_mse"]
            ),
        }
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], err_msg=name, **CLOSE)


def schedule_of(options: dict[str, Any]) -> ShiftSchedule:
    assert options.get("schedule_name", "exponential") == "exponential"
    full = exponential(
        options["steps"],
        kappa=options["kappa"],
        min_noise_level=options["min_noise_level"],
        etas_end=options["etas_end"],
        power=options["schedule_kwargs"],
    )
    respacing = options.get("timestep_respacing")
    return respace(full, int(respacing)) if respacing else full


def reading_of(options: dict[str, Any]) -> resshift.Reading:
    if not options.get("normalize_input", True):
        return resshift.Reading(options["predict_type"], "none")
    return resshift.Reading(options["predict_type"], "latent" if options["latent_flag"] else "pixel")
