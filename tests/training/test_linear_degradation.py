"""The damage of linear-denoise: noise of a sensor that demosaicking has spread."""

from __future__ import annotations

import pytest
import torch

from restonnx.training.degradations.linear import BAYER, XTRANS, Linear, filled, interpolated, mask


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def everywhere(pattern: tuple[str, ...], height: int = 36, width: int = 48) -> torch.Tensor:
    return mask(pattern).repeat(1, height // 6, width // 6)[None]


@pytest.mark.parametrize("pattern", [BAYER, XTRANS])
def test_each_pixel_measures_one_colour_and_keeps_its_value(pattern: tuple[str, ...]) -> None:
    measured, image = everywhere(pattern), torch.rand(1, 3, 36, 48, generator=generator())
    assert (measured.sum(dim=1) == 1).all()
    assert float(measured[:, 1].mean()) == pytest.approx(0.5 if pattern == BAYER else 20 / 36)
    for guided in (0.0, 0.5, 1.0):
        colours = interpolated(image, measured, torch.full((1, 1, 1, 1), guided))
        torch.testing.assert_close(colours * measured, image * measured)
    other = torch.where(measured > 0, image, torch.rand(image.shape, generator=generator(1)))
    # What was not measured is not seen.
    torch.testing.assert_close(colours, interpolated(other, measured, torch.ones(1, 1, 1, 1)))


def test_a_bayer_mosaic_is_interpolated_bilinearly() -> None:
    rows, cols = torch.meshgrid(torch.arange(36.0), torch.arange(48.0), indexing="ij")
    ramp = torch.stack([rows + 2 * cols, 3 * rows - cols, cols])[None]
    inner = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(filled(ramp, everywhere(BAYER))[inner], ramp[inner])


def test_what_has_one_colour_all_over_keeps_it() -> None:
    flat = torch.tensor([0.2, 0.5, 0.3]).view(1, 3, 1, 1).expand(1, 3, 36, 48)
    for pattern in (BAYER, XTRANS):
        for guided in (0.0, 1.0):
            torch.testing.assert_close(interpolated(flat, everywhere(pattern), torch.full((1, 1, 1, 1), guided)), flat)


def test_without_noise_the_input_is_the_target() -> None:
    photograph = torch.rand(4, 3, 30, 42, generator=generator(1))
    damage = Linear(shot=(1e-8, 1e-8), bits=(20, 20))
    clean, degraded = damage.degrade(photograph, generator(2))
    assert float((degraded - clean).abs().mean()) < 2e-4


def test_noise_is_spread_over_colours_by_better_interpolation() -> None:
    noise, measured = torch.randn(1, 3, 240, 240, generator=generator()), everywhere(XTRANS, 240, 240)
    grey = 0.5 + 0.01 * noise.where(measured > 0, 0)
    correlated = []
    for guided in (0.0, 0.7):
        error = (interpolated(grey, measured, torch.full((1, 1, 1, 1), guided)) - 0.5)[0].flatten(1)
        correlated.append(float(torch.corrcoef(error)[0, 1]))
    assert abs(correlated[0]) < 0.05
    assert 0.3 < correlated[1] < 0.6, "LibRaw's default: 0.39"


def test_it_is_seeded_at_any_size_and_finite_in_black_and_white() -> None:
    photograph = torch.rand(6, 3, 31, 45, generator=generator(1))
    photograph[0], photograph[1] = 0, 1
    first, second = (Linear().degrade(photograph, generator(2)) for _ in range(2))
    assert torch.equal(first[1], second[1])
    assert first[0].shape == first[1].shape == photograph.shape
    assert all(part.isfinite().all() for part in first)


def test_a_share_of_frames_needs_no_interpolation() -> None:
    photograph = torch.rand(2, 3, 24, 24, generator=generator(1))
    whole, mosaic = (
        Linear(shot=(1e-8, 1e-8), whole_share=share).degrade(photograph, generator(3))[0] for share in (1.0, 0.0)
    )
    assert float((whole - mosaic).abs().mean()) > 0.02
