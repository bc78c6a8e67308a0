"""Latent models: their noise has channels and a grid of its own, and is keyed by place on that grid."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_model import tiny_model

from restonnx import noise
from restonnx.restore import Restorer

LARGE = 100_000


@cache
def restorer(folder: Path, channels: int, scale: int, stride: int, latent: int | None, tile: int) -> Restorer:
    """Adds 0.01 times the sum of two draws, the mean of their channels, each value to stride x stride pixels."""
    name = f"latent-{channels}-{scale}-{stride}-{latent or 0}"
    options: dict[str, Any] = {"noise_channels": latent, "noise_stride": stride, "blur": False, "multiple": 8}
    return Restorer(tiny_model(folder, name=name, channels=channels, scale=scale, **options), device="cpu", tile=tile)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("latent")


def image_of(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


@pytest.mark.parametrize("tile", [32, LARGE])
@pytest.mark.parametrize(("scale", "stride", "latent"), [(1, 4, 5), (1, 8, 4), (2, 8, 4), (4, 4, 3), (2, 1, 6)])
def test_noise_is_keyed_by_place_on_the_latent_grid(
    folder: Path, scale: int, stride: int, latent: int, tile: int
) -> None:
    image = image_of(45, 61, 3)
    tall, wide = 48 * scale // stride, 64 * scale // stride
    drawn = noise.normal(9, 2, latent, slice(0, tall), slice(0, wide)).sum(axis=0).mean(axis=0)
    expected = image.repeat(scale, 0).repeat(scale, 1)
    expected = expected + 0.01 * drawn.repeat(stride, 0).repeat(stride, 1)[: 45 * scale, : 61 * scale, None]
    restored = restorer(folder, 3, scale, stride, latent, tile)(image, seed=9)
    np.testing.assert_allclose(restored, expected, atol=1e-6)


def test_the_latent_has_as_many_channels_as_the_image_unless_said_otherwise(folder: Path) -> None:
    image = image_of(40, 48, 3)
    drawn = noise.normal(2, 2, 3, slice(0, 10), slice(0, 12)).sum(axis=0).transpose(1, 2, 0)
    expected = image + 0.01 * drawn.repeat(4, 0).repeat(4, 1)
    np.testing.assert_allclose(restorer(folder, 3, 1, 4, None, LARGE)(image, seed=2), expected, atol=1e-6)


def test_colours_go_through_a_latent_model_of_one_channel_one_by_one_with_their_own_noise(folder: Path) -> None:
    image = image_of(40, 48, 3)
    drawn = noise.normal(2, 2, 3 * 5, slice(0, 10), slice(0, 12)).sum(axis=0).reshape(3, 5, 10, 12).mean(axis=1)
    expected = image + 0.01 * drawn.transpose(1, 2, 0).repeat(4, 0).repeat(4, 1)
    np.testing.assert_allclose(restorer(folder, 1, 1, 4, 5, 32)(image, seed=2), expected, atol=1e-6)


def test_samples_draw_latents_of_their_own(folder: Path) -> None:
    image = image_of(40, 48, 3)
    mean, std = restorer(folder, 3, 1, 4, 5, 32)(image, samples=4, return_std=True)
    window = slice(0, 10), slice(0, 12)
    drawn = [0.01 * noise.normal(0, 2, 5, *window, sample=n).sum(axis=0).mean(axis=0) for n in range(4)]
    large = [each.repeat(4, 0).repeat(4, 1)[..., None] for each in drawn]
    np.testing.assert_allclose(mean, image + np.mean(large, axis=0), atol=1e-6)
    np.testing.assert_allclose(std, np.broadcast_to(np.std(large, axis=0), image.shape), atol=1e-6)
