"""Two cameras made from one photograph: where the second one's image is found, and what the model is given of it."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import numpy as np
import pytest

from restonnx import parallax, photograph, registration
from restonnx.diffusion.resizing import Downsample
from restonnx.errors import Cancelled, InputError
from restonnx.registration import Registration, aligned, register

Array = np.ndarray[Any, Any]


@cache
def scene() -> Array:
    """(H, W, 3) in [0, 1], sides even: the demo photograph."""
    pixels = photograph.clean()
    height, width = (side // 2 * 2 for side in pixels.shape[:2])
    result: Array = pixels[:height, :width].astype(np.float32) / 255
    return result


def as_bytes(image: Array) -> Array:
    return np.rint(image.clip(0, 1) * 255).astype(np.uint8)


def wide() -> Array:
    """Half as large, in 8 bit."""
    return as_bytes(Downsample(2).forward(scene().transpose(2, 0, 1)[None])[0].transpose(1, 2, 0))


def homography(part: float, degrees: float, tilt: float = 0.0) -> Array:
    """From the scene's pixels to those of a camera that sees the part of its sides in the middle, turned."""
    height, width = scene().shape[:2]
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turned = np.array([[cos, -sin, 0], [sin, cos, 0], [tilt, -tilt / 2, 1]])
    before = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]])
    after = np.array([[1, 0, part * width / 2 + 1.7], [0, 1, part * height / 2 - 2.4], [0, 0, 1]])
    return after @ turned @ before


def tele(matrix: Array, part: float, *, gain: Any = 1.0, offset: Any = 0.0) -> Array:
    from scipy.ndimage import map_coordinates

    height, width = (round(part * side) for side in scene().shape[:2])
    y, x = np.mgrid[:height, :width].astype(float)
    there_x, there_y = Registration(np.linalg.inv(matrix), 0, 0).places(x, y)
    seen = [map_coordinates(scene()[..., n], (there_y, there_x), order=3, mode="nearest") for n in range(3)]
    noisy = np.stack(seen, -1) * gain + offset + np.random.default_rng(0).normal(0, 1 / 255, (height, width, 3))
    return as_bytes(noisy)


def distance(found: Registration, matrix: Array) -> float:
    """The largest of both homographies, in pixels, over the middle half of the result."""
    height, width = scene().shape[:2]
    x, y = np.meshgrid(np.linspace(width / 4, 3 * width / 4, 5), np.linspace(height / 4, 3 * height / 4, 5))
    ours, true = (np.stack(part.places(x, y)) for part in (found, Registration(matrix, 0, 0)))
    return float(np.hypot(*(ours - true)).max())


@pytest.mark.parametrize(
    ("part", "degrees", "tilt", "gain", "offset"),
    [
        (0.6, 1.5, 5e-5, 1.0, 0.0),
        (0.6, 0.0, 0.0, (0.7, 0.75, 0.8), (0.1, 0.06, 0.03)),  # another exposure and white balance
        (0.5, 10.0, 0.0, 1.0, 0.0),  # turned, and with less of the scene
    ],
)
def test_the_homography_is_found_to_half_a_pixel(
    part: float, degrees: float, tilt: float, gain: Any, offset: Any
) -> None:
    matrix = homography(part, degrees, tilt)
    found = register(wide(), tele(matrix, part, gain=gain, offset=offset), scale=2)
    assert found.matches >= registration.LEAST_MATCHES
    assert distance(found, matrix) < 0.5
    assert distance(found, homography(part, degrees + 1, tilt)) > 0.5  # and it could be told


def test_the_reference_lies_on_the_result_with_its_colours_and_is_nothing_beyond_its_view() -> None:
    from scipy.ndimage import binary_dilation, binary_erosion

    matrix = homography(0.6, 2.0)
    onto, found = aligned(wide(), tele(matrix, 0.6, gain=(0.8, 0.7, 0.9), offset=0.05), scale=2)
    assert onto.dtype == np.uint8
    assert onto.shape == scene().shape
    height, width = onto.shape[:2]
    y, x = np.mgrid[:height, :width]
    there_x, there_y = found.places(x, y)
    size = [round(0.6 * side) for side in scene().shape[:2]]
    inside = (there_x >= 1) & (there_x <= size[1] - 2) & (there_y >= 1) & (there_y <= size[0] - 2)
    # 0 says that nothing is seen. What the flow moves lies up to two pixels beside the homography's place.
    assert not onto[~binary_dilation(inside, iterations=2)].any()
    assert (onto[binary_erosion(inside, iterations=2)] > 0).all()
    inside &= (onto > 0).all(axis=2)
    assert 0.2 < inside.mean() < 0.5
    # As sharp as the scene and in its colours, up to noise: far nearer than the wide image enlarged.
    error = np.abs(onto[inside] / 255 - scene()[inside])
    enlarged = np.abs(wide().repeat(2, 0).repeat(2, 1)[inside] / 255 - scene()[inside])
    assert error.mean() < 0.5 * enlarged.mean()
    assert abs(float((onto[inside] / 255 - scene()[inside]).mean())) < 0.005


def shifted(image: Array, amount: float) -> Array:
    """What is to the right of the middle, and nearer, stands further left by the amount; between both it rises over 40
    pixels."""
    from scipy.ndimage import map_coordinates

    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(float)
    near = amount / (1 + np.exp(-(x - image.shape[1] / 2) / 10))
    planes = [map_coordinates(image[..., n], (y, x + near), order=3, mode="nearest") for n in range(3)]
    return np.stack(planes, -1).clip(0, 1)


