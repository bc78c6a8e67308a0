"""What a layer is, without a viewer: planes, places in the world, what of it is visible."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tiny_source import placed, source

from restonnx import InputError
from restonnx.plugin.placement import Placement
from restonnx.plugin.source import box, check_reference, shrunk, snapshot, visible


def physical(where: Placement, index: Any) -> np.ndarray:
    return where.matrix @ np.asarray(index, float) + np.asarray(where.translate)


small = st.floats(-10, 10, width=32)


@given(
    arrays(np.float64, (3, 3), elements=small),
    arrays(np.float64, 3, elements=small),
    st.lists(st.integers(0, 50), min_size=3, max_size=3),
    st.lists(st.integers(1, 4), min_size=3, max_size=3),
)
def test_the_pixels_of_a_finer_part_cover_those_of_the_whole(
    matrix: np.ndarray, translate: np.ndarray, start: list[int], finer: list[int]
) -> None:
    whole = placed(matrix, translate)
    part = whole.part(start, finer)
    steps = np.array(finer)
    for corner in (0, 1):  # of the first pixel, in the coordinates of either
        ours = np.array(start) - 0.5 + corner
        theirs = steps * corner - 0.5
        assert np.allclose(physical(part, theirs), physical(whole, ours), atol=1e-6)
    assert np.allclose(part.scale, 1 / steps)


def test_a_part_of_the_same_grid_keeps_its_scale() -> None:
    whole = placed(np.diag([2.0, 3.0]), np.array([10.0, 20.0]))
    part = whole.part((4, 5))
    assert part.scale == whole.scale
    assert part.translate == (18.0, 35.0)


@pytest.mark.parametrize(
    ("shape", "rgb", "shown", "axes", "planes"),
    [
        ((40, 60), False, None, "YX", 1),
        ((40, 60, 3), True, None, "YXC", 1),
        ((5, 40, 60), False, None, "AYX", 5),
        ((5, 40, 60), False, (0, 2), "YAX", 40),
        ((2, 5, 40, 60, 3), True, None, "ABYXC", 10),
        ((3, 40, 3), False, None, "AYX", 3),
    ],
)
def test_axes_say_what_the_viewer_shows(
    shape: tuple[int, ...], rgb: bool, shown: tuple[int, int] | None, axes: str, planes: int
) -> None:
    found = source(shape, rgb=rgb, shown=shown)
    assert found.axes == axes
    assert found.planes == planes


def test_a_region_is_one_plane_with_all_its_colours() -> None:
    found = source((7, 40, 60, 3), rgb=True)
    assert found.region() == (slice(3, 4), slice(0, 40), slice(0, 60), slice(0, 3))
    assert found.region(slice(2, 9), slice(5, 6)) == (slice(3, 4), slice(2, 9), slice(5, 6), slice(0, 3))


def test_a_snapshot_holds_the_finest_level_and_the_plane_that_is_shown() -> None:
    fine = np.zeros((6, 40, 60), np.uint16)
    layer = SimpleNamespace(
        name="stack",
        unique_id="7",
        multiscale=True,
        data=[fine, fine[:, ::2, ::2]],
        ndim=3,
        rgb=False,
        scale=(2.0, 1.0, 1.0),
        translate=(0.0, 0.0, 0.0),
        rotate=np.eye(3),
        shear=np.zeros(3),
        affine=SimpleNamespace(affine_matrix=np.eye(4)),
        units=("pixel",) * 3,
        axis_labels=("z", "y", "x"),
        data_to_world=lambda index: np.asarray(index) * (2, 1, 1),
        world_to_data=lambda point: np.asarray(point) / (2, 1, 1),
        colormap="gray",
        contrast_limits=(0, 9),
        gamma=1.0,
        blending="translucent",
        opacity=1.0,
        interpolation2d="nearest",
        interpolation3d="linear",
        rendering="mip",
        iso_threshold=0.5,
        attenuation=0.05,
        projection_mode="none",
        metadata={},
    )
    dims = SimpleNamespace(ndim=4, displayed=(2, 3), point=(99.0, 8.0, 500.0, -3.0))
    found = snapshot(layer, dims)
    assert found.data is fine
    assert found.position == (4, 39, 0)
    assert found.rows_and_columns == (1, 2)
    assert np.allclose(found.placement.matrix, np.diag([2, 1, 1]))
    assert found.look["contrast_limits"] == (0, 9)
    line = SimpleNamespace(**{**vars(layer), "multiscale": False, "data": fine[0, 0], "ndim": 1})
    with pytest.raises(InputError, match='"stack" has no rows and columns'):
        snapshot(line, dims)


def test_what_the_canvas_shows_is_cut_to_the_image() -> None:
    found = source((400, 600))
    window = visible(found, np.asarray, (0, 100, 580), 2.0, (200, 100), (0, 0), (0, 1))
    assert window == (slice(50, 151), slice(555, 600))
    away = visible(found, np.asarray, (0, -5000, 0), 2.0, (200, 100), (0, 0), (0, 1))
    assert away[0] == slice(0, 400)


@given(
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.floats(1e3, 1e7),
    st.integers(0, 200),
)
def test_a_preview_is_the_middle_of_its_window_and_takes_what_it_may(
    height: int, width: int, pixels: float, context: int
) -> None:
    rows, cols = shrunk(slice(10, 10 + height), slice(20, 20 + width), pixels, context)
    assert 10 <= rows.start < rows.stop <= 10 + height
    assert 20 <= cols.start < cols.stop <= 20 + width
    assert abs((rows.start + rows.stop) - (20 + height)) <= 1
    tall, wide = rows.stop - rows.start, cols.stop - cols.start
    if tall > 32 and wide > 32 and (tall < height or wide < width):
        computed = (tall + 2 * context) * (wide + 2 * context)
        assert computed <= pixels + 2 * (tall + wide + 4 * context)
        assert computed >= pixels - 2 * (tall + wide + 4 * context)


def test_a_drawn_rectangle_is_boxed_whatever_its_corners() -> None:
    assert box(source((400, 600)), [(20.2, 30), (20.2, 90.4), (10, 30)]) == (slice(10, 22), slice(30, 92))


@pytest.mark.parametrize(
    ("shape", "scale", "unit", "fits"),
    [
        ((40, 60), 0.5, "micrometer", True),
        ((80, 120), 0.25, "micrometer", True),
        ((41, 60), 0.5, "micrometer", True),
        ((40, 60), 0.25, "micrometer", False),
        ((40, 66), 0.5, "micrometer", False),
        ((40, 60), 0.25, "pixel", True),
    ],
)
def test_a_reference_shows_as_much_of_the_world_as_the_image_where_that_is_known(
    shape: tuple[int, int], scale: float, unit: str, fits: bool
) -> None:
    def measured(where: Placement, step: float, unit: str) -> Placement:
        return replace(where, scale=(step,) * where.ndim, units=(unit,) * where.ndim)

    image = source((7, 40, 60))
    image = replace(image, placement=measured(image.placement, 0.5, "micrometer"))
    reference = measured(source(shape).placement, scale, unit)
    if fits:
        check_reference(image, reference, shape)
    else:
        with pytest.raises(InputError, match="choose one of the same place, or correct its scale"):
            check_reference(image, reference, shape)
