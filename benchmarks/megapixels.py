"""Time and memory of restoring large photographs, from 1 to 100 megapixels, each in a process of its own.

    python benchmarks/megapixels.py denoise

The whole path is timed: reading the array, tiles, noise, the graph, writing uint8. `graph` is the time inside ONNX
Runtime alone, halo included; memory is the peak of the process, of which the image and its result are a part.
"""

import argparse

from results import write

from restonnx.speed import measure_apart

SIZES = {1: (1000, 1000), 4: (2000, 2000), 24: (4000, 6000), 100: (10000, 10000), 400: (20000, 20000)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--tile", type=int)
    parser.add_argument("--runs", type=int, default=1, help="timed runs, after one that warms up")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--megapixels", type=int, nargs="+", default=[1, 4, 24], choices=list(SIZES))
    options = parser.parse_args()
    rows = []
    for size in options.megapixels:
        speed = measure_apart(options.model, SIZES[size], runs=options.runs, device=options.device, tile=options.tile)
        rows.append(speed.summary() | {"arrays_mb": round(2 * 3 * speed.megapixels * 1e6 / 2**20)})
        print(rows[-1], flush=True)
    write("megapixels", {"model": options.model, "sizes": rows})


if __name__ == "__main__":
    main()
