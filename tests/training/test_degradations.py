from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from restonnx.training.degradations.denoise import Denoise
from restonnx.training.degradations.jpeg import jpeg

PLAIN = {"shot_share": 0, "gray_share": 0, "clip_share": 0, "jpeg_share": 0}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_same_seed_damages_alike_and_another_one_differently() -> None:
    clean = torch.rand(4, 3, 32, 32, generator=generator())
    first, again, other = (Denoise().degrade(clean, generator(seed))[1] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_gaussian_noise_has_the_level_that_was_asked_for_and_is_not_clipped() -> None:
    clean = torch.rand(8, 3, 64, 64, generator=generator()).round()
    _, degraded = Denoise(sigma=(25, 25), **PLAIN).degrade(clean, generator())
    assert float((degraded - clean).std()) == pytest.approx(25 / 255, rel=0.01)
    assert float(degraded.min()) < 0
    assert float(degraded.max()) > 1


def test_shot_noise_grows_with_the_light() -> None:
    dark, bright = torch.full((16, 1, 64, 64), 0.1), torch.full((16, 1, 64, 64), 0.9)
    options = Denoise(sigma=(25, 25), **PLAIN | {"shot_share": 1})
    deviations = [float((options.degrade(level, generator())[1] - level).std()) for level in (dark, bright)]
    assert deviations[1] > 1.2 * deviations[0]


def test_grey_samples_carry_the_same_noise_in_all_channels() -> None:
    clean, degraded = Denoise(**PLAIN | {"gray_share": 1}).degrade(torch.rand(2, 3, 32, 32), generator())
    for image in (clean, degraded):
        torch.testing.assert_close(image[:, 0], image[:, 1])
        torch.testing.assert_close(image[:, 0], image[:, 2])


def test_clipped_samples_are_eight_bit_files() -> None:
    _, degraded = Denoise(**PLAIN | {"clip_share": 1}).degrade(torch.rand(2, 3, 32, 32), generator())
    levels = degraded * 255
    torch.testing.assert_close(levels, levels.round())
    assert degraded.min() >= 0
    assert degraded.max() <= 1


def test_contrast_changes_the_clean_image_too() -> None:
    clean = torch.rand(4, 1, 32, 32, generator=generator())
    lowered, _ = Denoise(contrast=(0.1, 0.5), **PLAIN).degrade(clean, generator())
    assert (lowered.std(dim=(1, 2, 3)) < 0.51 * clean.std(dim=(1, 2, 3))).all()  # each about a level of its own


@pytest.mark.parametrize("quality", [20, 50, 90])
@pytest.mark.parametrize("channels", [1, 3])
def test_simulated_jpeg_looks_like_a_real_one(quality: int, channels: int) -> None:
    y, x = np.mgrid[:96, :128] / 30
    planes = [np.sin(x * y), np.cos(3 * x), np.sin(y + x * 2)][:channels]
    rng = np.random.default_rng(0)
    pixels = (127 + 90 * np.stack(planes, -1) + rng.normal(0, 10, (96, 128, channels))).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(buffer, "JPEG", quality=quality)
    real = np.asarray(Image.open(buffer)).reshape(96, 128, channels).astype(float)
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    simulated = jpeg(image, torch.tensor([float(quality)]))[0].permute(1, 2, 0).numpy() * 255
    loss = np.abs(real - pixels).mean()
    assert np.abs(simulated - real).mean() < 0.25 * loss


@pytest.mark.parametrize("size", [(33, 50), (8, 17)])
def test_jpeg_takes_sides_that_are_no_whole_blocks(size: tuple[int, int]) -> None:
    image = torch.rand(2, 3, *size, generator=generator())
    decoded = jpeg(image, torch.tensor([100.0, 100.0]))
    assert decoded.shape == image.shape
    even = torch.full((1, 3, *size), 128 / 255)
    torch.testing.assert_close(jpeg(even, torch.tensor([30.0])), even)
