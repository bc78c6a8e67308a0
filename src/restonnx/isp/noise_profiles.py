"""How noisy a frame is: what its file says, else what the frame shows, else what a table says of its ISO.

The estimate takes the residual of second differences in both directions, in which little of the picture is left, in
blocks of one colour; the flattest blocks of each brightness give the noise there, and a line through them a and b
of  variance = a x + b  (after Foi et al. 2008, "Practical Poissonian-Gaussian noise modeling and fitting").
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from restonnx.errors import InputError
from restonnx.isp import cfa, scattered
from restonnx.isp.frame import Floats, Frame, NoiseProfile
from restonnx.isp.strips import strips

Doubles = np.ndarray[Any, np.dtype[np.float64]]
Table = Mapping[float, tuple[float, float]]
"""ISO -> (a, b)."""

BLOCK = 16
"""Side of a block, in pixels of one colour's plane."""
BRIGHT = 0.9
"""A block with a value above this is left out: near saturation noise is cut off."""
LEVELS = 24
FLATTEST = 0.1
"""Share of the blocks of a brightness that is taken for flat."""
SELECTION = 0.750
"""Median variance of the flattest tenth of blocks of white noise: choosing small ones makes it smaller than 1."""
FEWEST = 40
"""Blocks below which nothing can be said."""


@dataclass(frozen=True, eq=False)
class Fit:
    """The points through which a line was laid, for one colour."""

    levels: Doubles
    """Mean values."""
    variances: Doubles
    a: float
    b: float


def noise_profile(frame: Frame, table: Table | None = None) -> NoiseProfile:
    """The frame's own profile, else an estimate, else the table's entry for its ISO.

    Raises InputError where there is no profile, the frame is too small or too bright, and no table helps.
    """
    if frame.meta.noise is not None:
        return frame.meta.noise
    try:
        return estimate(frame)
    except InputError:
        if table is None or frame.meta.iso is None:
            raise
        return from_table(table, frame.meta.iso, colours=1 if frame.meta.is_monochrome else 3)


def estimate(frame: Frame) -> NoiseProfile:
    """From the frame alone, for each colour. Noise that demosaicking has spread over neighbours is underrated.

    Raises InputError where fewer than 40 blocks of 16x16 pixels of a colour (X-Trans: 36x36 pixels) are usable.
    """
    fits = fitted(frame)
    return NoiseProfile(tuple(fit.a for fit in fits), tuple(fit.b for fit in fits), "estimate")


def fitted(frame: Frame) -> tuple[Fit, ...]:
    """The fits behind `estimate`: of red, green and blue, or of the one colour of a monochrome sensor."""
    image, meta = frame.image, frame.meta
    if meta.cfa is not None and len(meta.cfa) == scattered.PERIOD:
        return tuple(_fit(*scattered.block_noise(image, meta.cfa, colour, BRIGHT)) for colour in range(3))
    if meta.domain == "display_rgb":
        raise InputError("the noise of a display image has no profile; take the frame before the transfer function")
    planes: dict[int, list[Floats]] = {}
    if meta.cfa is None:
        planes = {colour: [image[..., colour]] for colour in range(3)}
    else:
        for colour, where in cfa.sites(meta.cfa):
            planes.setdefault(colour, []).append(image[where])
    blocks = ([_blocks(plane) for plane in planes[colour]] for colour in sorted(planes))
    return tuple(_fit(*(np.concatenate(part) for part in zip(*each, strict=True))) for each in blocks)


def from_table(table: Table, iso: float, colours: int = 3) -> NoiseProfile:
    """Between a table's ISOs, a and b go as powers of the ISO; beyond them a goes with ISO and b with its square."""
    if not table or any(not values[0] > 0 or not values[1] > 0 or not key > 0 for key, values in table.items()):
        raise InputError("a noise table needs at least one ISO, and a and b above 0 for each")
    known = sorted(table)
    logs = np.log([[key, *table[key]] for key in known])
    at = float(np.clip(math.log(iso), logs[0, 0], logs[-1, 0]))
    beyond = math.log(iso) - at
    a = math.exp(float(np.interp(at, logs[:, 0], logs[:, 1])) + beyond)
    b = math.exp(float(np.interp(at, logs[:, 0], logs[:, 2])) + 2 * beyond)
    return NoiseProfile((a,) * colours, (b,) * colours, "table")


