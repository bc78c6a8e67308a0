"""RAW denoisers on a real Bayer file and on mosaics made from photographs, beside a classical method.

    OMP_NUM_THREADS=1 python benchmarks/raw_denoise.py --raw colorchart.dng --data McMaster

The real file: Poisson-Gaussian noise of variance a x + b is added to its mosaic (0 black, 1 saturation), the noise
profile is estimated from that noisy frame alone, and mosaic and LibRaw's render (sRGB, 8 bit) are compared with those
of the file as it is. That file has some noise of its own, so what is reached is bounded. The photographs: led back to
a sensor's colours as in training (`restonnx.training.degradations.raw`), exposure and white balance drawn per image
from a seed, and given the same noise at four strengths; here the profile is given. The classical method is the same
variance stabilisation with scikit-image's non-local means, told the noise, plane by plane.

X-Trans: every second of the photographs as such a mosaic, mirrored to 528 pixels, as LibRaw wants more than 512, with
the same noise and the profile given, demosaicked by LibRaw (AHD) as `develop` does before models of linear colours.
What comes out is compared with the mosaic without noise, demosaicked alike: in the camera's linear colours, and in
those balanced and through sRGB's curve. The classical method is then non-local means on all three colours at once.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from raw_sizes import X_TRANS
from results import write

from restonnx import isp, library
from restonnx.images import SUFFIXES, read
from restonnx.isp import cfa, colors, dng, libraw
from restonnx.isp.stabilise import Stabiliser
from restonnx.training.degradations.raw import Raw, pack

Floats = NDArray[np.float32]
Method = Callable[[isp.Frame], Floats]
ON_MOSAICS = ("raw-denoise", "raw-denoise-fast", "denoise-gray")
ON_COLOURS = ("linear-denoise", "denoise-gray")
ADDED = ((1e-3, 4e-6), (4e-3, 4e-5))
SHOT = (2e-4, 1e-3, 4e-3, 1.2e-2)
RGGB = ((0, 1), (1, 2))
BALANCE = (1.9, 1.0, 1.6)
"""White balance of the X-Trans mosaics; those of Bayer are drawn."""
LEVELS = 8192, 65535
"""Black and white of their files: noise goes below black."""
EVERY = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = {entry.name for entry in library.models()}
    parser.add_argument("--model", nargs="*", default=[name for name in ON_MOSAICS if name in known])
    parser.add_argument("--linear", nargs="*", default=[name for name in ON_COLOURS if name in known])
    parser.add_argument("--raw", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    methods = models(options.model) | {"non-local means": non_local_means, "noisy": lambda frame: frame.image}
    on_colours = models(options.linear) | {"non-local means": colour_means, "noisy": lambda frame: frame.image}
    real = [row for a, b in ADDED for row in on_real_file(options.raw, methods, a, b)]
    made = [row for a in SHOT for row in on_photographs(options.data, methods, a)]
    x_trans = [row for a in SHOT for row in on_x_trans(options.data, on_colours, a)]
    write("raw_denoise", {"protocol": __doc__, "real_file": real, "photographs": made, "x_trans": x_trans})


def models(names: list[str]) -> dict[str, Method]:
    stages = {Path(name).stem: isp.RestorationStage(name, device="cpu") for name in names}
    return {name: lambda frame, s=s: isp.apply(frame, s).image for name, s in stages.items()}


def on_real_file(path: Path, methods: dict[str, Method], a: float, b: float) -> list[dict[str, Any]]:
    with libraw.opened(path) as raw:
        frame = libraw.frame_of(raw, path)
        clean = libraw.render(raw).astype(np.float32) / 65535
        noisy = with_noise(frame, a, b, seed=0)
        profile = isp.noise_profile(noisy)
        noisy = isp.Frame(noisy.image, replace(noisy.meta, noise=profile))
        rows = []
        for name, method in methods.items():
            started = time.perf_counter()
            restored = method(noisy)
            seconds = time.perf_counter() - started
            libraw.replace_pixels(raw, isp.Frame(restored, frame.meta))
            render = libraw.render(raw).astype(np.float32) / 65535
            rows.append(
                {
                    "method": name,
                    "added": [a, b],
                    "estimated": [[round(v, 7) for v in values] for values in (profile.a, profile.b)],
                    "mosaic_psnr": psnr(frame.image, restored),
                    "render_psnr": psnr(np.round(clean * 255) / 255, np.round(render * 255) / 255),
                    "channel_means": [round(float(v), 4) for v in render.mean((0, 1)) / clean.mean((0, 1))],
                    "seconds_per_raw_megapixel": round(seconds / frame.image.size * 1e6, 3),
                }
            )
            print(rows[-1], flush=True)
    return rows


def on_photographs(folder: Path, methods: dict[str, Method], a: float) -> list[dict[str, Any]]:
    b, scores = read_noise(a), {name: list[float]() for name in methods}
    for index, path in enumerate(photographs(folder)):
        clean = mosaic_of(path, seed=index)
        frame = isp.Frame(clean, isp.FrameMeta("cfa", cfa=RGGB, noise=isp.NoiseProfile((a,) * 3, (b,) * 3)))
        noisy = with_noise(frame, a, b, seed=index)
        for name, method in methods.items():
            scores[name].append(psnr(clean, method(noisy)))
    rows = [{"method": name, "a": a, "b": b, "mosaic_psnr": round(float(np.mean(v)), 2)} for name, v in scores.items()]
    print(*rows, sep="\n", flush=True)
    return rows


def on_x_trans(folder: Path, methods: dict[str, Method], a: float) -> list[dict[str, Any]]:
    b, scores = read_noise(a), {name: list[tuple[float, float]]() for name in methods}
    for index, path in enumerate(photographs(folder)[::EVERY]):
        clean = x_trans_of(path, seed=index)
        profile = isp.NoiseProfile((a,) * 3, (b,) * 3)
        truth, noisy = (demosaicked(frame, profile) for frame in (clean, with_noise(clean, a, b, seed=index)))
        for name, method in methods.items():
            restored = method(noisy)
            seen = psnr(shown(truth.image), shown(restored))
            scores[name].append((psnr(truth.image, restored), seen))
    rows = []
    for name, pairs in scores.items():
        linear, balanced = (round(float(value), 2) for value in np.mean(pairs, axis=0))
        rows.append({"method": name, "a": a, "b": b, "linear_psnr": linear, "shown_psnr": balanced})
    print(*rows, sep="\n", flush=True)
    return rows


def read_noise(a: float) -> float:
    """What Brooks et al. found to go with a."""
    return float(np.exp(2.18 * np.log(a) + 1.2))


def photographs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def colours_of(path: Path, seed: int, sensor: Raw) -> torch.Tensor:
    """The photograph in a sensor's linear colours, (1, 3, rows, columns)."""
    pixels = np.asarray(read(path).pixels, np.float32)[..., :3] / 255
    pixels = pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2]
    photograph = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
    return sensor.unprocess(photograph, torch.Generator().manual_seed(seed))


