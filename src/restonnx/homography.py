"""The homography between two grey images of one place: by points that look alike, then by all pixels.

Points are (N, 2), x and y, the centre of the first pixel being (0, 0); a matrix (3, 3) takes (x, y, 1) of one image to
the other's, up to a factor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from restonnx.errors import InputError

Array = np.ndarray[Any, np.dtype[Any]]
Floats = np.ndarray[Any, np.dtype[np.float32]]
Matrix = np.ndarray[Any, np.dtype[np.float64]]
Points = Matrix

SMALL_SIDE = 400
"""Images up to that are searched at twice their size, as they have few points."""
LEAST_MATCHES = 12
"""So many points agree by chance hardly ever."""
TOLERANCE = 3.0
"""By which a point may be off, in pixels of the second image."""
ZOOMS = (0.1, 20.0)
"""How much larger the second image may show things."""
COMPARED = 200_000
"""So many pixels tell as much as all."""
ITERATIONS = 20


def by_features(first: Floats, second: Floats, check: Callable[[], None]) -> tuple[Matrix, tuple[Points, Points]]:
    """The homography from one image to the other, and the points of both that agree on it.

    Of the features of both that look alike (Lowe 2004, "Distinctive image features from scale-invariant keypoints")
    those which agree (random sample consensus, Fischler and Bolles 1981).
    check: called now and then, to end the run by an exception.  Raises InputError where too few agree.
    """
    from skimage.feature import match_descriptors
    from skimage.measure import ransac
    from skimage.transform import ProjectiveTransform

    points, descriptors = [], []
    for grey in (first, second):
        check()
        found, described = _features(grey)
        points.append(found)
        descriptors.append(described)
    check()
    if min(map(len, points)) < LEAST_MATCHES:
        raise InputError(failed("one of the two images has next to no detail"))
    pairs = match_descriptors(descriptors[0], descriptors[1], cross_check=True, max_ratio=0.8)  # type: ignore[no-untyped-call]
    here, there = points[0][pairs[:, 0]], points[1][pairs[:, 1]]
    agree = None
    if len(pairs) >= LEAST_MATCHES:
        model, agree = ransac(  # type: ignore[no-untyped-call]
            (here, there),
            ProjectiveTransform,
            min_samples=4,
            residual_threshold=TOLERANCE,
            max_trials=2000,
            rng=0,
            is_model_valid=lambda model, *_: is_plausible(model.params, first.shape),
        )
    count = 0 if agree is None else int(agree.sum())
    if agree is None or count < LEAST_MATCHES:
        raise InputError(failed(f"only {count} points in them agree, and {LEAST_MATCHES} are needed"))
    return np.asarray(model.params), (here[agree], there[agree])


def _features(grey: Floats) -> tuple[Points, Array]:
    """Where they are, as x and y, and what they look like."""
    from skimage.feature import SIFT

    sift: Any = SIFT(upsampling=1 if max(grey.shape) > SMALL_SIDE else 2)  # type: ignore[no-untyped-call]
    try:
        sift.detect_and_extract(grey)
    except RuntimeError:  # what it raises where it finds none
        return np.zeros((0, 2)), np.zeros((0, 128))
    return sift.positions[:, ::-1].astype(np.float64), sift.descriptors


def by_pixels(first: Floats, second: Floats, matrix: Matrix) -> Matrix:
    """A homography that is off by a pixel or two, improved until the details of both images lie on each other.

    Least squares over the pixels, for the eight numbers of the homography together with a gain and an offset of the
    second image (Lucas and Kanade 1981; Baker and Matthews 2004), where pixels that differ much, such as those of
    things at another distance, count for little.
    """
    from scipy.ndimage import gaussian_filter, map_coordinates

    height, width = first.shape
    zoom = max(zoom_of(matrix, (width / 2, height / 2)), 1.0)
    wanted = gaussian_filter(first, 1.0) - gaussian_filter(first, 4.0)
    given = gaussian_filter(second, zoom) - gaussian_filter(second, 4 * zoom)
    slopes = (given, np.gradient(given, axis=1), np.gradient(given, axis=0))
    step = max(1, int(np.sqrt(first.size / COMPARED)))
    y, x = (part.ravel() for part in np.mgrid[0:height:step, 0:width:step].astype(np.float64))
    onto_unit = np.array([[2 / width, 0, -1], [0, 2 / height, -1], [0, 0, 1]])  # where all numbers are alike in size
    h = matrix @ inverse(onto_unit)
    h = h / h[2, 2]
    x_unit, y_unit = 2 * x / width - 1, 2 * y / height - 1
    gain, offset, best, found = 1.0, 0.0, np.inf, matrix
    for _ in range(ITERATIONS):
        depth = h[2, 0] * x_unit + h[2, 1] * y_unit + 1
        u = (h[0, 0] * x_unit + h[0, 1] * y_unit + h[0, 2]) / depth
        v = (h[1, 0] * x_unit + h[1, 1] * y_unit + h[1, 2]) / depth
        seen = (u > zoom) & (u < second.shape[1] - 1 - zoom) & (v > zoom) & (v < second.shape[0] - 1 - zoom)
        if seen.sum() < 32 * 32:
            return matrix
        u, v, xs, ys, ds = u[seen], v[seen], x_unit[seen], y_unit[seen], depth[seen]
        value, right, down = (map_coordinates(part, (v, u), order=1) for part in slopes)
        target = wanted[y[seen].astype(int), x[seen].astype(int)]
        off = target - (gain * value + offset)
        spread = 1.5 * float(np.median(np.abs(off))) + 1e-6
        weight = 1 / (1 + (off / (2 * spread)) ** 2)
        if (cost := float((weight * off**2).sum() / weight.sum()) / max(gain, 1e-3) ** 2) < best:
            best, found = cost, h @ onto_unit
        right, down = gain * right / ds, gain * down / ds
        along = -(right * u + down * v)
        slope = np.stack(
            [right * xs, right * ys, right, down * xs, down * ys, down, along * xs, along * ys, value, np.ones_like(xs)]
        )
        normal = (slope * weight) @ slope.T
        change = np.linalg.lstsq(normal, (slope * weight) @ off, rcond=1e-12)[0]
        h = h + np.append(change[:8], 0).reshape(3, 3)
        gain, offset = gain + change[8], offset + change[9]
        if not np.isfinite(h).all() or gain < 0.05:
            break
    return found if is_plausible(found, first.shape) else matrix


def inverse(matrix: Matrix) -> Matrix:
    return np.linalg.inv(matrix).astype(np.float64)


def moved(matrix: Matrix, points: Points) -> Points:
    there: Points = np.c_[points, np.ones(len(points))] @ matrix.T
    return there[:, :2] / there[:, 2:]


def zoom_of(matrix: Matrix, place: tuple[float, float]) -> float:
    """How many pixels along a side one pixel becomes there."""
    x, y = place
    corners = moved(matrix, np.array([[x, y], [x + 1, y], [x, y + 1]]))
    right, down = corners[1:] - corners[0]
    return float(np.sqrt(abs(right[0] * down[1] - right[1] * down[0])))


def is_plausible(matrix: Matrix, size: tuple[int, ...]) -> bool:
    """Neither mirrored nor folded, nor far too large or small."""
    height, width = size
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], float)
    depth = np.c_[corners, np.ones(4)] @ matrix[2]
    if not np.isfinite(matrix).all() or (depth * np.sign(depth[0]) < 0.2 * np.abs(depth).max()).any():
        return False
    there = moved(matrix, corners)
    sides = np.roll(there, -1, axis=0) - there
    turns = sides[:, 0] * np.roll(sides, -1, axis=0)[:, 1] - sides[:, 1] * np.roll(sides, -1, axis=0)[:, 0]
    return bool((turns > 0).all()) and ZOOMS[0] < zoom_of(matrix, (width / 2, height / 2)) < ZOOMS[1]


def failed(why: str) -> str:
    return (
        f"the reference cannot be registered: {why}; it should show the same place, sharp, or be given on the "
        "result's own pixels"
    )