@pytest.mark.parametrize("block", [parallax.BLOCK, 160])
@pytest.mark.parametrize(("scale", "amount"), [(1, 5.0), (2, 5.0), (2, -9.0)])
def test_what_is_nearer_is_found_too(monkeypatch: pytest.MonkeyPatch, block: int, scale: int, amount: float) -> None:
    monkeypatch.setattr(parallax, "BLOCK", block)
    small = scene() if scale == 1 else wide() / np.float32(255)
    near = shifted(scene(), amount) ** 1.1 * 0.8 + 0.05  # by another sensor
    seen = np.zeros(near.shape[:2], bool)
    seen[40:-41, 30:] = True
    flow = parallax.flow(
        small.mean(-1).astype(np.float32), np.where(seen, near.mean(-1), 0).astype(np.float32), seen, scale
    )
    assert flow.shape == (2, *seen.shape)
    right, down = flow[:, 60:-60, 60:-60]
    x = np.arange(near.shape[1])[60:-60]
    true = -amount / (1 + np.exp(-(x - near.shape[1] / 2) / 10))
    detail = np.hypot(*np.gradient(scene().mean(-1)))[60:-60, 60:-60] > 0.03
    assert np.abs(right - true)[detail].mean() < 0.5
    assert np.abs(down)[detail].mean() < 0.3


def test_in_large_images_things_are_found_further_away_than_the_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallax, "BLOCK", 128)
    monkeypatch.setattr(parallax, "MARGIN", 16)
    near, small = shifted(scene(), 28.0).mean(-1).astype(np.float32), wide().mean(-1).astype(np.float32) / 255
    seen, off = np.ones(near.shape, bool), []
    for whole in (130, 2000):
        monkeypatch.setattr(parallax, "WHOLE", whole)
        right = parallax.flow(small, near, seen, 2)[0]
        x = np.arange(near.shape[1])
        true = -28 / (1 + np.exp(-(x - near.shape[1] / 2) / 10))
        detail = np.hypot(*np.gradient(scene().mean(-1))) > 0.03
        off.append(float(np.median(np.abs(right - true)[:, -150:-40][detail[:, -150:-40]])))
        if whole == 130:  # what has come from beyond the border is told apart from what has not
            there = (np.arange(near.shape[1]) + right)[:, -8:]
            assert np.abs(there - (x + true)[-8:]).max() < 4
    assert off[0] < 0.5
    assert off[1] > 5


def test_near_things_lie_on_the_result_as_well() -> None:
    """Through `aligned`, whose homography can fit one depth alone."""
    matrix = homography(0.8, 1.0)
    onto, _ = aligned(as_bytes(shifted_wide()), tele(matrix, 0.8), scale=2)
    seen = onto.max(-1) > 0
    wanted = shifted(scene(), 6.0)
    assert seen.mean() > 0.4
    error = np.abs(onto / 255 - wanted)[seen].mean()
    assert error < 0.01  # 0.0195 by the homography alone


def shifted_wide() -> Array:
    return np.asarray(Downsample(2).forward(shifted(scene(), 6.0).transpose(2, 0, 1)[None])[0].transpose(1, 2, 0))


def test_values_and_channels_are_the_images_own() -> None:
    colour = tele(homography(0.6, 0.0), 0.6)
    grey = (wide().mean(axis=2) * 40 + 1000).astype(np.uint16)  # scaled by its percentiles
    onto, _ = aligned(grey, colour, scale=1)
    assert onto.dtype == np.uint16
    assert onto.shape == grey.shape
    seen = onto > onto.min()
    assert 0.3 < seen.mean() < 0.42
    assert np.abs(onto[seen].astype(float) - grey[seen]).mean() < 0.03 * np.ptp(grey)


def test_what_does_not_show_the_same_place_is_refused_in_one_line() -> None:
    other = scene()[::-1, ::-1].transpose(1, 0, 2)[:120, :150]
    blank = np.full((120, 150, 3), 90, np.uint8)
    stack = np.zeros((4, 60, 60), np.uint8)
    for reference, complaint in (
        (np.random.default_rng(0).integers(0, 255, other.shape, dtype=np.uint8), "points in them agree|no detail"),
        (as_bytes(other), "points in them agree"),  # the scene in a mirror
        (blank, "next to no detail"),
        (stack, "the reference is a stack"),
        (blank[:20], "the reference is too small"),
    ):
        with pytest.raises(InputError, match=complaint) as error:
            aligned(wide(), reference, scale=2)
        assert "\n" not in str(error.value)


def test_its_progress_rises_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallax, "BLOCK", 200)
    seen: list[tuple[int, int]] = []
    aligned(wide(), tele(homography(0.6, 0.0), 0.6), scale=2, progress=lambda done, total: seen.append((done, total)))
    assert (seen[0], seen[-1]) == ((0, 100), (100, 100))
    assert seen == sorted(seen)
    assert len(set(seen)) > 6


@pytest.mark.parametrize("last", [registration.REGISTERED, registration.REGISTERED + 1])
def test_it_can_be_cancelled_in_the_middle(monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    """Before the flow, and in it."""
    monkeypatch.setattr(parallax, "BLOCK", 64)
    stop, reported = threading.Event(), list[int]()

    def report(done: int, total: int) -> None:
        reported.append(done)
        if done >= last:
            stop.set()

    with pytest.raises(Cancelled):
        aligned(wide(), tele(homography(0.6, 0.0), 0.6), scale=2, progress=report, cancel=stop)
    assert reported[-1] < registration.FOLLOWED


def test_it_can_be_cancelled() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        aligned(wide(), tele(homography(0.6, 0.0), 0.6), scale=2, cancel=stop)
