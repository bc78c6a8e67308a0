"""The plan of tiles: cores cover the image, halos are kept, nothing is computed twice without need."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from restonnx.errors import InputError
from restonnx.tiles import HALO_COST, padded, plan, smallest_tile, tile_for_budget, worthwhile_tile


@st.composite
def plans(draw: st.DrawFn) -> dict[str, int]:
    multiple = draw(st.sampled_from([1, 2, 4, 6, 8, 16]))
    halo = draw(st.integers(0, 20))
    return {
        "height": multiple * draw(st.integers(1, 40)),
        "width": multiple * draw(st.integers(1, 40)),
        "tile": smallest_tile(halo, multiple) + draw(st.integers(0, 100)),
        "halo": halo,
        "multiple": multiple,
    }


@given(plans(), st.booleans())
def test_the_cores_cover_every_pixel_once(case: dict[str, int], shrink: bool) -> None:
    covered = np.zeros((case["height"], case["width"]), int)
    for tile in plan(**case, shrink=shrink):
        covered[tile.core_rows, tile.core_cols] += 1
    assert (covered == 1).all()


@given(plans(), st.booleans())
def test_every_core_keeps_the_halo_from_every_border_inside_the_image(case: dict[str, int], shrink: bool) -> None:
    for tile in plan(**case, shrink=shrink):
        for read, core, length in [
            (tile.rows, tile.core_rows, case["height"]),
            (tile.cols, tile.core_cols, case["width"]),
        ]:
            assert core.start < core.stop
            assert core.start == 0 or core.start - read.start >= case["halo"]
            assert core.stop == length or read.stop - core.stop >= case["halo"]


@given(plans())
def test_tiles_have_one_shape_start_at_multiples_and_lie_inside(case: dict[str, int]) -> None:
    cut = plan(**case)
    assert len(cut) == cut.grid[0] * cut.grid[1]
    for tile in cut:
        assert (tile.rows.stop - tile.rows.start, tile.cols.stop - tile.cols.start) == cut.shape
        assert tile.rows.start >= 0
        assert tile.rows.stop <= case["height"]
        assert tile.cols.start >= 0
        assert tile.cols.stop <= case["width"]
        assert tile.rows.start % case["multiple"] == tile.cols.start % case["multiple"] == 0
    assert cut.tiles[-1].rows.stop == case["height"]
    assert cut.tiles[-1].cols.stop == case["width"]


@given(plans(), st.integers(1, 40), st.integers(1, 40))
@example({"height": 25, "width": 1, "tile": 2, "halo": 0, "multiple": 1}, 9, 1)
def test_no_other_grid_of_tiles_of_that_area_computes_fewer_pixels(
    case: dict[str, int], down: int, across: int
) -> None:
    cut = plan(**case)
    area = (case["tile"] // case["multiple"] * case["multiple"]) ** 2
    assert cut.shape[0] * cut.shape[1] <= area
    overlap, least = padded(2 * case["halo"], case["multiple"]), smallest_tile(case["halo"], case["multiple"])
    sides = [
        length if count == 1 else max(least, padded(-(-(length + (count - 1) * overlap) // count), case["multiple"]))
        for length, count in ((case["height"], down), (case["width"], across))
    ]
    if sides[0] * sides[1] <= area:
        assert len(cut) * cut.shape[0] * cut.shape[1] <= down * across * sides[0] * sides[1]


@given(plans())
def test_no_smaller_sides_would_cover_the_image(case: dict[str, int]) -> None:
    cut = plan(**case)
    overlap = padded(2 * case["halo"], case["multiple"])
    for side, count, length in zip(cut.shape, cut.grid, (case["height"], case["width"]), strict=True):
        smaller = side - case["multiple"]
        assert smaller + (count - 1) * (smaller - overlap) < length


def test_a_photograph_is_computed_less_than_a_fifth_more_than_once() -> None:
    cut = plan(4000, 6000, tile=1280, halo=64, multiple=8)
    assert len(cut) * cut.shape[0] * cut.shape[1] < 1.2 * 4000 * 6000


def test_sides_that_are_given_apart_are_not_exceeded() -> None:
    cut = plan(400, 400, tile=(96, 200), halo=8, multiple=8)
    assert cut.shape[0] <= 96
    assert 96 < cut.shape[1] <= 200


def test_an_image_a_little_larger_than_a_tile_is_not_computed_twice() -> None:
    cut = plan(520, 512, tile=512, halo=32, multiple=8)
    assert cut.grid == (1, 2)
    assert cut.shape == (520, 288)


def test_an_image_smaller_than_a_tile_is_one_tile_of_its_own_size() -> None:
    cut = plan(40, 8, tile=512, halo=32, multiple=8)
    assert cut.shape == (40, 8)
    assert len(cut) == 1


@given(plans())
def test_tiles_that_are_not_shrunk_have_the_side_that_was_asked_for(case: dict[str, int]) -> None:
    cut = plan(**case, shrink=False)
    side = case["tile"] // case["multiple"] * case["multiple"]
    assert cut.shape == (min(side, case["height"]), min(side, case["width"]))


@pytest.mark.parametrize(("halo", "multiple", "least"), [(32, 8, 72), (0, 8, 8), (5, 4, 16), (0, 1, 1)])
def test_a_tile_without_room_for_a_core_is_refused_with_the_least_that_works(
    halo: int, multiple: int, least: int
) -> None:
    length = 100 * multiple
    assert plan(length, length, tile=least, halo=halo, multiple=multiple).shape == (least, least)
    with pytest.raises(InputError, match=f"at least {least} pixels"):
        plan(length, length, tile=least - 1, halo=halo, multiple=multiple)


def test_sides_that_are_no_multiple_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        plan(20, 16, tile=64, halo=0, multiple=8)


@given(
    preferred=st.integers(64, 4096),
    bytes_per_pixel=st.floats(1, 1e5),
    budget=st.floats(0, 1e12),
    halo=st.integers(0, 64),
    multiple=st.sampled_from([1, 4, 16]),
)
def test_the_tile_for_a_budget_fits_or_is_the_smallest(
    preferred: int, bytes_per_pixel: float, budget: float, halo: int, multiple: int
) -> None:
    side = tile_for_budget(preferred, bytes_per_pixel=bytes_per_pixel, budget=budget, halo=halo, multiple=multiple)
    least = smallest_tile(halo, multiple)
    assert side % multiple == 0
    assert side >= least
    assert side == least or (side <= preferred and side**2 * bytes_per_pixel <= budget * (1 + 1e-9))


def test_with_memory_enough_the_preferred_tile_is_taken() -> None:
    assert tile_for_budget(512, bytes_per_pixel=600, budget=1e12, halo=32, multiple=8) == 512
    assert tile_for_budget(512, bytes_per_pixel=600, budget=600 * 256**2, halo=32, multiple=8) == 256


@given(st.integers(1, 500))
def test_a_worthwhile_tile_is_the_smallest_whose_halo_costs_no_more_than_it_may(halo: int) -> None:
    def cost(side: int) -> float:
        return (side / (side - 2 * halo)) ** 2 - 1

    assert cost(worthwhile_tile(halo)) <= HALO_COST < cost(worthwhile_tile(halo) - 1)


def test_without_a_halo_every_tile_is_worthwhile() -> None:
    assert worthwhile_tile(0) == 0
