"""The classical methods do what their formulas say; a baseline that does nothing would prove nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from restonnx.diffusion.blurs import Blur
from restonnx.diffusion.resizing import Downsample
from restonnx.training.evaluation.classical.enlarge import enlarged, pasted
from restonnx.training.evaluation.classical.every import METHODS, classical
from restonnx.training.evaluation.classical.haze import dark_channel_prior, guided_filter
from restonnx.training.evaluation.damage import missing, noisy, strokes
from restonnx.training.evaluation.samples import Floats, Sample, to_file
from restonnx.training.evaluation.settings import SETTINGS, settings
from restonnx.training.evaluation.table import SUITES

SIDE = 96


@pytest.fixture(scope="module")
def scene() -> Floats:
    """Coloured patches with edges, some of them dark in one colour, as photographs have them."""
    rng = np.random.default_rng(3)
    patches = rng.uniform(0, 0.9, (6, 6, 3)) * (rng.random((6, 6, 3)) > 0.3)
    return np.kron(patches, np.ones((16, 16, 1))).astype(np.float32)


def psnr(image: Floats, truth: Floats) -> float:
    return float(-10 * np.log10(np.mean((image.clip(0, 1) - truth) ** 2)))


def gained(purpose: str, method: str, sample: Sample) -> float:
    before = sample.unit if sample.scale == 1 else enlarged(sample.unit, sample.scale)
    return psnr(classical(method, sample, settings(purpose, method)), sample.truth) - psnr(before, sample.truth)


@pytest.mark.parametrize("method", ["non-local means, told", "non-local means", "wavelets, told", "wavelets"])
@pytest.mark.parametrize("channels", [1, 3])
def test_denoisers_remove_noise(scene: Floats, method: str, channels: int) -> None:
    clean = scene if channels == 3 else scene[..., 1]
    sample = Sample(noisy(clean, 25, 0), clean, sigma=25 / 255)
    assert gained("denoise" if channels == 3 else "denoise-gray", method, sample) > 3


def test_a_denoiser_that_is_not_told_the_level_does_not_know_it(scene: Floats) -> None:
    told, lied = (Sample(noisy(scene, 25, 0), scene, sigma=level / 255) for level in (25, 1))
    chosen = settings("denoise", "non-local means")
    np.testing.assert_array_equal(*(classical("non-local means", sample, chosen) for sample in (told, lied)))
    named = "non-local means, told"
    assert np.ptp(classical(named, told, chosen) - classical(named, lied, chosen)) > 0.05


@pytest.mark.parametrize("scale", [2, 4])
def test_bicubic_is_the_enlarging_half_of_imresize(scale: int) -> None:
    """It keeps ramps, and a reduction of what it enlarged gives the small image back where that is smooth."""
    small = np.sin(np.mgrid[:40, :32].sum(axis=0) / 5)[..., None].astype(np.float32)
    large = enlarged(small, scale)
    assert large.shape == (40 * scale, 32 * scale, 1)
    again = Downsample(scale).forward(large.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0)
    np.testing.assert_allclose(again[4:-4, 4:-4], small[4:-4, 4:-4], atol=0.02)
    ramp = np.arange(16, dtype=np.float32)[:, None] * np.ones((1, 8), np.float32)
    np.testing.assert_allclose(np.diff(enlarged(ramp, scale)[3 * scale : -3 * scale, 8]), 1 / scale, atol=1e-5)


def test_a_reference_adds_its_detail_where_it_sees_something(scene: Floats) -> None:
    degraded = Downsample(2).forward(scene.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0)
    reference = scene.clip(1 / 255, 1).copy()
    reference[:, : SIDE // 2] = 0
    sample = Sample(degraded.astype(np.float32), scene, reference=reference)
    result, plain = pasted(sample, sigma=2.0), enlarged(sample.unit, 2)
    np.testing.assert_array_equal(result[:, : SIDE // 2], plain[:, : SIDE // 2])
    right = (slice(None), slice(SIDE // 2 + 8, None))
    assert psnr(result[right], scene[right]) > psnr(plain[right], scene[right]) + 3


def test_the_dark_channel_prior_takes_haze_away(scene: Floats) -> None:
    transmission = np.linspace(0.3, 0.7, SIDE, dtype=np.float32)[:, None, None]
    hazy = scene * transmission + np.float32(0.9) * (1 - transmission)
    restored = dark_channel_prior(Sample(to_file(hazy), scene), patch=15, kept=0.95, least=0.1)
    assert psnr(restored, scene) > psnr(hazy, scene) + 6


def test_a_guided_filter_smooths_but_keeps_the_edges_of_its_guide() -> None:
    rng = np.random.default_rng(0)
    step = np.repeat([0.2, 0.8], 32)[None].repeat(64, axis=0).astype(np.float32)
    grainy = step + 0.05 * rng.standard_normal(step.shape).astype(np.float32)
    smooth = guided_filter(grainy, step, 8, 1e-4)
    assert smooth[:, :24].std() < 0.02
    assert abs(float(np.diff(smooth, axis=1)[:, 31].mean())) > 0.5


@pytest.mark.parametrize("method", ["Richardson-Lucy", "Wiener"])
def test_deconvolution_knows_which_way_round_a_kernel_is(scene: Floats, method: str) -> None:
    kernel = np.zeros((9, 9), np.float32)
    kernel[4, 4:] = kernel[4:, 4] = 1
    kernel /= kernel.sum()
    soft = Blur(kernel).forward(scene.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0)
    right, wrong = (Sample(soft, scene, kernel=k) for k in (kernel, kernel[::-1, ::-1].copy()))
    assert gained("deblur-kernel", method, right) > 2
    assert gained("deblur-kernel", method, wrong) < 0


@pytest.mark.parametrize("kind", ["half", "strokes"])
def test_biharmonic_inpainting_fills_holes_and_touches_nothing_else(kind: str) -> None:
    y, x = np.mgrid[:64, :64] / 10
    clean = (0.5 + 0.3 * np.sin(y)[..., None] * np.cos(x[..., None] + np.arange(3))).astype(np.float32)
    sample = missing(kind)(clean, 0)
    assert sample.mask is not None
    restored = classical("biharmonic", sample, {})
    np.testing.assert_allclose(restored[~sample.mask], clean[~sample.mask], atol=0.003)
    assert np.abs(restored - clean).mean() < 0.01


def test_strokes_are_lines_over_an_eighth_of_the_image() -> None:
    lost = strokes((200, 150), np.random.default_rng(0))
    assert 0.125 <= lost.mean() < 0.2


@pytest.mark.parametrize(("method", "level"), [("gain", 0.2), ("gamma", 0.4), ("CLAHE", None), ("Retinex", None)])
def test_dark_photographs_become_brighter(scene: Floats, method: str, level: float | None) -> None:
    dark = Sample(to_file(scene * 0.1), scene)
    restored = classical(method, dark, settings("low-light", method))
    assert restored.mean() > 2 * dark.unit.mean()
    assert restored.max() <= 1.01


def test_relighting_lifts_the_shadow_that_the_mask_marks_and_nothing_else(scene: Floats) -> None:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[20:60, 10:40] = True
    shaded = np.where(mask[..., None], scene * np.float32(0.6), scene)
    result = classical("relighting", Sample(shaded, scene, mask=mask), settings("shadow-removal", "relighting"))
    assert psnr(result, scene) > psnr(shaded, scene) + 3
    far = np.s_[70:, 50:]
    np.testing.assert_allclose(result[far], scene[far], atol=2e-3)
    unmarked = classical("relighting", Sample(shaded, scene), settings("shadow-removal", "relighting"))
    np.testing.assert_array_equal(unmarked, shaded)


def test_streaks_narrower_than_the_opening_go(scene: Floats) -> None:
    rainy = scene.copy()
    rainy[:, 5::12] = 1
    assert np.abs(classical("opening", Sample(to_file(rainy), scene), {"width": 3}) - scene).mean() < 0.05


def test_every_method_of_the_tables_is_there_and_every_setting_belongs_to_one() -> None:
    used = {
        method for suites in SUITES.values() for suite in suites for test in suite.tests for method in test.classical
    }
    assert used == set(METHODS)
    purposes = {suite.purpose for suites in SUITES.values() for suite in suites}
    assert set(SETTINGS) <= purposes
    assert {method for chosen in SETTINGS.values() for method in chosen} <= used


def test_the_settings_are_the_best_of_those_that_were_tried_on_training_photographs() -> None:
    tried = json.loads((Path(__file__).parents[2] / "benchmarks/results/classical_settings.json").read_text())[
        "purposes"
    ]
    best = {purpose: {method: trials[0] for method, trials in of.items()} for purpose, of in tried.items() if of}
    assert {purpose: {m: trial["settings"] for m, trial in of.items()} for purpose, of in best.items()} == SETTINGS
    for purpose, methods in tried.items():
        for method, trials in methods.items():
            assert best[purpose][method]["psnr"] == max(trial["psnr"] for trial in trials)


def test_damage_is_the_same_every_time_and_another_for_every_image(scene: Floats) -> None:
    for make in _seeded():
        first, again, other = make(scene, 4), make(scene, 4), make(scene, 5)
        np.testing.assert_array_equal(first.degraded, again.degraded)
        assert not np.array_equal(first.degraded, other.degraded)


def _seeded() -> list[Callable[[Floats, int], Sample]]:
    from restonnx.training.evaluation.damage import blurred, gaussian, of_recipe, smaller

    made = [gaussian(25), blurred("shake", 2.55), missing("half"), missing("strokes"), smaller(4, 2.55)]
    return [*made, of_recipe("derain"), of_recipe("low-light")]
