"""Chooses the settings of the classical methods on photographs of the training set, never on those of the tests.

    python benchmarks/classical_settings.py --data TRAINING_PHOTOGRAPHS

Each method is tried with every combination of its settings on the damage of the tests it is measured in, done to the
middle 256 x 256 pixels of photographs spread over the folder. The combination with the best mean PSNR belongs into
training/evaluation/settings.py, as it is printed at the end; a test compares the two.
"""

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from pprint import pformat
from typing import Any

import numpy as np
from results import FOLDER, write

from restonnx.images import SUFFIXES
from restonnx.training.evaluation.classical.every import classical
from restonnx.training.evaluation.samples import Floats, Sample, Synthetic, read_unit, with_channels
from restonnx.training.evaluation.table import SUITES, limited

SIDE = 256
GRIDS: dict[str, dict[str, list[Any]]] = {
    "non-local means, told": {"strength": [0.4, 0.55, 0.7, 0.9], "patch": [3, 5], "distance": [6, 10]},
    "non-local means": {"strength": [0.4, 0.55, 0.7, 0.9, 1.2, 1.6, 2.2], "patch": [3, 5], "distance": [6, 10]},
    "non-local means, two scales": {"strength": [0.4, 0.55, 0.7, 0.9], "patch": [5], "distance": [10]},
    "non-local means, bicubic": {"strength": [0.2, 0.4, 0.6, 0.8, 1.0]},
    "bicubic with the reference's detail": {"sigma": [0.35, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0]},
    "dark channel prior": {"patch": [7, 15, 31], "kept": [0.2, 0.35, 0.5, 0.65, 0.8, 0.95], "least": [0.1, 0.3]},
    "Richardson-Lucy": {"iterations": [5, 10, 15, 20, 30, 50]},
    "Wiener": {"balance": [0.003, 0.01, 0.03, 0.1, 0.3, 1.0]},
    "Richardson-Lucy, kernel guessed": {"sigma": [0.5, 0.8, 1.2, 1.6, 2.2], "iterations": [1, 2, 4, 8]},
    "unsharp mask": {"radius": [1.0, 2.0, 4.0], "amount": [0.1, 0.25, 0.5, 1.0]},
    "gain": {"level": [0.16, 0.2, 0.24, 0.3, 0.35, 0.4, 0.5], "strength": [0.4, 0.8]},
    "gamma": {"level": [0.4, 0.45, 0.5, 0.55, 0.6, 0.65], "strength": [0.4, 0.8]},
    "CLAHE": {"clip": [0.003, 0.01, 0.03, 0.1], "strength": [0.4, 0.8]},
    "Retinex": {"power": [0.5, 0.6, 0.7, 0.8, 0.9, 1.0], "strength": [0.4, 0.8]},
    "relighting": {"band": [2, 4, 8, 16, 64], "soft": [0.25, 0.5, 1.0, 2.0, 4.0]},
    "median": {"side": [2, 3, 5, 7]},
    "opening": {"width": [2, 3, 5, 7]},
    "guided filter": {"radius": [1, 2, 4, 8, 16], "epsilon": [1e-4, 1e-3, 1e-2]},
}
"""Methods that are not here have no setting."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--purpose", nargs="+", help="choose anew for these alone, and keep the rest")
    options = parser.parse_args()
    paths = sorted(p for p in options.data.rglob("*") if p.suffix.lower() in SUFFIXES)
    paths = [paths[n] for n in limited(len(paths), options.images)]
    file = FOLDER / "classical_settings.json"
    found = json.loads(file.read_text())["purposes"] if options.purpose and file.is_file() else {}
    for purpose, (channels, methods, damages) in purposes().items():
        if options.purpose and purpose not in options.purpose:
            continue
        images = [middle(with_channels(read_unit(path), channels)) for path in paths]
        samples = [damage(image, index) for damage in damages for index, image in enumerate(images)]
        found[purpose] = {method: choose(method, samples) for method in methods if method in GRIDS}
        for method, trials in found[purpose].items():
            print(purpose, method, trials[0], flush=True)
        of_each = dict(sorted(found.items()))
        write("classical_settings", {"protocol": __doc__, "images": len(paths), "purposes": of_each})
    best = {
        purpose: {m: trials[0]["settings"] for m, trials in of.items()} for purpose, of in sorted(found.items()) if of
    }
    print(pformat(best, sort_dicts=False, width=118))


def purposes() -> dict[str, tuple[int, list[str], list[Any]]]:
    """For each the images' channels, the methods, and the damages of all its synthetic tests."""
    found: dict[str, tuple[int, list[str], list[Any]]] = {}
    for suite in itertools.chain.from_iterable(SUITES.values()):
        _, methods, damages = found.setdefault(suite.purpose, (suite.channels, [], []))
        for test in suite.tests:
            methods += [method for method in test.classical if method not in methods]
            if isinstance(test.source, Synthetic) and test.source.damage not in damages:
                damages.append(test.source.damage)
    return {purpose: found[purpose] for purpose in found if found[purpose][2]}


def choose(method: str, samples: list[Sample]) -> list[dict[str, Any]]:
    """Every combination with its mean PSNR, the best one first."""
    trials = [
        {"settings": chosen, "psnr": round(float(np.mean([score(method, sample, chosen) for sample in samples])), 3)}
        for chosen in combinations(method)
    ]
    return sorted(trials, key=lambda trial: -trial["psnr"])


def combinations(method: str) -> Iterator[dict[str, Any]]:
    grid = GRIDS[method]
    return (dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values()))


def score(method: str, sample: Sample, chosen: dict[str, Any]) -> float:
    image, truth = classical(method, sample, chosen), sample.truth
    return float(-10 * np.log10(np.mean((image.clip(0, 1) - truth) ** 2)))


def middle(image: Floats) -> Floats:
    top, left = (max(0, (side - SIDE) // 2) for side in image.shape[:2])
    return np.ascontiguousarray(image[top : top + SIDE, left : left + SIDE])


if __name__ == "__main__":
    main()
