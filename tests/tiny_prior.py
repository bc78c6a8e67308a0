"""A denoiser of a few hundred bytes that is told the noise level, for the tests of what needs a prior."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from tiny_model import tiny_metadata

from restonnx.model import METADATA_KEY, Metadata

SIGNAL = 0.02
"""Of the prior's range: standard deviation that it takes an image's details to have."""


def tiny_prior(
    path: Path, *, channels: int = 3, black: float = -1.0, white: float = 1.0, multiple: int = 4, preferred: int = 64
) -> Path:
    """Write a model that keeps the local mean and shrinks the details around it as Wiener's filter does:

    mean + (image - mean) s^2 / (s^2 + noise_level^2),  mean: a blur of 9 x 9 pixels,  s: SIGNAL times the range.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    profile = np.exp(-0.5 * (np.arange(-4, 5) / 2.0) ** 2)
    kernel = np.outer(profile, profile) / profile.sum() ** 2
    constants = {
        "weights": (np.eye(channels)[:, :, None, None] * kernel).astype(np.float32),
        "signal": np.array((SIGNAL * (white - black)) ** 2, np.float32),
        "pads": np.array([0, 0, 4, 4, 0, 0, 4, 4], np.int64),
    }
    nodes = [
        helper.make_node("SpaceToDepth", ["image"], ["packed"], blocksize=multiple),  # refuses other sides
        helper.make_node("DepthToSpace", ["packed"], ["whole"], blocksize=multiple),
        helper.make_node("Pad", ["whole", "pads"], ["padded"], mode="edge"),
        helper.make_node("Conv", ["padded", "weights"], ["mean"]),
        helper.make_node("Mul", ["sigma", "sigma"], ["variance"]),
        helper.make_node("Add", ["variance", "signal"], ["total"]),
        helper.make_node("Div", ["signal", "total"], ["gain"]),
        helper.make_node("Sub", ["whole", "mean"], ["detail"]),
        helper.make_node("Mul", ["detail", "gain"], ["kept"]),
        helper.make_node("Add", ["mean", "kept"], ["restored"]),
    ]
    shape = ["batch", channels, "height", "width"]
    inputs = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, shape),
        helper.make_tensor_value_info("sigma", TensorProto.FLOAT, ["batch", 1, 1, 1]),
    ]
    outputs = [helper.make_tensor_value_info("restored", TensorProto.FLOAT, shape)]
    initialisers = [numpy_helper.from_array(value, key) for key, value in constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "tiny", inputs, outputs, initialisers),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    domain = "display_rgb" if channels == 3 else "display_gray"
    props: dict[str, Any] = tiny_metadata(
        name=path.stem,
        channels=channels,
        draws=0,
        multiple=multiple,
        preferred=preferred,
        family="direct",
        domain=domain,
    )
    props |= {"range": [black, white]}
    props["inputs"] = [{"name": "image", "role": "image"}, {"name": "sigma", "role": "noise_level"}]
    Metadata.model_validate(props)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(props)
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(str(path))
    return path
