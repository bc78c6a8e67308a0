"""What models in integers of 8 bits lose and gain: PSNR on clean images with added noise, and speed, side by side.

    python benchmarks/int8.py denoise --calibrate PHOTOGRAPHS --test CBSD68

Each model is calibrated anew (`restonnx export MODEL --precision int8`); beside both stands its tuned sibling, if it is
in the library under its name and "-int8". The graphs take turns, one run each, in one process.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from results import write

from restonnx import load_model, models
from restonnx.model import ModelFile
from restonnx.onnx_export.int8 import export_int8
from restonnx.session import Session
from restonnx.training.evaluate import evaluate

SIGMAS = (5.0, 15.0, 25.0, 50.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--calibrate", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--side", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    rows = []
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            model = load_model(name)
            tuned, out = f"{model.metadata.name}-int8", Path(folder) / "calibrated.onnx"
            export_int8(model.path, out, calibrate=options.calibrate, name=f"{model.metadata.name}-calibrated")
            siblings = [load_model(tuned)] if tuned in [entry.name for entry in models()] else []
            rows += measured([model, load_model(out), *siblings], options)
    shared = {"data": options.test.name, "every": options.every, "calibrated_on": options.calibrate.name}
    write("int8", shared | {"side": options.side, "rounds": options.rounds, "variants": rows})


def measured(files: list[ModelFile], options: Any) -> list[dict[str, Any]]:
    """Rows of a model and its siblings of 8 bits."""
    times = side_by_side(files, options.side, options.rounds)
    paths = [str(model.path) for model in files]
    scores = evaluate(paths, data=options.test, sigma=SIGMAS, every=options.every)
    pixels, rows = options.side**2 / 1e6, []
    for model, of_one in zip(files, times, strict=True):
        row = {
            "model": model.metadata.name,
            "seconds_per_megapixel": round(statistics.median(of_one) / pixels, 4),
            "fastest": round(min(of_one) / pixels, 4),
            "slowest": round(max(of_one) / pixels, 4),
            "times_as_fast": round(statistics.median(times[0]) / statistics.median(of_one), 3),
            "psnr": {f"{s.sigma:g}": s.psnr for s in scores if s.method == model.metadata.name},
            "megabytes": round(model.size_bytes / 1e6, 2),
        }
        print(row, flush=True)
        rows.append(row)
    return rows


def side_by_side(models: list[ModelFile], side: int, rounds: int) -> list[list[float]]:
    """Seconds of every run of each model's graph, the models taking turns."""
    meta, rng = models[0].metadata, np.random.default_rng(0)
    given = {"image": rng.random((1, meta.channels, side, side), np.float32)}
    if meta.sampler.draws:
        given["noise"] = rng.standard_normal((1, meta.sampler.draws, meta.noise_channels, side, side), np.float32)
    sessions = [Session(model, device="cpu") for model in models]
    times: list[list[float]] = [[] for _ in models]
    for number in range(rounds + 1):
        for session, of_one in zip(sessions, times, strict=True):
            started = time.perf_counter()
            session.run(given)
            if number:  # the first one warms up
                of_one.append(time.perf_counter() - started)
    return times


if __name__ == "__main__":
    main()