def mosaic_of(path: Path, seed: int) -> Floats:
    """The RGGB mosaic (rows, columns) that a sensor would have made of this photograph."""
    planes = pack(colours_of(path, seed, Raw()))[0].numpy()
    return cfa.unpack(planes, RGGB, (2 * planes.shape[1], 2 * planes.shape[2]))


def x_trans_of(path: Path, seed: int) -> isp.Frame:
    """The same of an X-Trans sensor."""
    red, _, blue = BALANCE
    light = colours_of(path, seed, Raw(red=(red, red), blue=(blue, blue)))[0].numpy()
    light = np.pad(light, ((0, 0), *((0, max(0, 528 - side)) for side in light.shape[1:])), mode="symmetric")
    mosaic = np.empty(light.shape[1:], np.float32)
    for colour, where in cfa.sites(X_TRANS):
        mosaic[where] = light[colour][where]
    black, white = LEVELS
    return isp.Frame(mosaic, isp.FrameMeta("cfa", X_TRANS, (float(black),), (float(white),), BALANCE))


def demosaicked(frame: isp.Frame, profile: isp.NoiseProfile) -> isp.Frame:
    meta = frame.meta
    pixels = cfa.from_unit(frame.image, meta.cfa, meta.black, meta.white)
    with libraw.opened_bytes(dng.to_bytes(dng.Negative(pixels, meta, LEVELS[1]))) as raw:
        image, described = libraw.demosaicked(raw, libraw.describe(raw))
    return isp.Frame(image, replace(described, noise=profile))


def shown(image: Floats) -> Floats:
    return colors.encode((image * np.float32(BALANCE)).clip(0, 1))


def with_noise(frame: isp.Frame, a: float, b: float, seed: int) -> isp.Frame:
    drawn = np.random.default_rng(seed).standard_normal(frame.image.shape).astype(np.float32)
    deviation = np.sqrt(a * np.maximum(frame.image, 0) + b)
    return isp.Frame((frame.image + deviation * drawn).astype(np.float32), frame.meta)


def non_local_means(frame: isp.Frame) -> Floats:
    from skimage.restoration import denoise_nl_means

    assert frame.meta.cfa is not None
    assert frame.meta.noise is not None
    planes = []
    for plane, colour in zip(cfa.pack(frame.image, frame.meta.cfa), cfa.RGGB_COLOURS, strict=True):
        reading = Stabiliser(*frame.meta.noise.of(colour))
        sigma = reading.sigma
        seen = denoise_nl_means(reading.forward(plane), patch_size=5, patch_distance=6, h=0.6 * sigma, sigma=sigma)
        planes.append(reading.inverse(seen.astype(np.float32)))
    return cfa.unpack(np.stack(planes), frame.meta.cfa, frame.image.shape)


def colour_means(frame: isp.Frame) -> Floats:
    from skimage.restoration import denoise_nl_means

    assert frame.meta.noise is not None
    reading = Stabiliser(*frame.meta.noise.of(1))
    options = {"patch_size": 5, "patch_distance": 6, "h": 0.6 * reading.sigma, "sigma": reading.sigma}
    seen = denoise_nl_means(reading.forward(frame.image), channel_axis=-1, **options)
    return reading.inverse(seen.astype(np.float32))


def psnr(truth: Floats, image: Floats) -> float:
    return round(float(-10 * np.log10(np.mean(np.square(truth.astype(np.float64) - image)))), 2)


if __name__ == "__main__":
    main()
