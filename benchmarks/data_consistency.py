"""The claim of data-consistent training, tried: same network, data, seed and wall time, another objective.

    python benchmarks/data_consistency.py --train PHOTOGRAPHS --test CLEAN_IMAGES --minutes 10 --out runs/claim

Each variant is trained in a process of its own for the same time; --jobs 2 trains two at once, on half the cores each.
Reported: PSNR of the finished chain, modular and cumulative error at every step, peak memory, seconds per iteration.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from results import FOLDER, write

VARIANTS = {
    "forward-noised": ["objective.kind=forward_noised"],
    "detached chain": ["objective.kind=data_consistent", "objective.gradient=detached", "objective.loss_on=random"],
    "full chain": ["objective.kind=data_consistent", "objective.gradient=full", "objective.loss_on=random"],
    "full chain, loss at the end": [
        "objective.kind=data_consistent",
        "objective.gradient=full",
        "objective.loss_on=end",
    ],
}
RECIPE = Path(__file__).parent / "claim.toml"
GAUSSIAN = [
    "degradation.shot_share=0",
    "degradation.gray_share=0",
    "degradation.clip_share=0",
    "degradation.jpeg_share=0",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        one(options)
        return
    threads = max(1, len(os.sched_getaffinity(0)) // options.jobs)

    def run(name: str) -> dict[str, Any]:
        command = [sys.executable, __file__, *sys.argv[1:], "--variant", name]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": str(threads)})
        result: dict[str, Any] = json.loads((folder(options, name) / "result.json").read_text())
        return result

    with ThreadPoolExecutor(options.jobs) as pool:
        results = dict(zip(VARIANTS, pool.map(run, VARIANTS), strict=True))
    from restonnx.training.error_curves import StepError, draw

    curves = {name: [StepError(**step) for step in result["sigma 25"]] for name, result in results.items()}
    settings = {"minutes": options.minutes, "threads": threads, "at_once": options.jobs, "test": options.test.name}
    write("data_consistency", settings | {"variants": results})
    draw({"denoise": curves}, FOLDER / "data_consistency.png")


def one(options: argparse.Namespace) -> None:
    """Train and measure one variant; runs in a process of its own, so that its peak memory is its own."""
    from dataclasses import asdict

    from restonnx.training.error_curves import error_curves
    from restonnx.training.loop import train

    out = folder(options, options.variant)
    overrides = [*VARIANTS[options.variant], f"training.minutes={options.minutes}"]
    checkpoint = train(RECIPE, data=options.train, out=out, overrides=overrides, quiet=True)
    last = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    result = {
        "iterations": last["iteration"],
        "seconds_per_iteration": round(last["seconds"] / last["iteration"], 4),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    for sigma in (15, 25, 50):
        level = [*GAUSSIAN, f"degradation.sigma=[{sigma}, {sigma}]"]
        steps = error_curves(checkpoint, data=options.test, overrides=level).steps
        result[f"sigma {sigma}"] = [asdict(step) for step in steps]
    (out / "result.json").write_text(json.dumps(result))


def folder(options: argparse.Namespace, variant: str) -> Path:
    return options.out / variant.replace(",", "").replace(" ", "-")


if __name__ == "__main__":
    main()
