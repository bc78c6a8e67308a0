"""One engine of benchmarks/engines.py in a process of its own: builds it, then runs it once for every line on stdin.

    python benchmarks/engine_worker.py ENGINE MODEL.onnx SIDE THREADS RESULT.npy

The first answer says that it is ready, every further one is the seconds of a run and those of all its threads together,
as JSON; the last one, after stdin has ended, is the peak memory. The result of the first run is written to RESULT.npy.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import engine_cuda
import numpy as np
from engine_feeds import Run, feeds, module, on_host, whole, with_tiles

SGEMM_SIDE = 2048
CONV_CHANNELS, CONV_SIDE = 64, 512


def main() -> None:
    engine, model, side, threads, result = sys.argv[1:]
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not be taken for an answer
    from restonnx.machine import peak_mb

    on_device = engine not in ENGINES
    used = engine_cuda.device_mb() if on_device else None
    started = time.perf_counter()
    run = (engine_cuda.EVERY if on_device else ENGINES)[engine](Path(model), int(side), int(threads))
    built = time.perf_counter() - started
    started = time.perf_counter()
    restored = run()
    ready: dict[str, Any] = {"build": built, "first": time.perf_counter() - started}
    if used is not None:
        ready["device_mb"] = (engine_cuda.device_mb() or 0) - used
    if result and restored is not None:
        np.save(result, on_host(restored))
    print(json.dumps(ready), file=answers, flush=True)
    for _ in sys.stdin:
        started, worked = time.perf_counter(), time.process_time()
        run()
        print(json.dumps([time.perf_counter() - started, time.process_time() - worked]), file=answers, flush=True)
    print(json.dumps(peak_mb()), file=answers, flush=True)


def ort_spinning(model: Path, side: int, threads: int) -> Run:
    """The whole graph as restonnx runs it, but waiting threads spin, as is ONNX Runtime's default."""
    import onnxruntime

    options, given = onnxruntime.SessionOptions(), feeds(model, side)
    options.intra_op_num_threads, options.enable_mem_pattern = threads, False
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, given)[0]


