"""Time, memory and right output of `develop` on RAW files of every kind and size, each in a process of its own.

    python benchmarks/raw_sizes.py
    python benchmarks/raw_sizes.py --shrink 8 --only bayer-24mp x-trans-26mp      # a quick look

The files are synthesised with tifffile from the demo's photograph, enlarged to twice its size, as lenses do not resolve
single pixels, and repeated in mirrors: the scene in the sensor's colours, mosaicked, with Poisson-Gaussian noise of
variance 4e-3 x + 4e-5, the profile of which stands in the file. Each is developed to a DNG, as `restonnx develop` does,
once with a stage that changes nothing and once with the default models. Seconds and the peak of memory are those of
the whole function, models loaded before. Then the output is checked. Without a change: whether the DNG holds the
synthesised numbers, and whether the picture is LibRaw's own, bit for bit. With the model: PSNR of LibRaw's render
(sRGB, 8 bit) of the noisy and of the restored file against that of a file without noise, and their colours' means over
that one's: of the picture's values, and of the light that they stand for. Half of the scene's blue lies below the
noise's deviation at black; there the values, not the light, also follow how much noise is left. The linear file has its
black at 0, so that its noise below black is cut off: what it shows, and every restoration of it, is a little brighter
than the scene. X-Trans is done with OMP_NUM_THREADS=1, as LibRaw repeats itself only so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RGGB, GBRG = ((0, 1), (1, 2)), ((1, 2), (0, 1))
X_TRANS = (
    (1, 1, 0, 1, 1, 2),
    (1, 1, 2, 1, 1, 0),
    (2, 0, 1, 0, 2, 1),
    (1, 1, 2, 1, 1, 0),
    (1, 1, 0, 1, 1, 2),
    (0, 2, 1, 2, 0, 1),
)
NEUTRAL = (0.5, 1.0, 0.625)
"""The sensor's answer to white."""
NOISE = (4e-3, 4e-5)
STAGES = ("identity", "model")
STRIP = 600
"""Rows that are synthesised at a time; a multiple of every period."""


