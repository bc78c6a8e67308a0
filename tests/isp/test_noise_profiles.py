"""The noise profile: from the file, from the frame alone, from a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from raw_files import BAYER, X_TRANS, frame, mosaic_of, photograph, with_noise

from restonnx import isp
from restonnx.errors import InputError
from restonnx.isp import NoiseProfile, noise_profiles
from restonnx.isp.frame import MONOCHROME

TABLE = {100.0: (1e-4, 1e-7), 400.0: (4e-4, 1.6e-6)}


@pytest.mark.parametrize(("a", "b"), [(1e-4, 1e-6), (1e-3, 4e-6), (4e-3, 4e-5), (1.2e-2, 2e-4)])
def test_the_noise_of_a_frame_is_found_from_the_frame_alone(a: float, b: float) -> None:
    for pattern in (BAYER["GRBG"], MONOCHROME):
        clean = mosaic_of(photograph(), pattern)
        found = noise_profiles.estimate(frame(with_noise(clean, a, b), pattern))
        assert found.source == "estimate"
        assert len(found.a) == (1 if pattern == MONOCHROME else 3)
        assert found.a == pytest.approx((a,) * len(found.a), rel=0.15)
        assert np.mean(found.b) == pytest.approx(b, rel=0.25)


def test_x_trans_and_linear_frames_are_measured_too() -> None:
    image = photograph(900, 900)
    found = noise_profiles.estimate(frame(with_noise(mosaic_of(image, X_TRANS), 4e-3, 4e-5), X_TRANS))
    assert found.a == pytest.approx((4e-3,) * 3, rel=0.15)
    assert np.mean(found.b) == pytest.approx(4e-5, rel=0.25)
    found = noise_profiles.estimate(frame(with_noise(image, 4e-3, 4e-5)))
    assert found.a == pytest.approx((4e-3,) * 3, rel=0.15)


def test_colours_are_told_apart() -> None:
    clean = mosaic_of(photograph(), BAYER["RGGB"])
    noisy = with_noise(clean, 1e-3, 1e-5)
    noisy[1::2, 1::2] = with_noise(clean, 8e-3, 1e-5, seed=5)[1::2, 1::2]
    red, green, blue = noise_profiles.estimate(frame(noisy, BAYER["RGGB"])).a
    assert blue > 5 * red
    assert red == pytest.approx(green, rel=0.2)


def test_saturated_areas_do_not_make_the_frame_look_cleaner() -> None:
    clean = mosaic_of(photograph(), BAYER["RGGB"])
    noisy = with_noise(clean, 4e-3, 4e-5)
    noisy[:128] = 1.0
    found = noise_profiles.estimate(frame(noisy, BAYER["RGGB"]))
    assert found.a == pytest.approx((4e-3,) * 3, rel=0.15)


def test_noise_that_was_cut_off_at_black_is_not_counted() -> None:
    clean = mosaic_of(photograph(), BAYER["RGGB"])
    clean[:128] = 0
    found = noise_profiles.estimate(frame(np.maximum(with_noise(clean, 4e-3, 4e-5), 0), BAYER["RGGB"]))
    assert found.a == pytest.approx((4e-3,) * 3, rel=0.15)


def test_a_frame_without_noise_has_next_to_none() -> None:
    found = noise_profiles.estimate(frame(np.full((400, 400), 0.3), BAYER["RGGB"]))
    assert max(found.a) < 1e-9
    assert max(found.b) < 1e-9


def test_what_the_file_says_comes_before_the_estimate_and_that_before_the_table() -> None:
    clean = with_noise(mosaic_of(photograph(), BAYER["RGGB"]), 1e-3, 1e-5)
    said = NoiseProfile((1.0,), (2.0,), "DNG")
    assert isp.noise_profile(frame(clean, BAYER["RGGB"], noise=said, iso=100.0), TABLE) is said
    assert isp.noise_profile(frame(clean, BAYER["RGGB"], iso=100.0), TABLE).source == "estimate"
    small = frame(clean[:40, :40], BAYER["RGGB"], iso=100.0)
    found = isp.noise_profile(small, TABLE)
    assert (found.source, *found.of(0)) == ("table", pytest.approx(1e-4), pytest.approx(1e-7))
    with pytest.raises(InputError, match="at least 40 are needed; give a profile or a table"):
        isp.noise_profile(small)


@pytest.mark.parametrize(
    ("iso", "a", "b"), [(100, 1e-4, 1e-7), (200, 2e-4, 4e-7), (800, 8e-4, 6.4e-6), (50, 5e-5, 2.5e-8)]
)
def test_between_and_beyond_the_isos_of_a_table_powers_are_followed(iso: float, a: float, b: float) -> None:
    found = noise_profiles.from_table(TABLE, iso, colours=1)
    assert (found.a[0], found.b[0]) == pytest.approx((a, b), rel=1e-6)


def test_a_table_is_read_from_csv(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("iso,a,b\n100,1e-4,1e-7\n400,4e-4,1.6e-6\n")
    assert noise_profiles.read_table(tmp_path / "t.csv") == TABLE
    (tmp_path / "t.csv").write_text("gain,a\n1,2\n")
    with pytest.raises(InputError, match="columns iso, a, b"):
        noise_profiles.read_table(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("hello\n")
    with pytest.raises(InputError, match="empty noise table"):
        noise_profiles.read_table(tmp_path / "t.csv")
    with pytest.raises(InputError, match=r"u\.csv cannot be read: No such file"):
        noise_profiles.read_table(tmp_path / "u.csv")
    with pytest.raises(InputError, match="above 0 for each"):
        noise_profiles.from_table({100.0: (0.0, 1.0)}, 100)


def test_a_display_image_has_no_profile() -> None:
    image = isp.Frame(np.zeros((400, 400, 3), np.float32), isp.FrameMeta("display_rgb", transfer="srgb"))
    with pytest.raises(InputError, match="before the transfer function"):
        noise_profiles.estimate(image)
