"""The engines of `engines.py --device cuda`: what restonnx does there, what else ONNX Runtime could do, and torch.

To `cuda` and `cuda-tiles` the image comes from the host. All others keep their tensors on the device and know the size
beforehand, so that they time the graph alone. Where CUDA does not run each says why, and is left out.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from engine_feeds import Feeds, Run, feeds, module, whole, with_tiles

from restonnx.session import CUDA_OPTIONS

Make = Callable[[Path, int, int], Run]
CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
NHWC, EXHAUSTIVE = {"prefer_nhwc": "1"}, {"cudnn_conv_algo_search": "EXHAUSTIVE"}
PRODUCT, COPIED = 8192, 2**30
"""Side of the matrices, bytes."""


def bound(
    model: Path, side: int, options: dict[str, str], *, half: bool = False, provider: str = CUDA, device: str = "cuda"
) -> Run:
    """The graph in ONNX Runtime for one size, its tensors on the device. half: its sums and products in float16."""
    import onnxruntime

    from restonnx import load_model

    if device == "cuda":
        refuse_without_cuda()
    meta, given = load_model(model).metadata, feeds(model, side)
    settings = onnxruntime.SessionOptions()
    for name, size in _sizes(model, given).items():
        settings.add_free_dimension_override_by_name(name, size)
    content = in_half(model) if half else model.read_bytes()
    chosen: list[Any] = [(provider, options), "CPUExecutionProvider"] if device == "cuda" else ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(content, settings, providers=chosen)
    if session.get_providers()[0] != (provider if device == "cuda" else chosen[0]):
        raise SystemExit(f"ONNX Runtime could not start {provider}")
    binding, value = session.io_binding(), onnxruntime.OrtValue
    for name, array in given.items():
        binding.bind_ortvalue_input(name, value.ortvalue_from_numpy(array, device, 0))
    shape = [1, meta.channels, side * meta.scale, side * meta.scale]
    restored = value.ortvalue_from_shape_and_type(shape, np.float32, device, 0)
    binding.bind_ortvalue_output("restored", restored)

    def run() -> Any:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return restored

    return run


def in_half(model: Path) -> bytes:
    """The graph in float16 between a float32 input and output."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    from restonnx.onnx_export.precision import fold

    half: bytes = convert_float_to_float16(fold(model.read_bytes()), keep_io_types=True).SerializeToString()
    return half


def torch_steps(model: Path, side: int, *, half: bool, compiled: bool = False, device: str = "cuda") -> Run:
    """The step loop in torch, channels last."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    kind = torch.float16 if half else torch.float32
    chain = module(model).to(device, kind, memory_format=torch.channels_last)
    call = torch.compile(chain) if compiled else chain
    given = [torch.from_numpy(value).to(device, kind) for value in feeds(model, side).values()]
    given[0] = given[0].contiguous(memory_format=torch.channels_last)

    def run() -> Any:
        with torch.no_grad():
            restored = call(*given)
        if device == "cuda":
            torch.cuda.synchronize()
        return restored

    return run


def product(kind: str) -> Make:
    """A matrix product of PRODUCT^3 multiply-adds."""

    def make(model: Path, side: int, threads: int) -> Run:
        import torch

        if not torch.cuda.is_available():
            raise SystemExit("torch sees no CUDA device")
        a, b = torch.randn(2, PRODUCT, PRODUCT, device="cuda", dtype=getattr(torch, kind))
        out = torch.empty_like(a)
        return lambda: _waited(torch.mm(a, b, out=out))

    return make


def copy(model: Path, side: int, threads: int) -> Run:
    """COPIED bytes read and as many written."""
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device")
    source = torch.randint(0, 255, (COPIED,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return lambda: _waited(target.copy_(source))


ENGINES: dict[str, Make] = {
    "cuda": lambda *given: whole(*given, device="cuda"),
    "cuda-tiles": lambda *given: with_tiles(*given, device="cuda"),
    "cuda-bound": lambda model, side, _: bound(model, side, CUDA_OPTIONS),
    "cuda-exhaustive": lambda model, side, _: bound(model, side, CUDA_OPTIONS | EXHAUSTIVE),
    "cuda-nhwc": lambda model, side, _: bound(model, side, CUDA_OPTIONS | NHWC),
    "cuda-tf32": lambda model, side, _: bound(model, side, CUDA_OPTIONS | {"use_tf32": "1"}),
    "cuda-half": lambda model, side, _: bound(model, side, CUDA_OPTIONS, half=True),
    "cuda-half-nhwc": lambda model, side, _: bound(model, side, CUDA_OPTIONS | NHWC, half=True),
    "cuda-half-nhwc-exhaustive": lambda model, side, _: bound(model, side, CUDA_OPTIONS | NHWC | EXHAUSTIVE, half=True),
    "cuda-half-nhwc-graph": lambda model, side, _: bound(
        model, side, CUDA_OPTIONS | NHWC | {"enable_cuda_graph": "1"}, half=True
    ),
    "tensorrt-half": lambda model, side, _: bound(model, side, {"trt_fp16_enable": "1"}, provider=TENSORRT),
    "torch-cuda": lambda model, side, _: torch_steps(model, side, half=False),
    "torch-cuda-half": lambda model, side, _: torch_steps(model, side, half=True),
    "torch-cuda-half-compile": lambda model, side, _: torch_steps(model, side, half=True, compiled=True),
}
PEAKS: dict[str, tuple[Make, float]] = {
    "product-float32": (product("float32"), PRODUCT**3 / 1e9),
    "product-float16": (product("float16"), PRODUCT**3 / 1e9),
}
"""With the GMAC of a run."""
COPIES: dict[str, tuple[Make, float]] = {"copy": (copy, 2 * COPIED / 1e9)}
"""With the gigabytes of a run."""
EVERY: dict[str, Make] = ENGINES | {name: make for name, (make, _) in (PEAKS | COPIES).items()}


def refuse_without_cuda() -> None:
    from restonnx.providers import cuda_problem

    if problem := cuda_problem():
        raise SystemExit(problem)


def device_mb() -> int | None:
    """Memory of the first device that is in use, by all processes; None where the driver's tool does not say."""
    asked = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    try:
        return int(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[0])
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
        return None


def _sizes(model: Path, given: Feeds) -> dict[str, int]:
    """What the graph's named dimensions are."""
    import onnx

    sizes = {}
    for value in onnx.load(model).graph.input:
        for dimension, size in zip(value.type.tensor_type.shape.dim, given[value.name].shape, strict=True):
            if dimension.dim_param:
                sizes[dimension.dim_param] = size
    return sizes


def _waited(_: object) -> None:
    """Until the device has done what it was asked to; what that gives is of no interest."""
    import torch

    torch.cuda.synchronize()
