"""Whether the spread over seeds of a stochastic denoiser says where it is wrong, at several noise levels.

    python benchmarks/uncertainty.py denoise-detail --test CLEAN_IMAGES

`restonnx.training.evaluation.uncertainty` says what is measured. `restonnx evaluate --all` measures the same for every
model whose name ends in -detail, on the tests of its task.
"""

import argparse
from pathlib import Path

import numpy as np
from results import write

from restonnx import Restorer
from restonnx.training.evaluation.damage import gaussian
from restonnx.training.evaluation.samples import read_unit
from restonnx.training.evaluation.uncertainty import SAMPLES, spread


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--sigma", type=float, nargs="+", default=[15.0, 25.0, 50.0])
    options = parser.parse_args()
    restorer = Restorer(options.model)
    paths = sorted(p for p in options.test.iterdir() if p.is_file())[:: options.every]
    levels = []
    for sigma in options.sigma:
        damage = gaussian(sigma)
        rows = [spread(restorer, damage(read_unit(path), index))[0] for index, path in enumerate(paths)]
        level = {key: round(float(np.mean([row[key] for row in rows])), 4) for key in rows[0]}
        levels.append({"sigma": sigma, "images": len(rows)} | level)
        print(levels[-1], flush=True)
    name = restorer.metadata.name
    write("uncertainty", {"model": name, "samples": SAMPLES, "data": options.test.name, "levels": levels})


if __name__ == "__main__":
    main()
