"""The unrolled graph in ONNX Runtime beside other ways to run the same weights, all in one run.

    python benchmarks/engines.py denoise --sizes 256 1024
    python benchmarks/engines.py denoise --sizes 1024 2048 --device cuda --name engines_cuda

Every engine has a process of its own; they take turns, one run each, round after round, so that a slow minute of the
machine is everybody's. The fraction is that of the machine's peak, the better one of a large matrix product and an
ideal 3x3 convolution that take their turns among them. OpenVINO is measured where it is installed (`pip install
openvino`). On CUDA the engines are those of engine_cuda.py, beside restonnx on the CPU, from whose result theirs differ
as the file says. An engine whose warm run takes longer than --limit seconds, or needs more memory than is free, is left
out, and the file says so.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import engine_cuda
import engine_worker
import numpy as np
from results import write

from restonnx import load_model

WORKER = Path(__file__).with_name("engine_worker.py")
REFERENCE = "ort"
"""From whose result the others' differ."""
BASE = {"cpu": REFERENCE, "cuda": "cuda"}
"""What restonnx does, by the device: the others' times are multiples of its own."""
KNOWN = {"cpu": engine_worker, "cuda": engine_cuda}
GMAC = engine_worker.PEAKS | engine_cuda.PEAKS


class Worker:
    """An engine in its process."""

    def __init__(self, engine: str, model: Path, side: int, threads: int, folder: Path) -> None:
        self.engine, self.result = engine, folder / f"{engine}-{side}.npy"
        self._said = (folder / f"{engine}-{side}.txt").open("w+", encoding="utf-8")
        command = [sys.executable, str(WORKER), engine, str(model), str(side), str(threads), str(self.result)]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True, env=environment
        )
        self.times: list[float] = []
        self.worked: list[float] = []
        self.build = self.first = 0.0
        self.device_mb: int | None = None
        self.peak_mb: int | None = None
        self.problem = ""
        started = self._answer()
        if not self.problem:
            self.build, self.first = started["build"], started["first"]
            self.device_mb = started.get("device_mb")

    def run(self, *, warm_up: bool = False) -> float:
        assert self._process.stdin is not None
        try:
            print(file=self._process.stdin, flush=True)
        except BrokenPipeError:
            self._answer()
            return 0.0
        answer = self._answer()
        if self.problem:
            return 0.0
        seconds, worked = answer
        if not warm_up:
            self.times.append(seconds)
            self.worked.append(worked)
        return float(seconds)

    def close(self, problem: str = "") -> None:
        """End the process; problem: why it is not measured."""
        if self._process.poll() is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            if not self.problem:
                self.peak_mb = self._answer()
            self._process.wait()
        self._said.close()
        self.problem = self.problem or problem

    def row(self, side: int, gmac: float, reference: np.ndarray | None) -> dict[str, Any]:
        """What was measured, per megapixel."""
        if self.problem or not self.times:
            return {"engine": self.engine, "side": side, "unmeasured": self.problem or "no run"}
        pixels = side * side / 1e6
        row: dict[str, Any] = {
            "engine": self.engine,
            "side": side,
            "seconds_per_megapixel": round(statistics.median(self.times) / pixels, 4),
            "fastest": round(min(self.times) / pixels, 4),
            "slowest": round(max(self.times) / pixels, 4),
            "cpu_seconds_per_megapixel": round(statistics.median(self.worked) / pixels, 4),
            "build_seconds": round(self.build, 2),
            "first_run_seconds": round(self.first, 2),
            "peak_memory_mb": self.peak_mb,
        }
        if self.device_mb is not None:
            row["device_memory_mb"] = self.device_mb
        if self.engine in engine_cuda.COPIES:
            rate = engine_cuda.COPIES[self.engine][1] / statistics.median(self.times)
            return {"engine": self.engine, "side": side, "gigabytes_per_second": round(rate, 1)}
        if self.engine in GMAC:
            gmac_of_one = GMAC[self.engine][1]
            return {
                "engine": self.engine,
                "side": side,
                "gmac_per_second": round(gmac_of_one / statistics.median(self.times), 2),
                "best_gmac_per_second": round(gmac_of_one / min(self.times), 2),
            }
        row["gmac_per_second"] = round(gmac * pixels / statistics.median(self.times), 2)
        if reference is not None and self.result.is_file():
            row["largest_difference"] = float(f"{np.abs(np.load(self.result) - reference).max():.1e}")
        return row

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._said.seek(0)
            said = self._said.read().strip().splitlines() or [f"exit code {code}"]
            self.problem = said[-1][:200]
            return None
        return json.loads(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=list(KNOWN))
    parser.add_argument("--engines", nargs="+", help="those to measure; all by default")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--limit", type=float, default=20, help="seconds; engines whose run takes longer are left out")
    parser.add_argument("--name", default="engines", help="of the file in results/")
    options = parser.parse_args()
    model = load_model(options.model)
    gmac = gmac_per_megapixel(model.path)
    known = KNOWN[options.device]
    if unknown := set(options.engines or ()) - set(known.ENGINES):
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(known.ENGINES)}")
    peaks = [*known.PEAKS, *(engine_cuda.COPIES if options.device == "cuda" else ())]
    chosen = [engine for engine in options.engines or known.ENGINES if engine not in (REFERENCE, *peaks)]
    engines = [REFERENCE, *chosen, *peaks]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for side in options.sizes:
            rows += side_by_side(engines, model.path, side, options, Path(folder), gmac, rows)
    content = {
        "model": model.metadata.name,
        "sha256": model.sha256,
        "gmac_per_megapixel": round(gmac, 2),
        "device": gpu() if options.device == "cuda" else "cpu",
        "base": BASE[options.device],
        "threads": options.threads,
        "rounds": options.rounds,
        "rows": rows,
    }
    write(options.name, content)


