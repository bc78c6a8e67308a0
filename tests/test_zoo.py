"""The models inside the package: sound, described, and as good as their cards say where that can be tried here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from restonnx import Restorer, library, load_model, photograph
from restonnx.diffusion.blurs import Blur
from restonnx.diffusion.resizing import Downsample
from restonnx.isp import cfa
from restonnx.isp.packed import restore_planes
from restonnx.library import ModelEntry
from restonnx.training.evaluation.damage import noisy

SHIPPED = [pytest.param(entry, id=entry.name) for entry in library.models() if entry.shipped]
CUT = [param for param in SHIPPED if param.values[0].metadata.tile.mode == "halo"]
FADING = [param for param in SHIPPED if param.values[0].metadata.sampler.family == "dcdp"]
"""Whose tiles are cut at their halo, and those with their operator inside, whose tiles fade into each other."""
DENOISERS = [param for param in SHIPPED if param.values[0].task in ("denoise", "prior")]
MEBIBYTE = 2**20
RGGB = ((0, 1), (1, 2))
KERNEL = np.outer((1, 2, 3, 2, 1), (3, 2, 2, 1, 1)).astype(np.float32)
KERNEL /= KERNEL.sum()
"""Of a blur; lopsided."""


def demo(name: str) -> np.ndarray:
    return {"noisy": photograph.noisy, "clean": photograph.clean}[name]()


def as_seen(image: np.ndarray, entry: ModelEntry) -> np.ndarray:
    """A photograph in [0, 1] with as many channels as the model has: colours, grey, or a mosaic's packed planes."""
    if entry.metadata.domain != "cfa":
        return image if entry.metadata.channels == 3 else image.mean(axis=2)
    row, col = np.indices(image.shape[:2]) % 2
    mosaic = np.take_along_axis(image, (row + col)[..., None], axis=2)[..., 0]
    return cfa.pack(mosaic.astype(np.float32), RGGB)


def image_for(entry: ModelEntry) -> np.ndarray:
    return as_seen(demo("noisy").astype(np.float32) / 255, entry)


def restored(restorer: Restorer, image: np.ndarray, **asked: float) -> np.ndarray:
    """By the way that the model is run in use: a sensor's data as the stage of the RAW pipeline gives them."""
    if restorer.metadata.domain == "cfa":
        return restore_planes(restorer, image, **asked)
    if restorer.metadata.for_raw:
        return restore_planes(restorer, image.transpose(2, 0, 1), **asked).transpose(1, 2, 0)
    return restorer(image, **asked)


def asks(entry: ModelEntry, sigma: float = 25.0, size: tuple[int, ...] = (0, 0)) -> dict[str, Any]:
    """What the model has to be given besides an image of that size: a prior is told the noise level, and two cameras
    need a second image, which is noise here."""
    needed = [spec.role for spec in entry.metadata.inputs if spec.default is None]
    missing = np.zeros(size, bool)
    missing[10:14, 8:] = missing[30:42, 40:46] = True
    large = [side * entry.metadata.scale for side in size]
    seen = np.random.default_rng(0).random((*large, 3), dtype=np.float32)
    values = {"noise_level": sigma / 255, "mask": missing, "kernel": KERNEL, "reference": seen}
    return {role: value for role, value in values.items() if role in needed}


def with_halo(entry: ModelEntry, halo: int, side: int) -> Restorer:
    file = load_model(entry.path)
    tile = file.metadata.tile.model_copy(update={"halo": halo, "preferred": max(2 * halo + 8, 64)})
    return Restorer(replace(file, metadata=file.metadata.model_copy(update={"tile": tile})), device="cpu", tile=side)


def test_there_is_a_default_model() -> None:
    assert "denoise" in [param.values[0].name for param in SHIPPED]


@pytest.mark.parametrize("entry", SHIPPED)
def test_a_shipped_model_is_sound_and_small(entry: ModelEntry) -> None:
    assert entry.problem == ""
    assert library.verify(entry.name)
    assert entry.path.stat().st_size < 4 * MEBIBYTE


@pytest.mark.parametrize("entry", SHIPPED)
def test_a_card_says_what_a_model_is_for_and_what_not(entry: ModelEntry) -> None:
    for heading in ("# ", "## Use", "## Not for", "## Data and licences", "## Quality", "## Training"):
        assert heading in entry.card, heading
    for source in entry.metadata.training_data:
        assert source.licence in entry.card


@pytest.mark.parametrize("entry", CUT)
@pytest.mark.parametrize("side", [160, 240])
def test_tiles_leave_no_seam_with_the_shipped_halo(entry: ModelEntry, side: int) -> None:
    image, halo = image_for(entry), entry.metadata.tile.halo
    whole = restored(with_halo(entry, halo, 4096), image, **asks(entry, size=image.shape[:2]))
    tiled = restored(with_halo(entry, halo, max(side, 2 * halo + 16)), image, **asks(entry, size=image.shape[:2]))
    scale = np.ptp(image) if image.ndim == 2 else 1.0
    assert np.abs(tiled - whole).max() < 0.25 / 255 * scale


