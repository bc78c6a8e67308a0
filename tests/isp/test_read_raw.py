"""read_raw: what comes out of files of every kind, and what is said of files that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rawpy
from raw_files import BAYER, BLACK, NEUTRAL, SHAPE, WHITE, X_TRANS, dng, numbers, with_exif

from restonnx import isp
from restonnx.errors import InputError
from restonnx.isp import cfa
from restonnx.isp.frame import MONOCHROME


@pytest.mark.parametrize("name", BAYER)
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_bayer_of_every_phase_and_depth_is_read_exactly(tmp_path: Path, name: str, bits: int) -> None:
    pixels, white = numbers(bits=bits), 2**bits - 1
    image, meta = isp.read_raw(dng(tmp_path / "a.dng", pixels, BAYER[name], black=64, white=white))
    assert (meta.domain, meta.cfa, meta.black, meta.white) == ("cfa", BAYER[name], (64.0,) * 4, (float(white),) * 4)
    assert image.dtype == np.float32
    assert np.allclose(image, (pixels.astype(float) - 64) / (white - 64), atol=1e-6)
    assert image.min() < 0, "noise below black is kept"
    assert (cfa.from_unit(image, meta.cfa, meta.black, meta.white) == pixels).all()


def test_black_levels_belong_to_places_not_to_colours(tmp_path: Path) -> None:
    levels = (200.0, 210.0, 220.0, 230.0)
    for name, pattern in BAYER.items():
        pixels = np.tile(np.array(levels, np.uint16).reshape(2, 2), (20, 20))
        image, meta = isp.read_raw(dng(tmp_path / f"{name}.dng", pixels, pattern, black=levels))
        assert meta.black == levels, name
        assert (image == 0).all()


def test_the_pattern_begins_at_the_first_visible_pixel(tmp_path: Path) -> None:
    pixels = numbers()
    image, meta = isp.read_raw(dng(tmp_path / "a.dng", pixels, BAYER["GRBG"], area=(4, 6, 64, 90)))
    assert meta.active_area == (4, 6, 64, 90)
    assert meta.cfa == BAYER["GRBG"]
    assert image.shape == (60, 84)
    assert np.allclose(image * (WHITE - BLACK) + BLACK, pixels[4:64, 6:90], atol=0.01)


@pytest.mark.parametrize("area", [None, (6, 6, 66, 90), (3, 5, 63, 83)])
def test_x_trans_is_read_also_with_an_odd_border(tmp_path: Path, area: Any) -> None:
    pixels = numbers()
    image, meta = isp.read_raw(dng(tmp_path / "a.dng", pixels, X_TRANS, area=area))
    assert meta.cfa == X_TRANS
    top, left, bottom, right = area or (0, 0, *SHAPE)
    assert np.allclose(image * (WHITE - BLACK) + BLACK, pixels[top:bottom, left:right], atol=0.01)


def test_monochrome_is_a_mosaic_of_one_colour(tmp_path: Path) -> None:
    pixels = numbers()
    image, meta = isp.read_raw(dng(tmp_path / "a.dng", pixels))
    assert (meta.cfa, meta.wb, meta.xyz_to_cam, meta.is_monochrome) == (MONOCHROME, (1.0, 1.0, 1.0), None, True)
    assert np.allclose(image * (WHITE - BLACK) + BLACK, pixels, atol=0.01)


def test_a_linear_dng_is_camera_rgb(tmp_path: Path) -> None:
    pixels = numbers((*SHAPE, 3))
    image, meta = isp.read_raw(dng(tmp_path / "a.dng", pixels))
    assert (meta.domain, meta.cfa) == ("camera_rgb", None)
    assert image.shape == (*SHAPE, 3)
    assert np.allclose(image * (WHITE - BLACK) + BLACK, pixels, atol=0.01)


def test_the_description_is_the_files(tmp_path: Path) -> None:
    path = dng(tmp_path / "a.dng", numbers(), BAYER["RGGB"], noise=(1e-4, 2e-7), orientation=6)
    with_exif(path)
    meta = isp.read_raw(path).meta
    assert meta.wb == pytest.approx((1 / NEUTRAL[0], 1.0, 1 / NEUTRAL[2]), rel=1e-4)
    assert not meta.wb_applied
    assert meta.orientation == 6
    assert meta.noise == isp.NoiseProfile((1e-4,) * 3, (2e-7,) * 3, "DNG")
    assert (meta.iso, meta.exposure_time) == (800.0, pytest.approx(0.02))
    assert meta.camera == "Testcam One"
    assert meta.source == str(path)
    assert meta.xyz_to_cam is not None
    assert meta.xyz_to_cam[0][0] == pytest.approx(0.6461)


def test_a_noise_profile_may_have_a_pair_for_each_colour(tmp_path: Path) -> None:
    pairs = (1e-4, 1e-7, 2e-4, 2e-7, 3e-4, 3e-7)
    noise = isp.read_raw(dng(tmp_path / "a.dng", numbers(), BAYER["RGGB"], noise=pairs)).meta.noise
    assert noise == isp.NoiseProfile((1e-4, 2e-4, 3e-4), (1e-7, 2e-7, 3e-7), "DNG")


@pytest.mark.parametrize("pairs", [(0.0, 0.0), (1e-4,), (-1.0, 1.0)])
def test_a_noise_profile_that_says_nothing_is_none(tmp_path: Path, pairs: tuple[float, ...]) -> None:
    assert isp.read_raw(dng(tmp_path / "a.dng", numbers(), BAYER["RGGB"], noise=pairs)).meta.noise is None


def test_the_frame_outlives_the_file(tmp_path: Path) -> None:
    path = dng(tmp_path / "a.dng", numbers(), BAYER["RGGB"])
    frames = [isp.read_raw(path).image for _ in range(3)]
    with rawpy.imread(str(path)) as raw:  # takes the memory that the first ones gave back
        raw.raw_image[:] = 0
        assert all((frame == frames[0]).all() for frame in frames)


@pytest.mark.parametrize("compression", ["jpegxl", "deflate", "lzw"])
@pytest.mark.parametrize("pattern", [BAYER["GBRG"], None])
def test_compressions_that_libraw_lacks_are_decoded(tmp_path: Path, compression: str, pattern: Any) -> None:
    pixels = numbers() if pattern else numbers((*SHAPE, 3))
    plain = isp.read_raw(dng(tmp_path / "plain.dng", pixels, pattern))
    if compression == "jpegxl":
        pytest.importorskip("imagecodecs").JPEGXL.available or pytest.skip("imagecodecs was built without JPEG XL")
    how: Any = {"jpegxl": 52546}.get(compression, compression)
    image, meta = isp.read_raw(dng(tmp_path / "a.dng", pixels, pattern, compression=how))
    assert (image == plain.image).all()
    assert (meta.cfa, meta.black, meta.white, meta.wb) == (
        plain.meta.cfa,
        plain.meta.black,
        plain.meta.white,
        plain.meta.wb,
    )


def test_a_linearization_table_is_applied_to_what_libraw_could_not_decode(tmp_path: Path) -> None:
    pixels = numbers(bits=8)
    table = (np.arange(256) ** 2 // 16).astype(np.uint16)
    tag = ((50712, 3, 256, table.tobytes(), True),)
    path = dng(tmp_path / "a.dng", pixels, BAYER["RGGB"], compression="deflate", extra=tag)
    image, meta = isp.read_raw(path)
    assert (cfa.from_unit(image, meta.cfa, meta.black, meta.white) == table[pixels]).all()


class TestRefusals:
    """One line that names the file, and says what is wrong."""

    def check(self, path: Path, text: str) -> None:
        with pytest.raises(InputError, match=text) as caught:
            isp.read_raw(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_missing_file(self, tmp_path: Path) -> None:
        self.check(tmp_path / "a.dng", "does not exist")

    def test_a_folder(self, tmp_path: Path) -> None:
        self.check(tmp_path, "is a folder")

    def test_an_empty_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.nef").touch()
        self.check(tmp_path / "a.nef", "is empty")

    def test_text(self, tmp_path: Path) -> None:
        (tmp_path / "a.nef").write_text("not a photograph at all " * 50)
        self.check(tmp_path / "a.nef", "is no camera RAW file")

    def test_a_picture(self, tmp_path: Path) -> None:
        import tifffile

        tifffile.imwrite(tmp_path / "a.tif", np.zeros((20, 20, 3), np.uint8), photometric="rgb")
        self.check(tmp_path / "a.tif", "is no camera RAW file")

    @pytest.mark.parametrize("kept", [60, 400, 3000, -20])
    def test_a_file_that_is_cut_off(self, tmp_path: Path, kept: int) -> None:
        whole = dng(tmp_path / "whole.dng", numbers(), BAYER["RGGB"]).read_bytes()
        (tmp_path / "a.dng").write_bytes(whole[:kept])
        self.check(tmp_path / "a.dng", "damaged|cut off|no camera RAW")

    def test_a_foveon_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.x3f").write_bytes(b"FOVb" + bytes(2000))
        self.check(tmp_path / "a.x3f", "Foveon sensor, which is not supported")

    def test_random_bytes_behind_a_tiff_signature(self, tmp_path: Path) -> None:
        (tmp_path / "a.dng").write_bytes(b"II*\0" + np.random.default_rng(0).bytes(4000))
        self.check(tmp_path / "a.dng", "damaged|cut off|no camera RAW")

    def test_a_compression_that_nobody_decodes(self, tmp_path: Path) -> None:
        path = dng(tmp_path / "a.dng", numbers(), BAYER["RGGB"])
        content = path.read_bytes()
        entry = content.index(b"\x03\x01\x03\x00\x01\x00\x00\x00\x01\x00")
        path.write_bytes(content[: entry + 8] + b"\x39\x30" + content[entry + 10 :])
        self.check(path, "no camera RAW file|neither LibRaw nor tifffile can decode")


def test_a_file_that_even_as_a_plain_dng_cannot_be_read_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from restonnx.isp import libraw

    def refuse(source: Any) -> Any:
        raise rawpy.LibRawFileUnsupportedError(b"Unsupported file format or not RAW file")

    monkeypatch.setattr(libraw, "_unpacked", refuse)
    with pytest.raises(InputError, match=r"a\.dng cannot be read by LibRaw \(Unsupported file format"):
        isp.read_raw(dng(tmp_path / "a.dng", numbers(), BAYER["RGGB"]))


def test_looking_for_a_matrix_in_use_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    from restonnx.isp import libraw

    with libraw.opened(dng(tmp_path / "a.dng", numbers(), BAYER["RGGB"])) as raw:
        before, size = libraw.visible(raw).copy(), raw.sizes.height
        libraw._matrix_in_use(raw)
        assert (libraw.visible(raw) == before).all()
        assert raw.sizes.height == size
