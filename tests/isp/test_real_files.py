"""Files of real cameras, where they lie beside the clone: the same promises as for those that tests make."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from raw_files import Changed, libraw_numbers, libraw_render, with_noise

from restonnx import isp
from restonnx.errors import InputError
from restonnx.isp import libraw, noise_profiles

FOLDER = Path(os.environ.get("RESTONNX_RAW", Path(__file__).parents[3] / "shared" / "data" / "raw"))
BAYER, LINEAR, OLD, CUT = "colorchart.dng", "canon_eos_6d.dng", "kodak_dc50.kdc", "IMG_1361.dng"


def real(name: str) -> Path:
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"{name} does not lie in {FOLDER.name} beside the clone (or where RESTONNX_RAW points)")
    return path


def psnr(image: np.ndarray, reference: np.ndarray, top: float = 1.0) -> float:
    return float(10 * np.log10(top**2 / np.mean((image.astype(np.float64) - reference) ** 2)))


@pytest.mark.parametrize("name", [BAYER, LINEAR, OLD])
def test_an_identity_stage_gives_libraws_own_render(name: str) -> None:
    path = real(name)
    domain = "camera_rgb" if name == LINEAR else "cfa"
    assert (isp.develop(path, [Changed(domain)]).pixels == libraw_render(path)).all()


@pytest.mark.parametrize("name", [BAYER, LINEAR])
def test_a_dng_of_it_holds_the_same_numbers_and_renders_the_same(tmp_path: Path, name: str) -> None:
    path = real(name)
    isp.develop(path, [], tmp_path / "b.dng")
    assert (libraw_numbers(tmp_path / "b.dng") == libraw_numbers(path)).all()
    assert (libraw_render(tmp_path / "b.dng") == libraw_render(path)).all()


def test_a_camera_without_a_known_matrix_renders_nearly_the_same_from_a_dng(tmp_path: Path) -> None:
    path = real(OLD)
    isp.develop(path, [], tmp_path / "b.dng")
    assert (libraw_numbers(tmp_path / "b.dng") == libraw_numbers(path)).all()
    difference = libraw_render(tmp_path / "b.dng").astype(int) - libraw_render(path)
    assert np.abs(difference).mean() < 5


def test_a_camera_without_a_known_matrix_is_read_whole_and_restored_on_its_colours() -> None:
    image, meta = isp.read_raw(real(OLD))
    assert image.shape == libraw_numbers(real(OLD)).shape == (512, 768)
    assert meta.active_area == (0, 0, 512, 768)
    assert isp.develop(real(OLD), [Changed("linear_rgb")]).pixels.shape == (512, 768, 3)


def test_a_file_that_was_cut_off_is_refused() -> None:
    with pytest.raises(InputError, match="damaged or cut off"):
        isp.read_raw(real(CUT))


def test_the_noise_of_the_colour_chart_is_what_was_measured_before() -> None:
    found = noise_profiles.estimate(isp.read_raw(real(BAYER)))
    assert found.a == pytest.approx((1.5e-4,) * 3, rel=0.15)
    assert found.b == pytest.approx((7.6e-7,) * 3, rel=0.15)


def test_the_profile_of_the_linear_file_is_the_cameras() -> None:
    noise = isp.read_raw(real(LINEAR)).meta.noise
    assert noise is not None
    assert (noise.source, noise.a[0]) == ("DNG", pytest.approx(3.314e-5, rel=1e-3))


@pytest.mark.slow
@pytest.mark.parametrize(("a", "b", "mosaic", "render"), [(1e-3, 4e-6, 50.4, 34.9), (4e-3, 4e-5, 49.6, 33.5)])
def test_the_denoiser_of_mosaics_removes_added_noise_and_keeps_the_colours(
    a: float, b: float, mosaic: float, render: float
) -> None:
    path = real(BAYER)
    with libraw.opened(path) as raw:
        clean = libraw.frame_of(raw, path)
        reference = libraw.render(raw)
        noisy = isp.Frame(with_noise(clean.image, a, b), clean.meta)
        restored = isp.apply(noisy, isp.RestorationStage("raw-denoise", device="cpu"))
        libraw.replace_pixels(raw, restored)
        picture = libraw.render(raw)
    assert psnr(restored.image, clean.image) > mosaic
    assert psnr(picture, reference, 65535) > render
    assert picture.mean((0, 1)) / reference.mean((0, 1)) == pytest.approx(np.ones(3), abs=0.01)