@dataclass(frozen=True)
class Case:
    height: int
    width: int
    bits: int
    """Of a sample in the file: less than 16 are packed."""
    black: int
    white: int
    pattern: tuple[tuple[int, ...], ...] | None = None
    colours: int = 1

    def shrunk(self, factor: int) -> Case:
        """With sides smaller by that factor, multiples of 24."""
        height, width = (max(528, side // factor // 24 * 24) for side in (self.height, self.width))
        return Case(height, width, self.bits, self.black, self.white, self.pattern, self.colours)


CASES = {
    "bayer-24mp": Case(4000, 6000, 16, 512, 16383, RGGB),
    "bayer-45mp": Case(5464, 8192, 16, 512, 16383, GBRG),
    "x-trans-26mp": Case(4176, 6240, 16, 1024, 16383, X_TRANS),
    "monochrome-24mp": Case(4000, 6000, 16, 512, 65535),
    "linear-24mp": Case(4000, 6000, 16, 0, 65535, None, 3),
    "bayer-12mp-12bit": Case(3000, 4000, 12, 256, 4095, RGGB),
    "bayer-12mp-10bit": Case(3000, 4000, 10, 64, 1023, RGGB),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--shrink", type=int, default=1, help="sides smaller by this factor; nothing is written then")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        case = CASES[options.only[0]]
        make(case.shrunk(options.shrink) if options.shrink > 1 else case, options.make)
    elif options.stage:
        print(json.dumps(measured(options.folder, options.stage)))
    else:
        rows = [row for name in options.only for row in in_processes(name, options.shrink)]
        if options.shrink == 1:
            from results import write

            write("raw_sizes", {"protocol": __doc__, "noise": NOISE, "files": rows})


def in_processes(name: str, shrink: int) -> list[dict[str, Any]]:
    """Make the files of a case, and develop them with each stage."""
    environment = dict(os.environ) | ({"OMP_NUM_THREADS": "1"} if name.startswith("x-trans") else {})
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        common = [sys.executable, __file__, "--only", name, "--shrink", str(shrink)]
        subprocess.run([*common, "--make", folder], check=True)
        for stage in STAGES:
            command = [*common, "--stage", stage, "--folder", folder]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
            rows.append({"file": name, "stage": stage} | json.loads(done.stdout))
            print(rows[-1], flush=True)
    return rows


def measured(folder: Path, name: str) -> dict[str, Any]:
    """One run of `develop`, and what came out of it."""
    from restonnx import isp
    from restonnx.isp.restoration import FOR_RAW
    from restonnx.machine import peak_mb

    noisy, out = folder / "noisy.dng", folder / f"{name}.dng"
    stage: Any = Identity() if name == "identity" else isp.RestorationStage(FOR_RAW[0], otherwise=FOR_RAW[1:])
    stage = stage.placed(isp.read_raw(noisy).meta)
    before = peak_mb()
    started = time.perf_counter()
    picture = isp.develop(noisy, [stage], out)
    seconds = time.perf_counter() - started
    row: dict[str, Any] = {"megapixels": round(picture.height * picture.width / 1e6, 1)}
    row |= {"place": stage.domain, "seconds": round(seconds, 2)}
    row |= {"seconds_per_megapixel": round(seconds / (picture.height * picture.width) * 1e6, 3)}
    row |= {"peak_memory_mb": peak_mb(), "before_mb": before}
    row |= {"file_mb": round(noisy.stat().st_size / 2**20), "dng_mb": round(out.stat().st_size / 2**20)}
    return row | (exactness(noisy, out, picture.pixels) if name == "identity" else quality(folder, out))


class Identity:
    """On the mosaic where there is one."""

    scale, name = 1, "identity"

    def __init__(self, domain: str = "cfa") -> None:
        self.domain = domain

    def placed(self, meta: Any) -> Identity:
        return Identity("cfa" if meta.cfa is not None else meta.domain)

    def __call__(self, image: Any, *, meta: Any, progress: Any = None, **options: Any) -> Any:
        return image.copy()


def exactness(noisy: Path, out: Path, picture: Any) -> dict[str, bool]:
    import numpy as np

    own = rendered(noisy)
    return {
        "dng_is_exact": bool(np.array_equal(numbers_in(out), np.load(noisy.with_suffix(".npy"), mmap_mode="r"))),
        "picture_is_libraws": bool(np.array_equal(picture, np.broadcast_to(own, (*own.shape[:2], 3)))),  # also of grey
    }


def quality(folder: Path, out: Path) -> dict[str, Any]:
    import numpy as np

    clean = rendered(folder / "clean.dng")
    rows: dict[str, Any] = {}
    for name, path in (("noisy", folder / "noisy.dng"), ("restored", out)):
        picture = rendered(path)
        error = ((picture >> 8).astype(np.float32) - (clean >> 8)) / 255
        rows[f"{name}_render_psnr"] = round(float(-10 * np.log10(np.mean(np.square(error), dtype=np.float64))), 2)
        for what in ("channel", "light"):
            ratios = means(picture, what == "light") / means(clean, what == "light")
            rows[f"{name}_{what}_means"] = [round(float(ratio), 4) for ratio in ratios]
    return rows


def means(picture: Any, light: bool) -> Any:
    """Of each channel of a picture (H, W, C) of 16 bits: of its values, or of the light that they stand for."""
    import numpy as np

    from restonnx.isp import colors

    values = np.arange(65536, dtype=np.float32) / 65535
    values = colors.decode(values) if light else values
    counts = [np.bincount(picture[..., n].ravel(), minlength=65536) for n in range(picture.shape[-1])]
    return np.array(counts) @ values.astype(np.float64)


def numbers_in(path: Path) -> Any:
    import rawpy

    with rawpy.imread(str(path)) as raw:
        image = raw.raw_image_visible
        return (image[..., :3] if image.ndim == 3 else image).copy()


def rendered(path: Path) -> Any:
    """By LibRaw alone, with the settings that `develop` promises."""
    import rawpy

    settings: dict[str, Any] = {"use_camera_wb": True, "no_auto_bright": True, "adjust_maximum_thr": 0.0}
    with rawpy.imread(str(path)) as raw:
        return raw.postprocess(**settings, output_bps=16, gamma=(2.4, 12.92), user_flip=0)


def make(case: Case, folder: Path) -> None:
    """noisy.dng, clean.dng, and the numbers of the noisy one as noisy.npy."""
    import numpy as np
    from skimage.transform import resize

    from restonnx import photograph
    from restonnx.isp import colors

    photograph = photograph.clean().astype(np.float32) / 255
    large = resize(photograph, (2 * photograph.shape[0], 2 * photograph.shape[1]), order=3)
    scene = colors.decode(large.clip(0, 1)) * np.float32(NEUTRAL)
    scene = np.concatenate([scene, scene[::-1]])
    scene = np.concatenate([scene, scene[:, ::-1]], axis=1)
    for name in ("clean", "noisy"):
        pixels = np.concatenate(
            [strip(case, scene, top, name == "noisy") for top in range(0, case.height, STRIP)], axis=0
        )
        write_dng(folder / f"{name}.dng", pixels, case)
    np.save(folder / "noisy.npy", pixels)


def strip(case: Case, scene: Any, top: int, noisy: bool) -> Any:
    """The file's numbers in the rows from `top` on."""
    import numpy as np

    rows = np.arange(top, min(top + STRIP, case.height)) % scene.shape[0]
    light = scene[rows].take(np.arange(case.width) % scene.shape[1], axis=1)
    if case.pattern is not None:
        period = np.array(case.pattern)
        down, across = np.arange(len(rows)) % len(period), np.arange(case.width) % len(period)
        light = np.take_along_axis(light, period[np.ix_(down, across)][..., None], axis=-1)[..., 0]
    elif case.colours == 1:
        light = light.mean(axis=-1)
    if noisy:
        drawn = np.random.default_rng(top).standard_normal(light.shape, np.float32)
        light = light + drawn * np.sqrt(NOISE[0] * light + NOISE[1])
    return np.clip(np.rint(light * (case.white - case.black) + case.black), 0, case.white).astype(np.uint16)


def write_dng(path: Path, pixels: Any, case: Case) -> None:
    import tifffile

    tags: list[Any] = [
        (50706, 1, 4, bytes((1, 4, 0, 0)), True),
        (50707, 1, 4, bytes((1, 2, 0, 0)), True),
        (50708, 2, 0, "synthesised", True),
        (50714, 3, case.colours, (case.black,) * case.colours if case.colours > 1 else case.black, True),
        (50717, 4, case.colours, (case.white,) * case.colours if case.colours > 1 else case.white, True),
        (51041, 12, 2, NOISE, True),
    ]
    mono = case.pattern is None and case.colours == 1
    if not mono:
        tags += [(50721, 10, 9, srgb_matrix(), True), (50778, 3, 1, 21, True)]
        tags.append((50728, 5, 3, tuple(n for value in NEUTRAL for n in (round(value * 1000), 1000)), True))
    if case.pattern is not None:
        flat = bytes(colour for row in case.pattern for colour in row)
        tags.append((33421, 3, 2, (len(case.pattern), len(case.pattern[0])), True))
        tags.append((33422, 1, len(flat), flat, True))
    kind: Any = "minisblack" if mono else 34892 if case.colours == 3 else 32803
    packed = {"bitspersample": case.bits} if case.bits < 16 else {}
    tifffile.imwrite(path, pixels, photometric=kind, extratags=tags, metadata=None, software=False, **packed)
    if mono:  # tifffile writes LinearRaw of three samples only
        with tifffile.TiffFile(path) as tiff:
            place = tiff.pages[0].tags[262].valueoffset
        with path.open("r+b") as file:
            file.seek(place)
            file.write((34892).to_bytes(2, "little"))


def srgb_matrix() -> tuple[int, ...]:
    """The camera's colours are sRGB's: XYZ to those, as rationals."""
    import numpy as np

    from restonnx.isp import colors

    return tuple(n for value in np.linalg.inv(colors.to_xyz("srgb")).ravel() for n in (round(value * 10**6), 10**6))


if __name__ == "__main__":
    main()