def read_table(path: str | Path) -> dict[float, tuple[float, float]]:
    """A table from a CSV file with the columns iso, a and b. Raises InputError."""
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = {float(row["iso"]): (float(row["a"]), float(row["b"])) for row in csv.DictReader(file)}
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no noise table; it should be a CSV file with the columns iso, a, b") from error
    if not table:
        raise InputError(f"{path} is an empty noise table; it should have a row below the columns iso, a, b")
    return table


def _fit(means: Doubles, variances: Doubles) -> Fit:
    """Through the flattest blocks of each brightness."""
    if len(means) < FEWEST:
        raise InputError(
            f"the noise cannot be estimated: the frame has {len(means)} usable blocks, and at least {FEWEST} are "
            "needed; give a profile or a table"
        )
    order = np.argsort(means)
    bins = np.array_split(order, min(LEVELS, len(order) // 10))
    points = [_flattest(means[chosen], variances[chosen]) for chosen in bins]
    levels, spreads, counts = (np.array(column) for column in zip(*points, strict=True))
    a, b = _line(levels, spreads, counts)
    return Fit(levels, spreads, a, b)


def _blocks(plane: Floats) -> tuple[Doubles, Doubles]:
    """Mean, and variance of the noise, of each usable block of a plane."""
    cut_off = bool(plane.min() >= 0)  # by the camera: the noise below black
    inner = plane[1:-1]
    parts = [_blocks_in(plane[rows.start : rows.stop + 2], cut_off) for rows in strips(inner, multiple=BLOCK)]
    means, variances = (np.concatenate(part) for part in zip(*parts, strict=True)) if parts else np.zeros((2, 0))
    return means, variances


def _blocks_in(plane: Floats, cut_off: bool) -> tuple[Doubles, Doubles]:
    rows, cols = ((side - 2) // BLOCK for side in plane.shape)
    if rows < 1 or cols < 1:
        return np.zeros(0), np.zeros(0)
    across = plane[:, :-2] - 2 * plane[:, 1:-1] + plane[:, 2:]
    residual = (across[:-2] - 2 * across[1:-1] + across[2:]) / np.float32(6)

    def cut(values: Floats) -> Floats:
        part = values[: rows * BLOCK, : cols * BLOCK].reshape(rows, BLOCK, cols, BLOCK)
        return part.swapaxes(1, 2).reshape(rows * cols, -1)

    values, noise = cut(plane[1:-1, 1:-1]), cut(residual).astype(np.float64)
    usable = values.max(axis=1) <= BRIGHT
    if cut_off:
        usable &= (values <= 0).mean(axis=1) < 0.02
    return values[usable].mean(axis=1, dtype=np.float64), (noise[usable] ** 2).mean(axis=1) / SELECTION


def _flattest(means: Doubles, variances: Doubles) -> tuple[float, float, int]:
    """Level, noise variance and number of the blocks with the least residual."""
    count = max(1, round(len(means) * FLATTEST))
    chosen = np.argsort(variances)[:count]
    return float(means[chosen].mean()), float(np.median(variances[chosen])), count


def _line(levels: Doubles, variances: Doubles, counts: Doubles) -> tuple[float, float]:
    """a and b, neither below 0, by least squares; the error of a variance goes with the variance."""
    floor = max(float(variances.max()) * 1e-3, 1e-16)
    fit = np.maximum(variances, floor)
    a = b = 0.0
    for _ in range(4):  # weights by the line itself: by the points, low outliers would rule
        weights = counts / np.maximum(fit, floor) ** 2
        total, mean = weights.sum(), (weights * levels).sum() / weights.sum()
        centred = levels - mean
        moment = (weights * centred**2).sum()
        a = float((weights * centred * variances).sum() / moment) if moment > 1e-12 * total else 0.0
        b = float((weights * variances).sum() / total) - a * float(mean)
        if a < 0:
            a, b = 0.0, float((weights * variances).sum() / total)
        elif b < 0:
            a, b = float((weights * levels * variances).sum() / max((weights * levels**2).sum(), 1e-30)), 0.0
        fit = a * levels + b
    return max(a, 0.0) or 1e-12, max(b, 0.0) or 1e-14
