"""RDDM's U-Nets against outputs and activations of the authors' code; the weights themselves tell the architecture.

The vectors' folder is that of test_rddm.py; the weights are too large for the excerpt.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from parity.rddm_vectors import FOLDERS, Folder, cases, groups, under


def load_network(folder: Folder, name: str) -> Any:
    """The network of unet_<name>*.safetensors; "single" is the first of the two where it has no file of its own."""
    pytest.importorskip("torch")
    from safetensors.torch import load_file

    from restonnx.training.networks.official import rddm_unet

    files = sorted(folder.path.glob(f"unet_{name}*.safetensors")) or sorted(folder.path.glob("unet_two*.safetensors"))
    state = {key: tensor.float() for key, tensor in load_file(files[0]).items()}
    if name == "single":
        state = {key: tensor for key, tensor in state.items() if key.startswith("unet0.")}
    state = rddm_unet.network_state(state)
    network = rddm_unet.build(rddm_unet.config_from_state_dict(state))
    network.load_state_dict(state, strict=True)
    return network.eval()


@pytest.mark.parametrize(("folder", "name"), cases("unet_io", groups(r"([^/]+/(?!act)[^/]+)/out\w*")))
def test_networks_give_the_authors_outputs(folder: Folder, name: str) -> None:
    torch = pytest.importorskip("torch")
    arrays = folder.arrays("unet_io")
    which, version = name.split("/")
    network = load_network(folder, which)
    times = [arrays["t"], arrays["t"]] if version.startswith("E2") else [arrays["time_res"], arrays["time_noise"]]
    if version.endswith("pred_noise"):
        times.reverse()
    x = torch.from_numpy(arrays[f"x{network.config.in_channels}"])
    with torch.no_grad():
        outputs = network(x, *map(torch.from_numpy, times))
    found = {"out": torch.cat(outputs, dim=1), "out_res": outputs[0], "out_noise": outputs[-1]}
    expected = under(arrays, name)
    assert expected
    for key, values in expected.items():
        np.testing.assert_allclose(found[key], values, rtol=1e-5, atol=1e-4, err_msg=key)


@pytest.mark.parametrize(("folder", "name"), cases("unet_io", groups(r"([^/]+)/act/.*")))
def test_every_stored_activation_equals_the_authors(folder: Folder, name: str) -> None:
    torch = pytest.importorskip("torch")
    arrays = folder.arrays("unet_io")
    network, expected, found = load_network(folder, name), under(arrays, f"{name}/act"), {}
    inner = network.unet0 if hasattr(network, "unet0") else network
    for key in expected:
        inner.get_submodule(key).register_forward_hook(lambda m, args, out, key=key: found.update({key: out}))
    with torch.no_grad():
        network(torch.from_numpy(arrays[f"x{network.config.in_channels}"]), torch.from_numpy(arrays["t"]))
    for key, values in expected.items():
        np.testing.assert_allclose(found[key], values, rtol=1e-5, atol=1e-4, err_msg=key)


@pytest.mark.parametrize("source", FOLDERS)
def test_names_and_shapes_of_weights_are_those_of_the_list(source: str) -> None:
    folder = Folder(FOLDERS[source])
    if not (folder.path / "unet_keys.txt").exists():
        pytest.skip(f"no parity vectors at {folder.path}; set RESTONNX_PARITY")
    lines = (folder.path / "unet_keys.txt").read_text().splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("#")]
    for begin, end in pairwise([*starts, len(lines)]):
        name = lines[begin].split()[1]
        state = load_network(folder, name).state_dict()
        shapes = [f"{key} {tuple(tensor.shape)}" for key, tensor in state.items()]
        assert sorted(shapes) == sorted(line.strip() for line in lines[begin + 1 : end] if line.strip())
