"""Every task's damage: seeded, in range, and true to the physics that it claims."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from restonnx import photograph as shipped
from restonnx.diffusion.resizing import Downsample
from restonnx.training.degradations.deblur import Deblur
from restonnx.training.degradations.dehaze import Dehaze
from restonnx.training.degradations.derain import Derain
from restonnx.training.degradations.draws import log_uniform, uniform
from restonnx.training.degradations.dual_camera import DualCamera
from restonnx.training.degradations.every import DEGRADATIONS
from restonnx.training.degradations.fields import low_pass, moved, smooth
from restonnx.training.degradations.light import to_display, to_light
from restonnx.training.degradations.low_light import LowLight
from restonnx.training.degradations.micrograph import Micrograph, structures
from restonnx.training.degradations.missing import Missing
from restonnx.training.degradations.raindrop import Raindrop
from restonnx.training.degradations.shadow import Shadow
from restonnx.training.degradations.super_resolution import SuperResolution
from restonnx.training.degrade import HIDDEN

REAL = {"real_share": 1.0}
KINDS = [(kind, {}) for kind in DEGRADATIONS if kind not in HIDDEN] + [("super_resolution", REAL)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photograph(count: int = 2, channels: int = 3, side: int = 64) -> torch.Tensor:
    """Smooth, with an edge, within [0.05, 0.95]."""
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    planes = [0.5 + 0.3 * torch.sin(5 * x + 3 * n * y) + 0.15 * (x > 0.5) for n in range(count * channels)]
    return torch.stack(planes).view(count, channels, side, side).clamp(0.05, 0.95)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_the_same_seed_does_the_same_and_another_one_something_else(
    kind: str, settings: dict[str, Any], channels: int
) -> None:
    damage: Any = DEGRADATIONS[kind](**settings)
    clean = photograph(channels=channels)
    first, again, other = (damage.degrade(clean, generator(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    if kind != "super_resolution" or settings:  # bicubic reduction has no chance in it
        assert not torch.equal(first[1], other[1])


@pytest.mark.parametrize("size", [(64, 64), (70, 53), (33, 200)])
@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_shape_and_range_hold_at_any_size(kind: str, settings: dict[str, Any], size: tuple[int, int]) -> None:
    damage: Any = DEGRADATIONS[kind](**settings)
    given = torch.rand(3, 3, *size, generator=generator())
    before = given.clone()
    clean, degraded, *guides = damage.degrade(given, generator())
    scale = getattr(damage, "scale", 1)
    assert torch.equal(given, before)
    assert clean.shape == (3, 3, *(side // scale * scale for side in size))
    assert degraded.shape == (3, 3, *(side // scale for side in size))
    assert len(guides) == (getattr(damage, "guide", None) is not None)
    for image in (degraded, *guides):
        assert image.isfinite().all()
        assert image.dtype == torch.float32
        assert image.min() > -0.8
        assert image.mean() <= 1


@pytest.mark.parametrize(
    ("kind", "settings", "says"),
    [
        ("dehaze", {"transmission": (0.5, 0.3)}, "transmission must rise"),
        ("dehaze", {"transmission": (0.5, 1.5)}, "to at most 1"),
        ("derain", {"opacity": (0.5, 1.5)}, "opacity must rise"),
        ("deblur", {"motion_share": 0.8, "defocus_share": 0.8}, "at most 1 together"),
        ("super_resolution", {"scale": 3}, "Input should be 2 or 4"),
        ("low_light", {"gain": (0.5, 2)}, "gain must rise from at least 1"),
        ("micrograph", {"photons": (0, 2)}, "photons must rise"),
        ("shadow", {"skylight": (0, 2)}, "skylight must rise"),
        ("raindrop", {"size": (1, 2)}, "size must rise"),
        ("dual_camera", {"parallax": (4, 2)}, "parallax must rise"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(kind: str, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        DEGRADATIONS[kind](**settings)


# Super-resolution


@pytest.mark.parametrize("scale", [2, 4])
def test_a_small_image_is_what_the_operator_makes_of_the_large_one(scale: Any) -> None:
    clean = photograph()
    _, degraded = SuperResolution(scale=scale).degrade(clean, generator())
    torch.testing.assert_close(degraded, Downsample(scale).forward(clean))


def test_a_real_small_image_lies_near_the_bicubic_one_and_is_an_eight_bit_file() -> None:
    clean = photograph(8)
    _, degraded = SuperResolution(real_share=1, jpeg_share=1).degrade(clean, generator())
    bicubic = Downsample(4).forward(clean)
    assert 0.002 < (degraded - bicubic).abs().mean() < 0.1
    torch.testing.assert_close(degraded * 255, (degraded * 255).round())


# Rain


def test_more_rain_never_darkens_where_its_light_is_the_brightest() -> None:
    clean = photograph(4)
    options: dict[str, Any] = {"light": (1, 1), "veil": (0, 0), "noise": (0, 0)}
    drizzle, shower = (Derain(opacity=(o, o), **options).degrade(clean, generator())[1] for o in (0.2, 0.8))
    assert (drizzle >= clean - 1e-6).all()
    assert (shower >= drizzle - 1e-6).all()
    assert (shower - clean).mean() > 2 * (drizzle - clean).mean() > 0


def test_rain_that_lets_everything_through_is_no_rain() -> None:
    clean = photograph()
    _, degraded = Derain(opacity=(0, 0), veil=(0, 0), noise=(0, 0)).degrade(clean, generator())
    torch.testing.assert_close(degraded, clean)


def test_streaks_are_longer_along_the_fall_than_across() -> None:
    black = torch.zeros(4, 1, 96, 96)
    options: dict[str, Any] = {"slant": 0, "veil": (0, 0), "noise": (0, 0), "length": (20, 20), "width": (0.7, 0.7)}
    _, rain = Derain(layers=1, cover=(0.05, 0.05), **options).degrade(black, generator())
    down, across = (rain.diff(dim=dim).square().mean() for dim in (-2, -1))
    assert across > 4 * down


# Haze


def test_clear_air_changes_nothing() -> None:
    clean = photograph(4)
    _, degraded = Dehaze(transmission=(1, 1), noise=(0, 0)).degrade(clean, generator())
    torch.testing.assert_close(degraded, clean, atol=1e-5, rtol=0)


def test_haze_takes_every_pixel_towards_the_airlight_and_thick_haze_further() -> None:
    clean = photograph(4)
    options: dict[str, Any] = {"airlight": (1, 1), "tint": 0, "uneven": (0, 0), "noise": (0, 0)}
    thin, thick = (Dehaze(transmission=(t, t), **options).degrade(clean, generator())[1] for t in (0.8, 0.3))
    assert (thin >= clean - 1e-5).all()
    assert (thick >= thin - 1e-5).all()
    assert (thick <= 1 + 1e-5).all()


def test_haze_as_bright_as_the_scene_is_seen_only_where_its_light_is_uneven() -> None:
    clean = torch.full((8, 3, 160, 160), 0.5)
    options: dict[str, Any] = {"transmission": (0.02, 0.02), "airlight": (0.5, 0.5), "tint": 0, "noise": (0, 0)}
    even, little, much = (
        (Dehaze(uneven=(spread, spread), **options).degrade(clean, generator())[1] - clean).square().mean().sqrt()
        for spread in (0.0, 0.05, 0.1)
    )
    assert float(even) < 1e-5
    assert float(much) == pytest.approx(0.5 * 0.1, rel=0.5)
    assert float(much / little) == pytest.approx(2, rel=0.1)


# Low light


def test_enough_light_leaves_the_image_as_a_file_holds_it() -> None:
    clean = photograph()
    options: dict[str, Any] = {"cast": 0, "unevenness": 0, "smooth_share": 0, "jpeg_share": 0}
    _, degraded = LowLight(gain=(1, 1), noise=(1e-3, 1e-3), **options).degrade(clean, generator())
    torch.testing.assert_close(degraded, (clean * 255).round() / 255, atol=1.01 / 255, rtol=0)


def test_the_light_is_divided_by_the_gain() -> None:
    clean = photograph(4)
    options: dict[str, Any] = {"cast": 0, "unevenness": 0, "smooth_share": 0, "jpeg_share": 0, "noise": (1e-3, 1e-3)}
    _, degraded = LowLight(gain=(8, 8), **options).degrade(clean, generator())
    ratio = to_light(clean).mean() / to_light(degraded).mean()
    assert float(ratio) == pytest.approx(8, rel=0.02)


def test_light_and_display_values_are_inverse() -> None:
    values = torch.linspace(0, 1, 1001)
    torch.testing.assert_close(to_display(to_light(values)), values, atol=1e-6, rtol=1e-5)
    assert float(to_light(torch.tensor(0.5))) == pytest.approx(0.2140, abs=1e-4)


# Shadows


def test_a_shadow_never_brightens_and_leaves_the_skylight() -> None:
    clean = photograph(8)
    options: dict[str, Any] = {"blueness": (0, 0), "noise": (0, 0), "none_share": 0}
    _, degraded, _ = Shadow(skylight=(0.4, 0.4), **options).degrade(clean, generator())
    left = to_light(degraded) / to_light(clean)
    assert float(left.max()) < 1 + 1e-4
    assert float(left.min()) > 0.4 * 0.6 - 1e-3  # the least that scattering leaves of it
    assert 0.05 < float((left < 0.7).float().mean()) < 0.95


def test_without_a_shadow_nothing_changes() -> None:
    clean = photograph()
    _, degraded, lit = Shadow(none_share=1, noise=(0, 0)).degrade(clean, generator())
    torch.testing.assert_close(degraded, clean, atol=1e-5, rtol=0)
    assert lit.all()


def test_the_painted_mask_is_the_shadow_but_for_the_penumbra() -> None:
    clean = photograph(16, side=128)
    damage = Shadow(skylight=(0.3, 0.3), none_share=0, noise=(0, 0), penumbra=(1, 2), misplaced=1.0)
    _, degraded, lit = damage.degrade(clean, generator())
    darker = (to_light(degraded) / to_light(clean)).mean(dim=1, keepdim=True) < 0.65
    assert float((darker == (lit < 0.5)).float().mean()) > 0.97
    _, _, sloppy = Shadow(**damage.model_dump() | {"misplaced": 20.0}).degrade(clean, generator())
    assert 0.6 < float((sloppy == lit).float().mean()) < 0.99


# Missing pixels


@pytest.mark.parametrize(
    ("shares", "least", "most"),
    [
        ({"pixels_share": 1.0, "boxes_share": 0.0, "lost": (0.4, 0.4)}, 0.35, 0.45),
        ({"pixels_share": 0.0, "boxes_share": 1.0, "boxes": 1, "box": (20.0, 20.0)}, 0.004, 0.0256),
        ({"pixels_share": 0.0, "boxes_share": 0.0}, 0.005, 0.4),
    ],
)
def test_what_is_known_stays_and_what_is_lost_is_gray(shares: dict[str, Any], least: float, most: float) -> None:
    clean = photograph(16, side=128)
    truth, degraded, known = Missing(noise=(0, 0), **shares).degrade(clean, generator())
    lost = (known < 0.5).expand_as(clean)
    assert torch.equal(truth, clean)
    assert torch.equal(degraded[~lost], clean[~lost])
    assert (degraded[lost] == 0.5).all()
    assert least < float(lost.float().mean()) < most


def test_lines_are_as_wide_as_they_are_said_to_be() -> None:
    damage = Missing(pixels_share=0, boxes_share=0, width=(8, 8))
    _, _, known = damage.degrade(photograph(16, side=256), generator())
    lost = known < 0.5
    shrunk = torch.nn.functional.avg_pool2d(lost.float(), 13, 1, 6) > 0.999
    assert lost.any()
    assert float(shrunk.sum()) < 0.05 * float(lost.sum())  # hardly anywhere is a disc of 13 pixels lost


def test_shadows_are_bluish() -> None:
    gray = torch.full((16, 3, 32, 32), 0.6)
    _, degraded, _ = Shadow(blueness=(0.3, 0.3), none_share=0, noise=(0, 0)).degrade(gray, generator())
    red, _, blue = degraded.mean(dim=(0, 2, 3))
    assert blue > red + 0.01


# Drops


def test_a_dry_pane_changes_nothing_and_a_wet_one_only_where_drops_are() -> None:
    clean = photograph(4, side=128)
    options: dict[str, Any] = {"noise": (0, 0), "small_share": 0, "focus": (1, 1)}
    dry, wet = (Raindrop(cover=(c, c), **options).degrade(clean, generator())[1] for c in (0, 0.15))
    torch.testing.assert_close(dry, clean)
    changed = ((wet - clean).abs().amax(dim=1) > 1e-4).float().mean()
    assert 0.05 < float(changed) < 0.5


# Blur


def test_blur_kernels_are_averages() -> None:
    kernels = Deblur().kernels(torch.zeros(32, 1, 8, 8), generator())
    torch.testing.assert_close(kernels.sum(dim=(-2, -1)), torch.ones(32, 1))
    assert kernels.min() >= 0


def test_blur_keeps_what_is_even_and_the_light_of_the_rest() -> None:
    even = torch.full((4, 3, 48, 48), 0.3)
    options: dict[str, Any] = {"noise": (0, 0), "linear_share": 1, "two_share": 0}
    torch.testing.assert_close(Deblur(**options).degrade(even, generator())[1], even, atol=1e-5, rtol=0)
    point = torch.zeros(4, 3, 65, 65)
    point[..., 32, 32] = 1
    blurred = to_light(Deblur(**options).degrade(point, generator())[1])
    torch.testing.assert_close(blurred.sum(dim=(-2, -1)), torch.ones(4, 3), atol=1e-3, rtol=0)


def test_a_straight_path_is_as_long_as_it_was_asked_for() -> None:
    settings = Deblur(motion=(20, 20), shake=0, motion_share=1, defocus_share=0)
    kernels = settings.kernels(torch.zeros(16, 1, 8, 8), generator())
    reach = kernels.shape[-1] // 2
    y, x = torch.meshgrid(*[torch.arange(-reach, reach + 1).float()] * 2, indexing="ij")
    spread = (kernels * (y.square() + x.square())).sum(dim=(-2, -1)).sqrt()
    torch.testing.assert_close(spread, torch.full_like(spread, 20 / math.sqrt(12)), rtol=0.25, atol=0)


# Micrographs


def test_micrographs_have_the_noise_of_counted_photons_and_of_reading() -> None:
    gray = torch.full((16, 1, 64, 64), 0.5)
    options: dict[str, Any] = {"drawn_share": 0, "contrast": (1, 1), "correlated_share": 0}
    _, degraded = Micrograph(photons=(20, 20), read=(10, 10), **options).degrade(gray, generator())
    noise = degraded - 0.5
    assert float(noise.var()) == pytest.approx(0.5 / 20 + (10 / 255) ** 2, rel=0.03)
    assert float(noise.mean()) == pytest.approx(0, abs=0.003)


def test_drawn_micrographs_fill_the_range_and_differ() -> None:
    drawn = structures(torch.zeros(6, 1, 96, 96), generator())
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert (drawn.amax(dim=(1, 2, 3)) > 0.3).all()
    assert (drawn.std(dim=(1, 2, 3)) > 0.01).all()
    assert all(not torch.equal(drawn[0], other) for other in drawn[1:])


# Two cameras


def test_cameras_that_agree_show_the_same_in_the_middle_and_nothing_around() -> None:
    clean = photograph()
    alike: dict[str, Any] = {"misregistration": 0, "parallax": (0, 0), "colour": 0, "noise": (0, 0)}
    _, wide, tele = DualCamera(view="centre", softness=(0.01, 0.01), **alike).degrade(clean, generator())
    torch.testing.assert_close(wide, Downsample(2).forward(clean))
    torch.testing.assert_close(tele[..., 16:48, 16:48], clean[..., 16:48, 16:48], atol=1e-4, rtol=0)
    assert tele.count_nonzero() == tele[..., 16:48, 16:48].count_nonzero()


def test_the_flow_takes_back_what_parallax_has_moved() -> None:
    pixels = torch.from_numpy(shipped.clean()).float() / 255
    clean = pixels.permute(2, 0, 1)[None, :, :256, :320]
    alike: dict[str, Any] = {"colour": 0, "noise": (0, 0), "softness": (0.01, 0.01), "view": "centre"}
    off, found = (
        DualCamera(misregistration=0, parallax=(8, 8), flow=flow, **alike).degrade(clean, generator())[2]
        for flow in (False, True)
    )
    seen = (off > 0) & (found > 0)
    assert ((found > 0) == (off > 0)).float().mean() > 0.95  # only at the rim another part is seen
    before, after = (float((clean - tele)[seen].abs().mean()) for tele in (off, found))
    assert before > 0.02
    assert after < before / 3


def test_crops_lie_inside_outside_and_across_the_second_cameras_view() -> None:
    _, _, tele = DualCamera().degrade(torch.full((64, 1, 32, 32), 0.5), generator())
    seen = (tele > 0).float().mean(dim=(1, 2, 3))
    assert 0.3 < float((seen == 1).float().mean()) < 0.9
    assert ((seen > 0) & (seen < 1)).sum() > 3


# What they are made of


def test_fields_are_about_standard_normal_and_as_smooth_as_asked() -> None:
    like = torch.zeros(16, 1, 128, 128)
    coarse, fine = (smooth(like, generator(), (length, length)) for length in (40.0, 5.0))
    assert float(fine.mean()) == pytest.approx(0, abs=0.05)
    assert 0.8 < float(fine.std()) < 1.3
    assert fine.diff(dim=-1).square().mean() > 20 * coarse.diff(dim=-1).square().mean()


def test_a_blur_by_gaussians_keeps_even_images_and_widens_with_sigma() -> None:
    even = torch.full((2, 3, 40, 50), 0.4)
    for sigma in (0.5, 4.0, 30.0):
        torch.testing.assert_close(low_pass(even, torch.full((2, 1, 1, 1), sigma)), even)
    noise = torch.randn(2, 1, 64, 64, generator=generator())
    stds = [float(low_pass(noise, torch.full((2, 1, 1, 1), sigma)).std()) for sigma in (0.01, 1.0, 3.0, 12.0)]
    assert stds[0] == pytest.approx(float(noise.std()), rel=1e-3)
    assert stds == sorted(stds, reverse=True)


def test_pixels_are_moved_from_where_they_are_said_to_be() -> None:
    image = photograph()
    shift = torch.full((2, 64, 64), 3.0)
    found = moved(image, shift, -shift)
    torch.testing.assert_close(found[..., :61, 3:], image[..., 3:, :61], atol=1e-4, rtol=0)


def test_draws_lie_between_their_limits() -> None:
    like = torch.zeros(2000, 1, 1, 1)
    even, logarithmic = uniform(like, generator(), 2, 5), log_uniform(like, generator(), 0.01, 100)
    assert 2 <= even.min() < even.max() <= 5
    assert 0.01 <= logarithmic.min() < logarithmic.max() <= 100
    assert float(logarithmic.log10().mean()) == pytest.approx(0, abs=0.1)
