"""Where the tests' images come from: damaged from seeds, paired by their names, registered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_model import tiny_model

from restonnx import Restorer
from restonnx.errors import InputError
from restonnx.training.evaluation.damage import blurred, gaussian, missing, of_middle, of_recipe, smaller
from restonnx.training.evaluation.run_model import given, restored
from restonnx.training.evaluation.samples import Pairs, References, Sample, Synthetic

CLEAN = np.random.default_rng(0).random((49, 66, 3)).astype(np.float32)


def save(path: Path, value: int, shape: tuple[int, ...] = (20, 24, 3)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path)


def test_inputs_find_their_truth_by_name_or_by_what_comes_before_a_dash(tmp_path: Path) -> None:
    for name, value in (("98", 98), ("100", 100), ("1400", 140)):
        save(tmp_path / f"set/gt/{name}.png", value)
    for name in ("98", "100-6", "100-7", "1400_1_0.9", "77"):
        save(tmp_path / f"set/input/{name}.png", 1)
    pairs = Pairs("set")
    assert pairs.names(tmp_path) == ["100-6.png", "100-7.png", "1400_1_0.9.png", "98.png"]
    truths = [pairs.sample(tmp_path, n, 3).truth[0, 0, 0] * 255 for n in range(4)]
    assert truths == pytest.approx([100, 100, 140, 98])
    assert pairs.sample(tmp_path, 0, 3).degraded.dtype == np.uint8


def test_pairs_of_different_sizes_are_refused_by_name(tmp_path: Path) -> None:
    save(tmp_path / "set/gt/a.png", 1)
    save(tmp_path / "set/input/a.png", 1, (20, 23, 3))
    with pytest.raises(InputError, match=r"a\.png.*same size"):
        Pairs("set").sample(tmp_path, 0, 3)


def test_a_missing_folder_has_no_images(tmp_path: Path) -> None:
    assert Pairs("none").names(tmp_path) == []
    assert Synthetic("none", gaussian(25)).names(tmp_path) == []
    assert References("none").names(tmp_path) == []


def test_the_number_of_an_image_is_its_seed(tmp_path: Path) -> None:
    for number in range(2):
        save(tmp_path / f"set/{number}.png", 128, (20, 24))
    source = Synthetic("set", gaussian(25))
    first, second = (source.sample(tmp_path, n, 3) for n in range(2))
    assert (first.degraded.shape, first.gray) == ((20, 24, 3), True)
    assert not np.array_equal(first.degraded, second.degraded)
    assert source.sample(tmp_path, 0, 1).truth.shape == (20, 24)


def test_damage_tells_the_methods_what_users_would_know() -> None:
    noise, soft, holes, small = (
        make(CLEAN, 0) for make in (gaussian(25), blurred("shake", 2.55), missing("half"), smaller(4, 2.55))
    )
    assert noise.sigma == pytest.approx(25 / 255)
    assert noise.degraded.min() < 0  # not clipped, as the published tables have it
    assert soft.kernel is not None
    assert soft.kernel.sum() == pytest.approx(1, abs=1e-5)
    assert holes.mask is not None
    assert holes.mask.mean() == pytest.approx(0.5, abs=0.01)
    np.testing.assert_allclose(holes.unit[~holes.mask], CLEAN[~holes.mask], atol=0.5 / 255 + 1e-6)
    assert small.truth.shape == (48, 64, 3)
    assert (small.degraded.shape, small.scale) == ((12, 16, 3), 4)
    assert {sample.degraded.dtype for sample in (soft, holes, small)} == {np.dtype(np.uint8)}


def test_a_recipe_s_damage_is_that_of_training_as_a_file_holds_it() -> None:
    sample = of_recipe("super-resolution-x4")(CLEAN, 0)
    np.testing.assert_array_equal(sample.degraded, smaller(4, 0.0)(CLEAN, 0).degraded)
    two = of_recipe("dual-camera-x2")(CLEAN, 0)
    assert two.reference is not None
    assert two.reference.shape == two.truth.shape
    seen = (two.reference > 0).any(axis=2)
    assert seen[24, 33]
    assert not seen[0, 0]


def test_the_middle_is_what_the_second_camera_sees() -> None:
    scene = np.random.default_rng(0).random((90, 122, 3), np.float32)
    whole = of_recipe("dual-camera-x2")(scene, 3)
    middle, alone = (of_middle(of_recipe("dual-camera-x2"), reference=seen)(scene, 3) for seen in (True, False))
    assert (middle.degraded.shape, middle.truth.shape) == ((22, 30, 3), (44, 60, 3))
    assert np.array_equal(middle.truth, whole.truth[22:66, 30:90])
    assert np.array_equal(middle.degraded, whole.degraded[11:33, 15:45])
    assert middle.reference is not None
    assert (middle.reference > 0).all(axis=2).mean() > 0.9  # up to the rim
    assert alone.reference is None
    assert np.array_equal(alone.degraded, middle.degraded)


def test_a_shadow_comes_with_its_mask_and_a_pair_s_is_found_in_their_difference(tmp_path: Path) -> None:
    made = of_recipe("shadow-removal", "none_share=0", "skylight=[0.3,0.3]")(np.full((64, 64, 3), 0.7, np.float32), 0)
    assert made.mask is not None
    assert made.reference is None
    assert made.unit[made.mask].mean() < made.unit[~made.mask].mean() - 0.1
    lit = np.full((100, 120, 3), 200, np.uint8)
    shaded = lit.copy()
    shaded[20:60, 30:90] = 90
    shaded[80, 100] = 0  # a speck
    for name, image in (("input", shaded), ("gt", lit)):
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / "set" / name / "a.png")
    mask = Pairs("set", shaded=True).sample(tmp_path, 0, 3).mask
    assert mask is not None
    assert mask[23:57, 33:87].all()
    assert not mask[:17].any()
    assert not mask[63:].any()
    assert Pairs("set").sample(tmp_path, 0, 3).mask is None


def test_references_are_registered_where_they_can_be(tmp_path: Path) -> None:
    """A flat image cannot be brought together with anything: the model then sees nothing beside the small image."""
    save(tmp_path / "scene/001_0.png", 99, (81, 64, 3))
    save(tmp_path / "scene/001_1.png", 99, (64, 64, 3))
    save(tmp_path / "scene/001_2.png", 99, (64, 64, 3))
    source = References("scene")
    assert source.names(tmp_path) == ["001_1.png", "001_2.png"]
    sample = source.sample(tmp_path, 0, 3)
    assert sample.reference is None
    assert (sample.truth.shape, sample.degraded.shape) == ((80, 64, 3), (40, 32, 3))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Restorer:
    """It adds the noise level, in its own range, to the image."""
    folder = tmp_path_factory.mktemp("told")
    return Restorer(tiny_model(folder / "t.onnx", draws=0, blur=False, extra=("noise_level",)), device="cpu")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_model_is_told_the_level_in_the_image_s_own_values(told: Restorer, dtype: type) -> None:
    white = 1 if dtype is np.float32 else np.iinfo(dtype).max
    image = np.full((16, 16, 3), 0.25 * white).astype(dtype)
    sample = Sample(image, image.astype(np.float32) / white, sigma=0.125)
    np.testing.assert_allclose(restored(told, sample), 0.375, atol=0.005)


def test_a_level_that_nobody_knows_is_estimated_and_an_unknown_reference_sees_nothing(
    told: Restorer, tmp_path: Path
) -> None:
    sample = Sample(np.zeros((16, 16, 3), np.uint8), np.zeros((32, 32, 3), np.float32))
    assert given(told, sample) == {"noise_level": "estimate"}
    tele = Restorer(tiny_model(tmp_path / "tele.onnx", draws=0, scale=2, extra=("reference",)), device="cpu")
    assert given(tele, sample)["reference"].shape == (32, 32, 3)
    assert not restored(tele, sample).any()


def test_a_model_is_given_the_kernel_that_a_point_becomes(tmp_path: Path) -> None:
    point = np.zeros((49, 49), np.float32)
    point[24, 24] = 1
    sample = blurred("shake", 0.0)(point, 3)
    model = Restorer(tiny_model(tmp_path / "k.onnx", channels=1, draws=0, extra=("kernel",)), device="cpu")
    assert np.abs(given(model, sample)["kernel"] - sample.unit[12:37, 12:37]).max() < 0.5 / 255 + 1e-5