@pytest.mark.parametrize("entry", CUT)
def test_tiles_equal_the_whole_image_with_the_exact_halo(entry: ModelEntry) -> None:
    exact = entry.metadata.tile.halo_exact
    photograph = np.concatenate([demo("noisy").astype(np.float32) / 255] * 2, axis=1)[:64]
    wide = np.concatenate([photograph] * 2, axis=1) if entry.metadata.domain == "cfa" else photograph
    image = as_seen(wide, entry)
    whole = restored(with_halo(entry, exact, 4096), image, **asks(entry, size=image.shape[:2]))
    tiled = restored(with_halo(entry, exact, 2 * exact + 64), image, **asks(entry, size=image.shape[:2]))
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("entry", [param for param in SHIPPED if param.values[0].metadata.precision == "int8"])
def test_tiles_in_integers_equal_the_whole_image_to_the_bit(entry: ModelEntry) -> None:
    image, halo = image_for(entry), entry.metadata.tile.halo
    whole, tiled = (restored(with_halo(entry, halo, side), image) for side in (4096, 2 * halo + 64))
    np.testing.assert_array_equal(tiled, whole)


@pytest.mark.parametrize("entry", SHIPPED)
def test_the_number_of_threads_changes_nothing_but_rounding(entry: ModelEntry) -> None:
    side = 128 if entry in [param.values[0] for param in CUT] else 64  # as each pass looks at the whole
    image = as_seen(demo("noisy").astype(np.float32)[:side, :side] / 255, entry)
    runs = (Restorer(entry.path, device="cpu", threads=threads) for threads in (1, 2))
    one, two = (restored(run, image, **asks(entry, size=image.shape[:2])) for run in runs)
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-5)


@pytest.mark.parametrize("entry", DENOISERS)
@pytest.mark.parametrize("sigma", [15, 50])
def test_a_shipped_denoiser_brings_a_noisy_photograph_nearer_to_the_clean_one(entry: ModelEntry, sigma: float) -> None:
    clean = as_seen(demo("clean").astype(np.float32) / 255, entry)
    sigma = min(sigma, 15) if entry.metadata.for_raw else sigma  # as strong as a sensor's noise comes
    degraded = noisy(clean, sigma, 0)
    result = restored(Restorer(entry.path, device="cpu"), degraded, **asks(entry, sigma))
    assert peak_signal_noise_ratio(clean, result, data_range=1) > 5 + peak_signal_noise_ratio(
        clean, degraded, data_range=1
    )


def measured(entry: ModelEntry, clean: np.ndarray) -> np.ndarray:
    """What the model's operator makes of an image, in 8 bit; and where a part is missing, red."""
    planes = clean.transpose(2, 0, 1)[None]
    given = asks(entry, size=clean.shape[:2])
    if "mask" in given:
        return np.where(given["mask"][..., None], np.float32([1, 0, 0]), clean)
    physics = Blur(KERNEL[::-1, ::-1]) if "kernel" in given else Downsample(entry.metadata.scale)
    seen: np.ndarray = np.rint(physics.forward(planes)[0].transpose(1, 2, 0).clip(0, 1) * 255) / 255
    return seen.astype(np.float32)


@pytest.mark.parametrize("entry", FADING)
def test_a_model_with_its_operator_inside_undoes_it_with_nothing_but_what_it_needs(entry: ModelEntry) -> None:
    clean = np.ascontiguousarray(demo("clean")[100:196, 200:328]).astype(np.float32) / 255
    degraded = measured(entry, clean)
    given, scale = asks(entry, size=clean.shape[:2]), entry.metadata.scale
    whole = Restorer(entry.path, device="cpu")(degraded, **given)
    before = degraded.repeat(scale, 0).repeat(scale, 1)
    gain = [peak_signal_noise_ratio(clean, image, data_range=1) for image in (before, whole)]
    assert gain[1] > gain[0] + 1
    if "mask" in given:
        known = ~given["mask"]
        assert np.abs(whole - clean)[known].max() < 0.5 / 255


@pytest.mark.slow
@pytest.mark.parametrize("entry", FADING)
def test_tiles_that_fade_into_each_other_leave_no_seam(entry: ModelEntry) -> None:
    clean = np.ascontiguousarray(demo("clean")[60:252, 100:356]).astype(np.float32) / 255
    degraded = measured(entry, clean)
    given, halo = asks(entry, size=clean.shape[:2]), entry.metadata.tile.halo
    whole, tiled = (
        Restorer(entry.path, device="cpu", tile=tile)(degraded, **given) for tile in (512, halo + 8 * (halo // 16))
    )
    assert np.abs(tiled - whole).mean() < 0.5 / 255
    assert np.abs(tiled - whole).max() < 12 / 255


def test_what_is_generated_depends_on_the_seed_and_not_on_the_image() -> None:
    restorer, photograph = Restorer("generate", device="cpu"), demo("noisy")[:64, :64].astype(np.float32) / 255
    first, again, other = (
        restorer(image, seed=seed) for image, seed in ((photograph, 1), (0 * photograph, 1), (photograph, 2))
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(other - first).mean() > 0.05
    assert 0.03 < first.std() < 0.4  # neither even nor saturated


def test_every_model_in_the_folder_is_tested_here() -> None:
    folder = Path(library.SHIPPED)
    assert {path.stem for path in folder.glob("*.onnx")} == {param.values[0].name for param in SHIPPED}
