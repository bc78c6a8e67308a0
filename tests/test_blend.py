"""Joining tiles: what they agree on comes out exactly, and between them the weights are linear."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from restonnx.blend import Blend, ramps
from restonnx.tiles import TilePlan, padded, plan, smallest_tile


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """The arguments of a Blend: a plan whose tiles share what they need for the fade."""
    multiple, fade = draw(st.sampled_from([1, 2, 4, 8])), draw(st.integers(0, 24))
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    halo = -(-fade // 2)
    cut = plan(
        padded(height, multiple),
        padded(width, multiple),
        tile=smallest_tile(halo, multiple) + draw(st.integers(0, 40)),
        halo=halo,
        multiple=multiple,
        shrink=draw(st.booleans()),
    )
    return {"plan": cut, "size": (height, width), "fade": fade, "scale": draw(st.sampled_from([1, 2, 3]))}


def joined(case: dict[str, Any], results: list[np.ndarray]) -> np.ndarray:
    """The results (C, h, w) of all tiles as one image; every pixel must come once."""
    blend, (height, width), scale = Blend(**case), case["size"], case["scale"]
    image = np.full((len(results[0]), height * scale, width * scale), np.nan, np.float32)
    for number, values in enumerate(results):
        (rows, cols), finished = blend.add(number, values)
        assert np.isnan(image[:, rows, cols]).all()
        assert finished.shape[1:] == (rows.stop - rows.start, cols.stop - cols.start)
        image[:, rows, cols] = finished
    assert not np.isnan(image).any()
    return image


def cut_up(image: np.ndarray, cut: TilePlan, scale: int) -> list[np.ndarray]:
    def large(window: slice) -> slice:
        return slice(window.start * scale, window.stop * scale)

    return [image[:, large(tile.rows), large(tile.cols)].copy() for tile in cut]


def whole(case: dict[str, Any]) -> np.ndarray:
    """An image (2, H, W) of the padded size."""
    last, scale = case["plan"].tiles[-1], case["scale"]
    shape = 2, last.rows.stop * scale, last.cols.stop * scale
    return np.random.default_rng(0).normal(0, 100, shape).astype(np.float32)


def constants(case: dict[str, Any], values: list[float]) -> list[np.ndarray]:
    """A result for every tile, all of one value."""
    tall, wide = (side * case["scale"] for side in case["plan"].shape)
    return [np.full((1, tall, wide), value, np.float32) for value in values]


@given(cases())
def test_tiles_that_agree_are_joined_exactly(case: dict[str, Any]) -> None:
    image, (height, width), scale = whole(case), case["size"], case["scale"]
    expected = image[:, : height * scale, : width * scale]
    assert np.array_equal(joined(case, cut_up(image, case["plan"], scale)), expected)


@given(cases())
def test_the_weights_of_the_tiles_sum_to_one(case: dict[str, Any]) -> None:
    count = len(case["plan"])
    assert (joined(case, constants(case, [1.0] * count)) == 1).all()
    # The weights of the even tiles and those of the odd ones, each computed without the other.
    even, odd = (joined(case, constants(case, [float(n % 2 == kind) for n in range(count)])) for kind in (0, 1))
    assert min(even.min(), odd.min()) >= 0
    np.testing.assert_allclose(even + odd, 1, atol=2e-7)


@given(cases())
def test_ramps_lie_in_both_tiles_and_never_overlap(case: dict[str, Any]) -> None:
    tiles = case["plan"].tiles[: case["plan"].grid[1]]
    found = ramps([tile.core_cols for tile in tiles], case["fade"])
    for ramp, (left, right) in zip(found, pairwise(tiles), strict=True):
        assert ramp.stop - ramp.start <= case["fade"]
        assert right.cols.start <= ramp.start <= ramp.stop <= left.cols.stop
    for ramp, following in pairwise(found):
        assert ramp.stop <= following.start


def test_between_two_tiles_the_weight_is_a_linear_ramp_as_wide_as_the_fade() -> None:
    cut = plan(4, 24, tile=(16, 16), halo=4, multiple=1)
    assert cut.grid == (1, 2)
    case = {"plan": cut, "size": (4, 24), "fade": 8, "scale": 2}
    image = joined(case, constants(case, [0, 1]))
    expected = np.concatenate([np.zeros(16), (np.arange(16) + 0.5) / 16, np.ones(16)])
    assert np.array_equal(image, np.broadcast_to(expected.astype(np.float32), (1, 8, 48)))


def test_where_four_tiles_meet_the_weights_multiply() -> None:
    case = {"plan": plan(24, 24, tile=16, halo=4, multiple=1), "size": (24, 24), "fade": 8, "scale": 1}
    weights = np.clip((np.arange(24) - 8 + 0.5) / 8, 0, 1)
    np.testing.assert_allclose(joined(case, constants(case, [0, 0, 0, 1]))[0], weights[:, None] * weights, atol=1e-7)


@given(cases())
def test_without_a_fade_the_cores_lie_side_by_side(case: dict[str, Any]) -> None:
    image = joined({**case, "fade": 0}, constants(case, list(range(len(case["plan"])))))
    scale = case["scale"]
    for number, tile in enumerate(case["plan"]):
        rows, cols = tile.core_rows, tile.core_cols
        core = image[0, rows.start * scale : rows.stop * scale, cols.start * scale : cols.stop * scale]
        assert (core == number).all()


@given(cases())
def test_the_tiles_of_the_next_image_may_follow(case: dict[str, Any]) -> None:
    blend, results = Blend(**case), cut_up(whole(case), case["plan"], case["scale"])
    first, second = ([blend.add(n, values)[1].copy() for n, values in enumerate(results)] for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@given(cases())
def test_results_that_are_given_are_not_changed(case: dict[str, Any]) -> None:
    results = cut_up(whole(case), case["plan"], case["scale"])
    before = [values.copy() for values in results]
    joined(case, results)
    assert all(np.array_equal(a, b) for a, b in zip(before, results, strict=True))