def ort_steps(model: Path, side: int, threads: int) -> Run:
    """The encoder's graph once, then the graph of one step called T times, the sampler on the host between them."""
    import tempfile

    import onnxruntime
    import torch

    from restonnx.diffusion import resshift
    from restonnx.onnx_export.freeze import Port, to_onnx
    from restonnx.onnx_export.unroll import Unrolled

    chain = module(model)
    if not isinstance(chain, Unrolled) or chain.scale != 1 or chain.network.guide:
        raise SystemExit("single steps are of ResShift's chain alone")
    network, width = chain.network, chain.network.head.conv_in.out_channels

    class Encode(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: Any) -> Any:
            return self.network.encode(image)

    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x_t: Any, image: Any, features: Any, t: Any) -> Any:
            return self.network.step(x_t, image, features, t)

    images = ("N", network.channels, "H", "W")
    image, x_t = Port("image", "image", images), Port("x_t", "image", images)
    features = Port("features", "features", ("N", width, "H/2", "W/2"))
    t = Port("t", "step", ("N", chain.schedule.steps))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    sessions = []
    with tempfile.TemporaryDirectory() as folder:
        for part, ports in ((Encode(), (image,)), (Step(), (x_t, image, features, t))):
            file = Path(folder) / "part.onnx"
            traced = to_onnx(part.eval(), ports, unit=64, multiple=network.multiple)
            file.write_bytes(traced.SerializeToString())
            sessions.append(onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"]))
    encode, step = sessions
    given = feeds(model, side)
    told = np.eye(chain.schedule.steps, dtype=np.float32)

    def run() -> Any:
        y = given["image"]
        (encoded,) = encode.run(None, {"image": y})

        def predict(x: Any, t: int) -> Any:
            fed = {"x_t": x.astype(np.float32), "image": y, "features": encoded, "t": told[t : t + 1]}
            return step.run(None, fed)[0]

        drawn = given["noise"].swapaxes(0, 1) if "noise" in given else None
        return resshift.sample(predict, y, drawn, chain.schedule, chain.reading, last=chain.last)

    return run


def torch_eager(model: Path, side: int, threads: int) -> Run:
    """The step loop in torch, the encoder once."""
    return _torch(module(model), model, side, threads)


def torch_every_step(model: Path, side: int, threads: int) -> Run:
    """The step loop in torch as diffusion samplers are published: the whole network, encoder and all, at every step."""
    from restonnx.diffusion import resshift
    from restonnx.onnx_export.unroll import Unrolled

    chain = module(model)
    if not isinstance(chain, Unrolled):
        raise SystemExit("steps are of ResShift's chain alone")

    def sample(image: Any, noise: Any = None) -> Any:
        drawn = None if noise is None else noise.transpose(0, 1)
        return resshift.sample(
            lambda x_t, t: chain.network(x_t, image, t), image, drawn, chain.schedule, chain.reading, last=chain.last
        )

    return _torch(sample, model, side, threads)


def torch_channels_last(model: Path, side: int, threads: int) -> Run:
    import torch

    return _torch(module(model).to(memory_format=torch.channels_last), model, side, threads, channels_last=True)


def torch_bf16(model: Path, side: int, threads: int) -> Run:
    """channels_last with the products in bfloat16."""
    import torch

    if not any(name in Path("/proc/cpuinfo").read_text(encoding="utf-8") for name in ("avx512_bf16", "amx_bf16")):
        raise SystemExit("this CPU has no bfloat16")
    chain = module(model).to(memory_format=torch.channels_last)

    def run(*given: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return chain(*given)

    return _torch(run, model, side, threads, channels_last=True)


def torch_compile(model: Path, side: int, threads: int) -> Run:
    import torch

    chain = module(model).to(memory_format=torch.channels_last)
    return _torch(torch.compile(chain), model, side, threads, channels_last=True)


def openvino(model: Path, side: int, threads: int, precision: str = "f32") -> Run:
    """The unrolled graph in OpenVINO, compiled for this one size."""
    import openvino as ov  # type: ignore[import-not-found]

    core, given = ov.Core(), feeds(model, side)
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise SystemExit("this CPU has no bfloat16")
    graph = core.read_model(str(model))
    graph.reshape({name: list(value.shape) for name, value in given.items()})
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    request = core.compile_model(graph, "CPU", options).create_infer_request()
    return lambda: request.infer(given, share_inputs=True, share_outputs=True)[0]


def openvino_bf16(model: Path, side: int, threads: int) -> Run:
    return openvino(model, side, threads, "bf16")


def peak_sgemm(model: Path, side: int, threads: int) -> Run:
    """A matrix product of SGEMM_SIDE^3 multiply-adds."""
    import torch

    torch.set_num_threads(threads)
    a, b = torch.randn(2, SGEMM_SIDE, SGEMM_SIDE)
    out = torch.empty(SGEMM_SIDE, SGEMM_SIDE)
    return lambda: _nothing(torch.mm(a, b, out=out))


def peak_convolution(model: Path, side: int, threads: int) -> Run:
    """A 3x3 convolution of CONV_CHANNELS channels at CONV_SIDE^2 pixels, in ONNX Runtime and its own blocked layout:
    four in a row, so that the change of layout at both ends counts little."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    rng, shape = np.random.default_rng(0), [1, CONV_CHANNELS, CONV_SIDE, CONV_SIDE]
    weights = [rng.normal(0, 0.04, (CONV_CHANNELS, CONV_CHANNELS, 3, 3)).astype(np.float32) for _ in range(4)]
    nodes = [helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"x{i + 1}"], pads=[1, 1, 1, 1]) for i in range(4)]
    graph = helper.make_graph(
        nodes,
        "peak",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("x4", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(content.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = rng.random(shape, np.float32)
    return lambda: _nothing(session.run(None, {"x0": x}))


ENGINES: dict[str, Callable[[Path, int, int], Run]] = {
    "ort": whole,
    "ort-tiles": with_tiles,
    "ort-spinning": ort_spinning,
    "ort-steps": ort_steps,
    "torch-eager": torch_eager,
    "torch-every-step": torch_every_step,
    "torch-channels-last": torch_channels_last,
    "torch-bf16": torch_bf16,
    "torch-compile": torch_compile,
    "openvino": openvino,
    "openvino-bf16": openvino_bf16,
}
PEAKS: dict[str, tuple[Callable[[Path, int, int], Run], float]] = {
    "sgemm": (peak_sgemm, SGEMM_SIDE**3 / 1e9),
    "convolution": (peak_convolution, 4 * 9 * CONV_CHANNELS**2 * CONV_SIDE**2 / 1e9),
}
"""With the GMAC of a run."""
ENGINES |= {name: make for name, (make, _) in PEAKS.items()}


def _torch(call: Any, model: Path, side: int, threads: int, *, channels_last: bool = False) -> Run:
    import torch

    torch.set_num_threads(threads)
    given = {name: torch.from_numpy(value) for name, value in feeds(model, side).items()}
    if channels_last:
        given["image"] = given["image"].contiguous(memory_format=torch.channels_last)

    def run() -> Any:
        with torch.no_grad():  # under inference_mode torch.compile fails on the schedule
            return call(*given.values()).float().numpy()

    return run


def _nothing(_: object) -> None:
    """What the run gives is of no interest."""


if __name__ == "__main__":
    main()