def side_by_side(
    engines: list[str], model: Path, side: int, options: Any, folder: Path, gmac: float, earlier: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """All engines at one size; one for which the others leave no memory is left out."""
    rows, workers = [], []
    for engine in engines:
        needed = expected_mb(engine, side, earlier)
        if needed > 0.9 * free_mb():
            rows.append({"engine": engine, "side": side, "unmeasured": f"needs about {needed:.0f} MB of memory"})
            continue
        reasons = [row["unmeasured"] for row in earlier if row["engine"] == engine and "unmeasured" in row]
        if reasons:
            rows.append({"engine": engine, "side": side, "unmeasured": reasons[0]})
            continue
        worker = Worker(engine, model, side, options.threads, folder)
        if not worker.problem and worker.first > options.limit and worker.run(warm_up=True) > options.limit:
            worker.close(f"a run takes longer than {options.limit:g} s")
        workers.append(worker)
        print(f"{side}: {engine} {worker.problem or 'is ready'}", flush=True)
    for number in range(options.rounds + 1):
        for worker in workers:
            if not worker.problem:
                time.sleep(0.05)  # the threads of the one before come to rest
                worker.run(warm_up=number == 0)
    for worker in workers:
        worker.close()
    reference = next((w.result for w in workers if w.engine == REFERENCE and w.result.is_file()), None)
    values = None if reference is None else np.load(reference)
    rows += [worker.row(side, gmac, values) for worker in workers]
    peak = max((row["gmac_per_second"] for row in rows if "best_gmac_per_second" in row), default=0)
    base = next((row for row in rows if row["engine"] == BASE[options.device]), {})
    for row in rows:
        if "seconds_per_megapixel" in row and peak:
            row["fraction_of_peak"] = round(row["gmac_per_second"] / peak, 3)
        if "seconds_per_megapixel" in row and "seconds_per_megapixel" in base:
            row["times_base"] = round(row["seconds_per_megapixel"] / base["seconds_per_megapixel"], 3)
        print(row, flush=True)
    return rows


def gpu() -> str | None:
    """Name and driver of the first device; None where there is none."""
    asked = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader", "--id=0"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def expected_mb(engine: str, side: int, earlier: list[dict[str, Any]]) -> float:
    """What an engine will need, by what it needed at a smaller size; its fixed part is counted as if it grew."""
    known = [row for row in earlier if row["engine"] == engine and row.get("peak_memory_mb")]
    return known[-1]["peak_memory_mb"] * (side / known[-1]["side"]) ** 2 if known else 0.0


def free_mb() -> float:
    status = Path("/proc/meminfo").read_text(encoding="ascii")
    return int(status.split("MemAvailable:")[1].split()[0]) / 1024


def gmac_per_megapixel(path: Path) -> float:
    """Multiply-adds of all convolutions of the graph (1e9), per million pixels of the image."""
    import onnx
    from onnx import shape_inference

    side = 256
    model, meta = onnx.load(path), load_model(path).metadata
    for value in model.graph.input:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.HasField("dim_param"):
                letter, _, factor = dimension.dim_param.partition("*")
                dimension.dim_value = 1 if letter == "N" else side * int(factor or 1)
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    known = shape_inference.infer_shapes(model, data_prop=True, strict_mode=True).graph
    shapes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*known.value_info, *known.input, *known.output)
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in known.initializer}
    total = 0
    for node in known.node:
        if node.op_type == "Conv":
            total += int(np.prod(shapes[node.output[0]])) * int(np.prod(shapes[node.input[1]][1:]))
    assert total, f"{meta.name} has no convolution"
    return total / side**2 / 1e3


if __name__ == "__main__":
    main()
