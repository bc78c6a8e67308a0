"""Time and memory of restoring large photographs, from 1 to 100 megapixels, each in a process of its own.

    python benchmarks/megapixels.py denoise

The whole path is timed: reading the array, tiles, noise, the graph, writing uint8.  One run a size. `graph` is
the time inside ONNX Runtime alone, halo included; memory is the peak of the process.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

SIZES = {1: (1000, 1000), 4: (2000, 2000), 24: (4000, 6000), 100: (10000, 10000)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--tile", type=int)
    parser.add_argument("--megapixels", type=int, nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.model, options.megapixels[0], options.tile)))
        return
    from results import write

    rows = []
    tile = ["--tile", str(options.tile)] if options.tile else []
    for size in options.megapixels:
        command = [sys.executable, __file__, options.model, "--one", "--megapixels", str(size), *tile]
        rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        print(rows[-1], flush=True)
    write("megapixels", {"model": options.model, "sizes": rows})


def one(model: str, megapixels: int, tile: int | None) -> dict[str, float]:
    import numpy as np

    from restonnx import Restorer

    height, width = SIZES[megapixels]
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    restorer = Restorer(model, device="cpu", tile=tile)
    inside = timed(restorer._session)
    before = peak_mb()
    started = time.perf_counter()
    restorer(image)
    seconds = time.perf_counter() - started
    pixels = height * width / 1e6
    return {
        "megapixels": pixels,
        "seconds_per_megapixel": round(seconds / pixels, 3),
        "graph_seconds_per_megapixel": round(sum(inside) / pixels, 3),
        "outside_the_graph": round(1 - sum(inside) / seconds, 3),
        "tiles": len(inside),
        "peak_memory_mb": peak_mb(),
        "before_mb": before,
        "arrays_mb": round(2 * image.nbytes / 2**20),
    }


def timed(session: object) -> list[float]:
    """Note how long every run of the session takes."""
    run, inside = session.run, []  # type: ignore[attr-defined]

    def noted(*arguments: object) -> object:
        started = time.perf_counter()
        result = run(*arguments)
        inside.append(time.perf_counter() - started)
        return result

    session.run = noted  # type: ignore[attr-defined]
    return inside


def peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
