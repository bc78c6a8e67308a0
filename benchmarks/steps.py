"""What the steps of a chain cost and what they are worth: the same checkpoint cut to 1, 2, ... all its steps.

    python benchmarks/steps.py denoise --test CLEAN_IMAGES

Costs are medians of runs taken in turn, one session per cut, as ratios to the one-step graph.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from results import write

from restonnx import load_model
from restonnx.onnx_export.export import export_checkpoint
from restonnx.session import Session
from restonnx.training.checkpoint import load
from restonnx.training.evaluate import evaluate

SIDE = 1024
ROUNDS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args()
    source = load_model(options.model)
    with tempfile.TemporaryDirectory() as folder:
        cuts = {}
        whole = load(source.path).recipe.sampler.steps  # of the chain, which the model may be a cut of
        for steps in range(1, whole + 1):
            name = f"{source.metadata.name}-{steps}-of-{whole}"
            cuts[steps] = export_checkpoint(source.path, Path(folder) / f"{name}.onnx", steps=steps, name=name).path
        seconds = cost(cuts)
        scores = evaluate([str(path) for path in cuts.values()], data=options.test, every=options.every)
    rows = []
    for steps in cuts:
        psnr = {f"{s.sigma:g}": s.psnr for s in scores if s.method.endswith(f"-{steps}-of-{len(cuts)}")}
        row = {"steps": steps, "seconds_per_megapixel": seconds[steps], "ratio_to_one": seconds[steps] / seconds[1]}
        rows.append({key: round(value, 3) for key, value in row.items()} | {"psnr": psnr})
        print(rows[-1])
    write(
        "steps",
        {"model": source.metadata.name, "side": SIDE, "rounds": ROUNDS, "data": options.test.name, "cuts": rows},
    )


def cost(cuts: dict[int, Path]) -> dict[int, float]:
    """Seconds per megapixel of each cut's graph, the cuts taking turns."""
    sessions = {steps: Session(load_model(path), device="cpu") for steps, path in cuts.items()}
    rng = np.random.default_rng(0)
    metadata = load_model(cuts[1]).metadata
    channels = metadata.channels
    image = rng.random((1, channels, SIDE, SIDE), dtype=np.float32)
    noise = rng.standard_normal((1, len(cuts), channels, SIDE, SIDE), dtype=np.float32)
    taken: dict[int, list[float]] = {steps: [] for steps in cuts}
    for round_ in range(ROUNDS + 1):
        for steps, session in sessions.items():
            feeds = {"image": image} | ({"noise": noise[:, :steps]} if metadata.sampler.draws else {})
            started = time.perf_counter()
            session.run(feeds)
            if round_:  # the first one warms up
                taken[steps].append(time.perf_counter() - started)
    return {steps: statistics.median(values) / (SIDE * SIDE / 1e6) for steps, values in taken.items()}


if __name__ == "__main__":
    main()
