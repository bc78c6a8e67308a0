"""apply: domains are converted where nothing is lost, the input stays as it is, odd results are refused."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_files import BAYER, MATRIX, X_TRANS, Changed, frame, mosaic_of, photograph

from restonnx import isp
from restonnx.errors import Cancelled, InputError
from restonnx.isp import colors
from restonnx.isp.frame import MONOCHROME
from restonnx.isp.stage import camera_values

CAMERA = {
    "wb": (2.4, 1.0, 1.6),
    "xyz_to_cam": (MATRIX[:3], MATRIX[3:6], MATRIX[6:]),
}
RGB_DOMAINS = ("camera_rgb", "linear_rgb", "display_rgb")


def colour_frame(**more: Any) -> isp.Frame:
    image = photograph(40, 48) * 1.6 - 0.1
    assert image.min() < 0 < 1 < image.max()
    return frame(image, None, **CAMERA, **more)


@pytest.mark.parametrize("domain", RGB_DOMAINS)
def test_a_stage_that_changes_nothing_gives_the_very_frame_back(domain: str) -> None:
    given = colour_frame()
    assert isp.apply(given, Changed(domain)) is given


@pytest.mark.parametrize("domain", RGB_DOMAINS)
def test_pixels_that_a_stage_leaves_alone_keep_their_very_values(domain: str) -> None:
    class Corner(Changed):
        def __call__(self, image: Any, **options: Any) -> Any:
            out = image.copy()
            out[:3, :3] += 0.1
            return out

    given = colour_frame()
    image = isp.apply(given, Corner(domain)).image
    assert (image[3:] == given.image[3:]).all()
    assert (image[:3, :3] != given.image[:3, :3]).any(axis=-1).all()


@pytest.mark.parametrize("domain", RGB_DOMAINS)
@pytest.mark.parametrize("start", RGB_DOMAINS)
def test_every_colour_domain_leads_to_every_other_and_back(start: Any, domain: Any) -> None:
    begun = isp.convert(colour_frame(), start)
    there = isp.convert(begun, domain)
    assert there.meta.domain == domain
    again = isp.convert(there, start)
    assert again.image == pytest.approx(begun.image, abs=3e-5)


def test_what_the_sensor_gives_for_white_is_white_in_linear_and_display_rgb() -> None:
    neutral = 0.5 / np.array(CAMERA["wb"], np.float32)
    given = frame(np.broadcast_to(neutral, (4, 4, 3)), None, **CAMERA)
    linear = isp.convert(given, "linear_rgb")
    assert linear.image == pytest.approx(np.full((4, 4, 3), 0.5), abs=1e-5)
    assert linear.meta.wb_applied
    display = isp.convert(given, "display_rgb").image
    assert display == pytest.approx(np.full((4, 4, 3), 1.055 * 0.5 ** (1 / 2.4) - 0.055), abs=1e-5)


def test_a_gain_in_linear_light_is_the_same_gain_for_the_sensor() -> None:
    given = colour_frame()
    result = isp.apply(given, Changed("linear_rgb", gain=0.5))
    assert result.image == pytest.approx(given.image * 0.5, abs=1e-5)
    assert result.meta.domain == "camera_rgb"


def test_a_monochrome_frame_goes_through_colours_and_back() -> None:
    given = frame(photograph(40, 48)[..., 0], MONOCHROME)
    stage = Changed("linear_rgb", gain=0.5)
    result = isp.apply(given, stage)
    assert stage.seen[0][0].shape == (40, 48, 3)
    assert result.meta.cfa == MONOCHROME
    assert result.image == pytest.approx(given.image * 0.5, abs=1e-6)


@pytest.mark.parametrize("pattern", [BAYER["RGGB"], X_TRANS])
@pytest.mark.parametrize("domain", RGB_DOMAINS)
def test_a_mosaic_has_no_colours_before_demosaicking(pattern: Any, domain: str) -> None:
    given = frame(mosaic_of(photograph(40, 48), pattern), pattern)
    with pytest.raises(InputError, match=f"must be demosaicked before a stage of {domain}"):
        isp.apply(given, Changed(domain))


def test_colours_do_not_become_a_mosaic_again() -> None:
    with pytest.raises(InputError, match="cannot follow demosaicking; this frame is camera_rgb"):
        isp.apply(colour_frame(), Changed("cfa"))


def test_the_stage_cannot_write_to_the_frame() -> None:
    class Vandal(Changed):
        def __call__(self, image: Any, **options: Any) -> Any:
            image[:] = 0
            return image

    with pytest.raises(ValueError, match="read-only"):
        isp.apply(colour_frame(), Vandal("camera_rgb"))


def test_a_changed_frame_has_no_noise_profile_any_more() -> None:
    known = isp.NoiseProfile((1e-3,) * 3, (1e-5,) * 3)
    given = colour_frame(noise=known)
    assert isp.apply(given, Changed("linear_rgb", gain=0.9)).meta.noise is None
    assert isp.apply(given, Changed("linear_rgb")).meta.noise is known


def test_a_stage_that_enlarges_gives_a_larger_frame() -> None:
    result = isp.apply(colour_frame(), Changed("linear_rgb", scale=2))
    assert result.image.shape == (80, 96, 3)
    assert result.meta.active_area == (0, 0, 80, 96)


def test_odd_results_are_refused_by_name() -> None:
    class Odd(Changed):
        def __init__(self, result: Any) -> None:
            super().__init__("camera_rgb")
            self.result = result

        def __call__(self, image: Any, **options: Any) -> Any:
            return self.result(image)

    for result, text in (
        (lambda image: image[1:], r"changed gave an image of shape \(39, 48, 3\); it should be \(40, 48, 3\)"),
        (lambda image: image * np.nan, "not all finite"),
        (lambda image: image.astype(int), "not all finite"),
    ):
        with pytest.raises(InputError, match=text):
            isp.apply(colour_frame(), Odd(result))


def test_a_cancelled_run_ends_with_cancelled() -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        isp.apply(colour_frame(), Changed("camera_rgb", gain=0.5), cancel=cancel)


def test_the_sensors_own_values_are_known_in_linear_light() -> None:
    given = colour_frame()
    linear = isp.convert(given, "linear_rgb")
    assert camera_values(linear.image, linear.meta) == pytest.approx(given.image, abs=2e-5)
    assert camera_values(given.image, given.meta) is given.image


@settings(max_examples=30)
@given(space=st.sampled_from(sorted(colors.SPACES)), values=st.lists(st.floats(-2, 4, width=32), min_size=1))
def test_transfer_functions_lose_nothing_on_either_side_of_0_and_1(space: str, values: list[float]) -> None:
    x = np.array(values, np.float32)
    assert colors.decode(colors.encode(x, space), space) == pytest.approx(x, abs=2e-6)


@pytest.mark.parametrize("space", colors.SPACES)
def test_a_profile_says_what_lcms_computes_from_it(space: str) -> None:
    """Red, green and blue of the space, in linear light, lead to sRGB as our matrices say."""
    import io

    from PIL import Image, ImageCms

    profile = ImageCms.ImageCmsProfile(io.BytesIO(colors.icc_profile(space)))
    assert ImageCms.getProfileDescription(profile).strip() == colors.SPACES[space].title
    srgb = ImageCms.createProfile("sRGB")
    patches = np.array([[[128, 128, 128], [150, 140, 130], [120, 140, 125], [135, 130, 150]]], np.uint8)
    through = ImageCms.profileToProfile(Image.fromarray(patches), profile, srgb)
    linear = colors.decode(patches.astype(np.float32) / 255, space)
    xyz = colors.to_xyz(space)
    adapted = colors.adapted(xyz, xyz.sum(axis=1), colors.to_xyz("srgb").sum(axis=1))
    ours = colors.encode(linear @ (np.linalg.inv(colors.to_xyz("srgb")) @ adapted).T.astype(np.float32))
    assert np.asarray(through) == pytest.approx(ours * 255, abs=1.1)
