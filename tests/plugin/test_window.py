"""The real widget in a real window: what it restores, and how the result stands beside its input."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import restonnx

Models = Callable[..., str]
Drive = Callable[[Any], Any]


def test_a_photograph_is_restored_into_a_layer_above_it(
    shown: Any, drive: Drive, models: Models, photograph: np.ndarray
) -> None:
    viewer = shown
    layer = viewer.add_image(photograph, name="photo", rgb=True)
    viewer.add_image(photograph[..., 0], name="another")
    driver = drive(viewer)
    assert not driver.widget.form.planes.isEnabled(), "there is but one plane"
    driver.choose(layer, models("tiny"), seed=5)
    result = driver.restore()
    assert driver.names() == ["photo", "photo tiny", "another"]
    assert result.rgb
    assert result.data.dtype == np.uint8
    assert np.array_equal(result.data, restonnx.restore(photograph, "tiny", seed=5))
    kept = result.metadata["restonnx"]
    assert (kept["model"], kept["model_version"], kept["seed"], kept["strength"]) == ("tiny", "1.0", 5, 1.0)
    assert kept["provider"] == "CPUExecutionProvider"
    assert viewer.layers.selection.active.name == "another"
    assert not driver.said()


def test_deleted_layers_are_let_go_with_their_memory(
    viewer: Any, drive: Drive, models: Models, photograph: np.ndarray
) -> None:
    layer = viewer.add_image(photograph, name="photo", rgb=True)
    driver = drive(viewer)
    driver.choose(layer, models("tiny"))
    made = []
    for start in (driver.restore, driver.widget.start_preview):
        start()
        driver.settle()
        made.append(weakref.ref(driver.widget.current().outcome))
        driver.widget.compare.wipe.setChecked(True)
        driver.settle()
        for name in [name for name in driver.names() if name != "photo"]:
            if name in driver.names():
                viewer.layers.remove(name)
        assert driver.names() == ["photo"]
        assert not driver.widget.compare.isEnabled()
    gc.collect()
    assert [one() for one in made] == [None, None]


def test_a_stack_keeps_its_type_and_its_place_in_the_world(viewer: Any, drive: Drive, models: Models) -> None:
    stack = np.random.default_rng(0).integers(100, 4000, (4, 60, 70), dtype=np.uint16)
    layer = viewer.add_image(
        stack,
        name="cells",
        scale=(0.5, 0.1, 0.1),
        translate=(3, 20, 30),
        rotate=20,
        shear=[0, 0, 0.2],
        affine=np.diag([1, 2, 2, 1]),
        units=("micrometer",) * 3,
        axis_labels=("z", "y", "x"),
        colormap="magma",
        contrast_limits=(90, 4200),
        gamma=0.8,
    )
    driver = drive(viewer)
    driver.choose(layer, models("tiny-gray", channels=1))
    result = driver.restore()
    assert result.data.dtype == np.uint16
    assert np.array_equal(result.data, restonnx.restore(stack, "tiny-gray", axes="ZYX"))
    for name in ("scale", "translate", "rotate", "shear"):
        assert np.allclose(getattr(result, name), getattr(layer, name)), name
    assert np.allclose(result.affine.affine_matrix, layer.affine.affine_matrix)
    assert result.units == layer.units
    assert result.axis_labels == layer.axis_labels
    assert result.colormap.name == "magma"
    assert tuple(result.contrast_limits) == (90, 4200)
    assert result.gamma == 0.8


def test_colours_of_16_bits_are_shown_as_bright_as_their_input(
    viewer: Any, drive: Drive, models: Models, photograph: np.ndarray
) -> None:
    layer = viewer.add_image(photograph.astype(np.uint16) * 200, rgb=True, contrast_limits=(900, 60000), gamma=0.7)
    driver = drive(viewer)
    driver.choose(layer, models("tiny"))
    result = driver.restore()
    assert tuple(result.contrast_limits) == (900, 60000)
    assert result.gamma == 0.7


def test_one_plane_of_a_stack_lies_where_it_was(viewer: Any, drive: Drive, models: Models) -> None:
    stack = np.random.default_rng(0).integers(100, 4000, (5, 60, 70), dtype=np.uint16)
    layer = viewer.add_image(stack, scale=(0.5, 0.1, 0.1), translate=(3, 20, 30))
    driver = drive(viewer)
    driver.choose(layer, models("tiny-gray", channels=1), planes="current")
    viewer.dims.set_current_step(0, 3)
    result = driver.restore()
    assert result.data.shape == (1, 60, 70)
    assert np.allclose(result.translate, (3 + 3 * 0.5, 20, 30))
    whole = restonnx.restore(stack, "tiny-gray", axes="ZYX").astype(int)
    assert np.abs(result.data[0] - whole[3]).max() <= 1


def test_the_planes_that_the_viewer_shows_are_those_that_are_restored(
    viewer: Any, drive: Drive, models: Models
) -> None:
    stack = np.random.default_rng(0).random((40, 5, 50)).astype(np.float32)
    layer = viewer.add_image(stack)
    viewer.dims.order = (1, 0, 2)
    driver = drive(viewer)
    driver.choose(layer, models("tiny-gray", channels=1))
    result = driver.restore()
    assert np.allclose(result.data, restonnx.restore(stack, "tiny-gray", axes="YZX"))


def test_floats_below_zero_stay_below_zero(viewer: Any, drive: Drive, models: Models) -> None:
    image = np.random.default_rng(1).normal(-3, 1, (64, 80)).astype(np.float32)
    layer = viewer.add_image(image)
    driver = drive(viewer)
    driver.choose(layer, models("tiny-gray", channels=1))
    result = driver.restore()
    assert result.data.dtype == np.float32
    assert result.data.max() < 0
    assert np.allclose(result.data, restonnx.restore(image, "tiny-gray"))
    assert np.allclose(result.contrast_limits, layer.contrast_limits)


def test_of_a_multiscale_layer_the_finest_level_is_restored(viewer: Any, drive: Drive, models: Models) -> None:
    fine = np.random.default_rng(1).integers(0, 60000, (128, 160), dtype=np.uint16)
    layer = viewer.add_image([fine, fine[::2, ::2]], multiscale=True, scale=(2, 2))
    driver = drive(viewer)
    driver.choose(layer, models("tiny-gray", channels=1))
    result = driver.restore()
    assert not result.multiscale
    assert np.array_equal(result.data, restonnx.restore(fine, "tiny-gray"))
    assert np.allclose(result.scale, (2, 2))


def test_a_larger_image_lies_exactly_over_its_input(viewer: Any, drive: Drive, models: Models) -> None:
    image = np.random.default_rng(1).integers(0, 60000, (2, 40, 48), dtype=np.uint16)
    layer = viewer.add_image(image, scale=(2, 0.5, 0.25), translate=(0, 7, 9), rotate=30)
    driver = drive(viewer)
    driver.choose(layer, models("tiny-x2", channels=1, scale=2))
    assert not driver.widget.form.strength.isEnabled()
    result = driver.restore()
    assert result.data.shape == (2, 80, 96)
    for index in ((0, -0.5, -0.5), (1, 39.5, 47.5), (0, 39.5, -0.5)):  # outer corners of pixels
        finer = (index[0], 2 * index[1] + 0.5, 2 * index[2] + 0.5)
        assert np.allclose(result.data_to_world(finer), layer.data_to_world(index))


def test_several_samples_come_with_a_layer_of_their_deviation(
    viewer: Any, drive: Drive, models: Models, photograph: np.ndarray
) -> None:
    layer = viewer.add_image(photograph, name="photo", rgb=True)
    driver = drive(viewer)
    driver.choose(layer, models("tiny"), samples=3, uncertainty=True)
    driver.restore()
    assert driver.names() == ["photo", "photo tiny", "photo tiny uncertainty"]
    mean, std = restonnx.restore(photograph, "tiny", samples=3, return_std=True)
    assert np.array_equal(viewer.layers["photo tiny"].data, mean)
    shown = viewer.layers["photo tiny uncertainty"]
    assert not shown.rgb
    assert np.allclose(shown.data, np.sqrt((std**2).mean(-1)))


def test_a_new_result_replaces_the_previous_one_unless_both_are_wanted(
    viewer: Any, drive: Drive, models: Models, photograph: np.ndarray
) -> None:
    layer = viewer.add_image(photograph, name="photo", rgb=True)
    driver = drive(viewer)
    driver.choose(layer, models("tiny"), samples=2, uncertainty=True)
    driver.restore()
    driver.choose(seed=1, uncertainty=False)
    driver.restore()
    assert driver.names() == ["photo", "photo tiny"]
    assert viewer.layers["photo tiny"].metadata["restonnx"]["seed"] == 1
    driver.choose(replace=False)
    driver.restore()
    assert driver.names() == ["photo", "photo tiny [1]", "photo tiny"]


def test_a_result_is_made_again_with_its_own_settings(
    viewer: Any, drive: Drive, models: Models, photograph: np.ndarray
) -> None:
    layer = viewer.add_image(photograph, name="photo", rgb=True)
    driver = drive(viewer)
    driver.choose(layer, models("tiny"), seed=11, strength=0.5, replace=False)
    first = driver.restore()
    driver.choose(model="denoise", seed=0, strength=1.0)
    viewer.layers.selection.active = first
    driver.widget.panel.again.click()
    driver.settle()
    assert len(viewer.layers) == 3
    second = next(one for one in viewer.layers if one.name not in ("photo", first.name))
    assert np.array_equal(first.data, second.data)
    assert {**second.metadata["restonnx"], "seconds": 0} == {**first.metadata["restonnx"], "seconds": 0}


@pytest.mark.parametrize("role", ["mask", "kernel", "reference", "noise_level"])
def test_a_model_is_asked_for_its_own_further_inputs_and_no_others(
    viewer: Any, drive: Drive, models: Models, role: str
) -> None:
    image = np.random.default_rng(0).integers(0, 60000, (40, 48), dtype=np.uint16)
    layer = viewer.add_image(image, name="image")
    kernel = np.ones((3, 3), np.float32)
    holes = viewer.add_labels((image < 9000).astype(int), name="holes")
    viewer.add_image(kernel, name="kernel")
    viewer.add_image(image[::-1].copy(), name="reference")
    driver = drive(viewer)
    driver.choose(layer, models("tiny-more", channels=1, extra=(role,)))
    rows = driver.widget.form
    shown = {name for name in ("mask", "kernel", "reference", "noise_level") if not rows._field(name).isHidden()}
    assert shown == {role}
    value = {"mask": holes.data, "kernel": kernel, "reference": image[::-1], "noise_level": 20.0}[role]
    name = {"mask": "holes", "noise_level": ""}.get(role, role)
    if role != "noise_level":
        driver.widget.panel.restore.click()
        assert driver.said() == [f"This model needs a {role}: choose a layer for it"]
        driver.choose(**{role: name})
    else:
        driver.choose(noise_level=20.0)
    result = driver.restore()
    assert np.array_equal(result.data, restonnx.restore(image, "tiny-more", **{role: value}))


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_shapes_cover_what_is_missing(viewer: Any, drive: Drive, models: Models, scale: float) -> None:
    image = np.random.default_rng(0).integers(9000, 60000, (3, 40, 48), dtype=np.uint16)
    layer = viewer.add_image(image, scale=(1, scale, scale))
    corners = np.array([(5, 6), (5, 20), (15, 20), (15, 6)]) * scale
    viewer.add_shapes([corners], shape_type="rectangle", name="holes")
    driver = drive(viewer)
    driver.choose(layer, models("tiny-mask", channels=1, draws=0, extra=("mask",), blur=False), mask="holes")
    result = driver.restore()
    changed = result.data != image
    assert changed[:, 7:14, 8:19].all()
    assert not changed[:, :4].any()
    assert not changed[:, :, 22:].any()
