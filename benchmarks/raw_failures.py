"""Where models for RAW files fail, as `failures.py` shows it for the others.

    OMP_NUM_THREADS=1 python benchmarks/raw_failures.py --data McMaster

The strongest noise of `raw_denoise.py`, on Bayer mosaics, or on X-Trans ones for models of linear colours; demosaicked
by LibRaw, balanced and through sRGB's curve: truth, what was given, what came out. Written to docs/images/failures.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from failures import PICTURES, panels, worst_piece
from raw_denoise import (
    BALANCE,
    EVERY,
    LEVELS,
    ON_COLOURS,
    ON_MOSAICS,
    RGGB,
    SHOT,
    demosaicked,
    models,
    mosaic_of,
    photographs,
    read_noise,
    shown,
    with_noise,
    x_trans_of,
)

from restonnx import isp
from restonnx.images import Picture, write
from restonnx.training.evaluation.samples import Sample, to_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=[*ON_MOSAICS[:2], ON_COLOURS[0]])
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    a = SHOT[-1]
    profile = isp.NoiseProfile((a,) * 3, (read_noise(a),) * 3)
    for name, method in models(options.models).items():
        on_colours = name in ON_COLOURS
        found, picture, where = -1.0, None, ""
        for index, path in enumerate(photographs(options.data)[::EVERY]):
            clean = x_trans_of(path, seed=index) if on_colours else bayer_of(path, seed=index)
            noisy = with_noise(clean, a, read_noise(a), seed=index)
            truth, given = (shown(demosaicked(frame, profile).image) for frame in (clean, noisy))
            if on_colours:
                result = shown(method(demosaicked(noisy, profile)))
            else:
                told = isp.Frame(noisy.image, replace(noisy.meta, noise=profile))
                result = shown(demosaicked(isp.Frame(method(told), clean.meta), profile).image)
            sample = Sample(given, truth)
            error, row, column = worst_piece(sample, result)
            if error > found:
                found, picture = error, panels(sample, result, row, column)
                where = f"{path.name}, row {row}, column {column}"
        assert picture is not None
        target = PICTURES / f"{name}.webp"
        write(target, Picture(to_file(picture), "YXC"), overwrite=True, quality=80)
        print(f"{target}: {where}", flush=True)


def bayer_of(path: Path, seed: int) -> isp.Frame:
    """The mosaic with what a file of it says."""
    black, white = LEVELS
    return isp.Frame(mosaic_of(path, seed), isp.FrameMeta("cfa", RGGB, (float(black),), (float(white),), BALANCE))


if __name__ == "__main__":
    main()
