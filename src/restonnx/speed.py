"""How fast a model runs on this machine, and how much memory it takes: what `restonnx benchmark` shows.

Each measurement is best made in a process of its own (`measure_apart`), whose peak of memory is then that of this model
and this size alone.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from restonnx.errors import DeviceError, InputError, ModelError, RestonnxError
from restonnx.machine import peak_mb
from restonnx.restore import Restorer

PACKED = 2
"""Pixels of a mosaic per pixel of its packed planes, along a side."""


@dataclass(frozen=True)
class Speed:
    """Several runs of one model on one image. Times are in seconds; sizes in pixels, rows first."""

    model: str
    size: tuple[int, int]
    """Of the image that is restored; of a mosaic for models of packed mosaics."""
    provider: str
    """What really ran."""
    device: str
    fallback: str | None
    """Why "auto" runs on the CPU, if it does."""
    load: float
    """Reading the model and making the session."""
    first: float
    """The first run, which takes memory from the system and may search for algorithms; not among `runs`."""
    runs: tuple[float, ...]
    graph: tuple[float, ...]
    """Of each run, the time inside the graph."""
    grid: tuple[int, int]
    """Number of tiles down and across."""
    tile: tuple[int, int]
    computed: float
    """Pixels that the network computes per pixel of the image: 1 and what halos and padding add."""
    loaded_mb: int | None
    """Memory of the process before the first run, image and model included; None where the system does not say."""
    peak_mb: int | None
    """The most that the process ever had."""

    @property
    def megapixels(self) -> float:
        return self.size[0] * self.size[1] / 1e6

    @property
    def per_megapixel(self) -> float:
        """Median seconds per megapixel."""
        return statistics.median(self.runs) / self.megapixels

    @property
    def spread(self) -> tuple[float, float]:
        """The fastest and the slowest run, in seconds per megapixel."""
        return min(self.runs) / self.megapixels, max(self.runs) / self.megapixels

    @property
    def outside(self) -> float:
        """Share of the time outside the graph, of all runs together."""
        return 1 - sum(self.graph) / sum(self.runs)

    def summary(self) -> dict[str, Any]:
        """For JSON: the measured values and what follows from them, rounded."""
        fastest, slowest = self.spread
        derived = {
            "megapixels": round(self.megapixels, 3),
            "seconds_per_megapixel": round(self.per_megapixel, 4),
            "fastest": round(fastest, 4),
            "slowest": round(slowest, 4),
            "graph_seconds_per_megapixel": round(statistics.median(self.graph) / self.megapixels, 4),
            "outside_the_graph": round(self.outside, 4),
        }
        times = ("load", "first", "runs", "graph", "computed")
        return {**asdict(self), **{name: _rounded(getattr(self, name)) for name in times}, **derived}


def measure(
    model: str | Path,
    size: tuple[int, int],
    *,
    runs: int = 3,
    device: str = "auto",
    tile: int | None = None,
    threads: int | None = None,
) -> Speed:
    """Restore an image of noise once to warm up and `runs` times with the clock, all in this process.

    model, device, tile, threads as in `Restorer`. What a model needs besides the image is made up.
    Raises what `Restorer` raises.
    """
    if runs < 1 or min(size) < 2:
        raise InputError(f"at least 1 run and sides of 2 pixels are needed, not {runs} and {size[0]} x {size[1]}")
    started = time.perf_counter()
    restorer = Restorer(model, device=device, tile=tile, threads=threads)
    load = time.perf_counter() - started
    run, seen = _task(restorer, size)
    plan, _ = restorer.plan(*seen)
    loaded_mb = peak_mb()
    whole, inside = [], []
    for _ in range(runs + 1):
        before, started = restorer.graph_seconds, time.perf_counter()
        run()
        whole.append(time.perf_counter() - started)
        inside.append(restorer.graph_seconds - before)
    return Speed(
        model=restorer.metadata.name,
        size=size,
        provider=restorer.provider,
        device=restorer.device,
        fallback=restorer.fallback,
        load=load,
        first=whole[0],
        runs=tuple(whole[1:]),
        graph=tuple(inside[1:]),
        grid=plan.grid,
        tile=plan.shape,
        computed=len(plan) * plan.shape[0] * plan.shape[1] / (seen[0] * seen[1]),
        loaded_mb=loaded_mb,
        peak_mb=peak_mb(),
    )


def measure_apart(model: str | Path, size: tuple[int, int], **options: Any) -> Speed:
    """`measure` in a process of its own. Raises the same, and DeviceError where the process dies, as it does when the
    system has no memory left."""
    request = json.dumps({"model": str(model), "size": size, **options})
    done = subprocess.run([sys.executable, "-m", "restonnx.speed", request], capture_output=True, text=True)
    try:
        reply = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise DeviceError(f"measuring {model} at {size[0]} x {size[1]} pixels failed: {last}") from None
    if "error" in reply:
        kinds = {kind.__name__: kind for kind in (DeviceError, InputError, ModelError)}
        raise kinds.get(reply["kind"], RestonnxError)(reply["error"])
    pairs: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in reply.items()}
    return Speed(**pairs)


def _task(restorer: Restorer, size: tuple[int, int]) -> tuple[Callable[[], object], tuple[int, int]]:
    """What is timed, and the height and width that the network's tiles are cut from."""
    meta, rng = restorer.metadata, np.random.default_rng(0)
    roles = {spec.role: spec.name for spec in meta.inputs if spec.role not in ("image", "noise")}
    if meta.channels == 4 or (meta.for_raw and meta.channels == 3):
        height, width = (side // PACKED for side in size) if meta.domain == "cfa" else size
        low, high = meta.range
        images = low + np.float32(high - low) * rng.random((1, meta.channels, height, width), np.float32)
        level = np.full((1, 1, 1, 1), 0.1 * (high - low), np.float32)
        further = {roles["noise_level"]: level} if "noise_level" in roles else {}
        return lambda: restorer.run(images, further), (height, width)
    colour = (3,) if meta.channels == 3 else ()
    image = rng.integers(0, 256, (*size, *colour), np.uint8)
    made_up: dict[str, Callable[[], Any]] = {
        "noise_level": lambda: 25.0,
        "mask": lambda: rng.random(size) < 0.2,
        "kernel": lambda: np.full((5, 5), 1 / 25),
        "reference": lambda: np.zeros((size[0] * meta.scale, size[1] * meta.scale, *colour), np.uint8),
    }
    given = {role: made_up[role]() for role in roles if role in made_up}
    return lambda: restorer(image, **given), size


def _rounded(value: float | tuple[float, ...]) -> float | list[float]:
    return [round(one, 4) for one in value] if isinstance(value, tuple) else round(value, 4)


def _answer(request: str) -> None:
    """The process of `measure_apart`: one line of JSON in, one out."""
    options = json.loads(request)
    try:
        reply = asdict(measure(options.pop("model"), tuple(options.pop("size")), **options))
    except RestonnxError as error:
        reply = {"error": str(error), "kind": type(error).__name__}
    print(json.dumps(reply))  # noqa: T201 - the answer


if __name__ == "__main__":
    _answer(sys.argv[1])
