"""A real restoring graph of a few hundred bytes for the tests of everything above the model file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restonnx.model import METADATA_KEY, Metadata

if TYPE_CHECKING:
    import onnx

WIDTH_OF_SLOW_CONVOLUTIONS = 32
EXTRA = ("noise_level", "mask", "kernel", "reference")
"""Roles of the further inputs that a tiny model can have; their names there are x_noise_level and so on."""


def tiny_model(
    path: Path | str,
    *,
    name: str = "tiny",
    channels: int = 3,
    draws: int = 2,
    scale: int = 1,
    multiple: int = 4,
    halo: int = 8,
    preferred: int = 64,
    family: str = "resshift",
    domain: str | None = None,
    blur: bool = True,
    fail: str | None = None,
    convs: int = 0,
    extra: tuple[str, ...] = (),
    noise_channels: int | None = None,
    noise_stride: int = 1,
    whole: bool = False,
    metadata: dict[str, Any] | None = None,
) -> Path:
    """Write a model that averages over two 3x3 neighbourhoods and adds 0.01 times the sum of the noise draws.

    The convolutions pad with zeros, so the true receptive radius is 2 pixels (`halo_exact`), and pixels at
    the image's border differ from those inside. Sides that are no multiple of `multiple` make ONNX Runtime
    fail, as they do with real networks.

    path: the file to write, or a folder (then <name>.onnx in it).
    domain: None is display_rgb for 3 channels, else display_gray.
    blur: False leaves the image as it is (identity convolutions).  fail: "nan" makes every output value NaN.
    convs: this many extra convolutions of 32 channels that change nothing, each some 15 ms per 256x256 pixels
        on a core.
    extra: roles of further inputs. The image is multiplied with the mask, so that missing pixels become 0; then the
        noise level is added, and the kernel's first value, and at the size of the result the reference.
    noise_channels, noise_stride: as in the sampler's metadata. The channels of such noise are averaged for all of the
        image's, and each of its pixels repeated.
    whole: the mode "overlap": the mean over the whole tile is added to the result, so that tiles differ.
    metadata: entries that replace those of the stored metadata, unchecked, nested dictionaries merged.
    """
    import onnx

    path = Path(path)
    if path.is_dir():
        path = path / f"{name}.onnx"
    latent = (noise_channels, noise_stride)
    model = tiny_graph(channels, draws, scale, multiple, blur, fail, convs, extra=extra, latent=latent, whole=whole)
    domain = domain or ("display_rgb" if channels == 3 else "display_gray")
    props = tiny_metadata(
        name=name,
        channels=channels,
        draws=draws,
        scale=scale,
        multiple=multiple,
        halo=halo,
        preferred=preferred,
        family=family,
        domain=domain,
        extra=extra,
        mode="overlap" if whole else "halo",
    )
    if noise_channels is not None or noise_stride > 1:
        props["sampler"] |= {"noise_channels": noise_channels, "noise_stride": noise_stride}
    Metadata.model_validate(props)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, _json(_merged(props, metadata or {}))
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(str(path))
    return path


def tiny_metadata(
    *,
    name: str = "tiny",
    channels: int = 3,
    draws: int = 2,
    scale: int = 1,
    multiple: int = 4,
    halo: int = 8,
    preferred: int = 64,
    family: str = "resshift",
    domain: str = "display_rgb",
    extra: tuple[str, ...] = (),
    mode: str = "halo",
) -> dict[str, Any]:
    """The metadata of `tiny_model` as the dictionary that is stored as JSON; valid as it stands."""
    inputs = [{"name": "image", "role": "image"}, {"name": "noise", "role": "noise"}]
    plain = {
        "schema": 1,
        "name": name,
        "title": f"{name.capitalize()} for tests",
        "version": "1.0",
        "task": "denoise",
        "description": "Averages over two 3x3 neighbourhoods.",
        "sampler": {"family": family, "steps": max(draws, 1), "draws": draws, "kappa": 0.3, "options": {}},
        "domain": domain,
        "channels": channels,
        "range": [0.0, 1.0],
        "scale": scale,
        "inputs": inputs[: 2 if draws else 1] + [{"name": f"x_{role}", "role": role} for role in extra],
        "tile": {"mode": mode, "multiple": multiple, "halo": halo, "halo_exact": 2, "preferred": preferred},
        "precision": "float32",
        "licence": "Apache-2.0",
        "authors": ["restonnx"],
        "training_data": [],
        "recipe": "none",
        "recipe_hash": "",
        "network": {"kind": "tiny"},
        "measured": {},
        "parent": None,
    }
    Metadata.model_validate(plain)
    return plain


def tiny_graph(
    channels: int,
    draws: int,
    scale: int,
    multiple: int,
    blur: bool,
    fail: str | None,
    convs: int,
    *,
    extra: tuple[str, ...] = (),
    latent: tuple[int | None, int] = (None, 1),
    whole: bool = False,
) -> onnx.ModelProto:
    """The graph without metadata, for tests that make a broken one of it."""
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[onnx.NodeProto] = []
    constants: dict[str, np.ndarray] = {}
    last = "image"

    def then(kind: str, *others: str, **options: Any) -> None:
        """Append a node that takes the last result and `others`."""
        nonlocal last
        result = f"{kind.lower()}_{len(nodes)}"
        nodes.append(helper.make_node(kind, [last, *others], [result], **options))
        last = result

    average = np.full((3, 3), 1 / 9, np.float32) if blur else _delta()
    constants["average"] = _channelwise(channels, channels, average)
    for _ in range(2):
        then("Conv", "average", pads=[1, 1, 1, 1])
    if convs:
        width = WIDTH_OF_SLOW_CONVOLUTIONS
        constants["widen"] = _channelwise(width, channels, _delta())
        constants["keep"] = _channelwise(width, width, _delta())
        constants["narrow"] = _channelwise(channels, width, _delta())
        for weights in ["widen", *["keep"] * convs, "narrow"]:
            then("Conv", weights, pads=[1, 1, 1, 1])
    if multiple > 1:  # changes nothing, but refuses other sides
        then("SpaceToDepth", blocksize=multiple)
        then("DepthToSpace", blocksize=multiple)
    if "mask" in extra:
        then("Mul", "x_mask")
    if "noise_level" in extra:
        then("Add", "x_noise_level")
    if "kernel" in extra:
        constants |= {"first": np.zeros(2, np.int64), "second": np.ones(2, np.int64), "sides": np.array([2, 3])}
        nodes.append(helper.make_node("Slice", ["x_kernel", "first", "second", "sides"], ["corner"]))
        then("Add", "corner")
    if whole:
        nodes.append(helper.make_node("ReduceMean", [last, "spatial"], ["mean"]))
        constants["spatial"] = np.array([2, 3], np.int64)
        then("Add", "mean")
    enlarge = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if scale > 1:
        constants["scales"] = np.array([1, 1, scale, scale], np.float32)
        then("Resize", "", "scales", **enlarge)
    if "reference" in extra:
        then("Add", "x_reference")
    if draws:
        constants["axis"] = np.array([1], np.int64)
        constants["gain"] = np.array(0.01, np.float32)
        nodes.append(helper.make_node("ReduceSum", ["noise", "axis"], ["noise_sum"], keepdims=0))
        nodes.append(helper.make_node("Mul", ["noise_sum", "gain"], ["noise_scaled"]))
        added = "noise_scaled"
        if latent[0] is not None:
            nodes.append(helper.make_node("ReduceMean", [added, "axis"], ["noise_mean"]))
            added = "noise_mean"
        if latent[1] > 1:
            constants["strides"] = np.array([1, 1, latent[1], latent[1]], np.float32)
            nodes.append(helper.make_node("Resize", [added, "", "strides"], ["noise_large"], **enlarge))
            added = "noise_large"
        then("Add", added)
    if fail == "nan":
        constants["nan"] = np.array(np.nan, np.float32)
        then("Add", "nan")
    elif fail is not None:
        raise ValueError(f'fail must be None or "nan", not {fail!r}')
    nodes.append(helper.make_node("Identity", [last], ["restored"]))

    out = ["batch", channels, "height", "width"] if scale == 1 else ["batch", channels, "out_height", "out_width"]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", channels, "height", "width"])]
    if draws:
        shape = [out[0], draws, *out[1:]]
        if latent != (None, 1):
            shape = ["batch", draws, latent[0] or channels, "latent_height", "latent_width"]
        inputs.append(helper.make_tensor_value_info("noise", TensorProto.FLOAT, shape))
    forms: dict[str, list[Any]] = {
        "noise_level": ["batch", 1, 1, 1],
        "mask": ["batch", 1, "height", "width"],
        "kernel": ["batch", 1, "kernel_height", "kernel_width"],
        "reference": out,
    }
    for role in extra:
        inputs.append(helper.make_tensor_value_info(f"x_{role}", TensorProto.FLOAT, forms[role]))
    outputs = [helper.make_tensor_value_info("restored", TensorProto.FLOAT, out)]
    initialisers = [numpy_helper.from_array(value, key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initialisers)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10, producer_name="restonnx tests"
    )


def _delta() -> np.ndarray:
    kernel = np.zeros((3, 3), np.float32)
    kernel[1, 1] = 1
    return kernel


def _channelwise(out: int, into: int, kernel: np.ndarray) -> np.ndarray:
    """Weights (out, into, 3, 3) that apply `kernel` to each channel alone; added channels are zero."""
    return np.eye(out, into, dtype=np.float32)[:, :, None, None] * kernel


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if nested else value
    return merged


def _json(value: dict[str, Any]) -> str:
    import json

    return json.dumps(value)
