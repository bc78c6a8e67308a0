"""JPEG and WebP files keep what their formats can keep."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from restonnx import images
from restonnx.errors import InputError
from restonnx.images import Picture

Noise = Callable[..., np.ndarray]
SMOOTH = (np.add.outer(np.arange(64), np.arange(80))[..., None] + np.array([0, 40, 90])).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_profile_exif_and_xmp_come_back_byte_for_byte(tmp_path: Path, rich: Picture, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    images.write(path, replace(rich, alpha=None))
    back = images.read(path)
    assert (back.icc, back.exif, back.xmp) == (rich.icc, rich.exif, rich.xmp)
    with Image.open(path) as image:
        assert image.getexif()[274] == 6
        assert image.getexif().get_ifd(0x8769)[0x829A] == 0.01


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_the_default_quality_is_close_to_the_pixels(tmp_path: Path, suffix: str) -> None:
    images.write(tmp_path / f"a{suffix}", Picture(SMOOTH, "YXS"))
    back = images.read(tmp_path / f"a{suffix}").pixels
    assert back.dtype == np.uint8
    assert np.abs(back.astype(int) - SMOOTH).mean() < 2


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_a_jpeg_keeps_its_chroma_subsampling(tmp_path: Path, noise: Noise, subsampling: int) -> None:
    Image.fromarray(noise(32, 32, 3)).save(tmp_path / "a.jpg", subsampling=subsampling, progressive=True)
    images.write(tmp_path / "b.jpg", images.read(tmp_path / "a.jpg"))
    with Image.open(tmp_path / "b.jpg") as image:
        assert isinstance(image, JpegImagePlugin.JpegImageFile)
        assert JpegImagePlugin.get_sampling(image) == subsampling
        assert image.info["progressive"]


def test_a_jpeg_keeps_comment_captions_and_resolution(tmp_path: Path, noise: Noise) -> None:
    captions = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x06\x1c\x02x\0\x01a"
    extra = b"\xff\xed" + (len(captions) + 2).to_bytes(2, "big") + captions
    Image.fromarray(noise(16, 16)).save(tmp_path / "a.jpg", comment="by hand", extra=extra, dpi=(240, 240))
    images.write(tmp_path / "b.jpg", images.read(tmp_path / "a.jpg"))
    assert captions in (tmp_path / "b.jpg").read_bytes()
    with Image.open(tmp_path / "b.jpg") as image:
        assert (image.mode, image.info["comment"], image.info["dpi"]) == ("L", b"by hand", (240, 240))


def test_a_profile_longer_than_one_segment_comes_back_whole(tmp_path: Path, noise: Noise) -> None:
    profile = noise(150_000).tobytes()
    images.write(tmp_path / "a.jpg", Picture(noise(8, 8, 3), "YXS", icc=profile))
    assert images.read(tmp_path / "a.jpg").icc == profile


def test_sixteen_bits_become_eight_with_rounding(tmp_path: Path) -> None:
    flat = np.full((16, 16), 128 * 257 + 100, np.uint16)
    images.write(tmp_path / "a.jpg", Picture(flat, "YX"))
    assert set(np.unique(images.read(tmp_path / "a.jpg").pixels)) == {128}


def test_a_jpeg_refuses_transparency_but_takes_opaque_alpha(tmp_path: Path, noise: Noise) -> None:
    pixels, alpha = noise(9, 9, 3), np.full((9, 9), 255, np.uint8)
    images.write(tmp_path / "a.jpg", Picture(pixels, "YXS", alpha))
    alpha = alpha.copy()
    alpha[4, 4] = 254
    with pytest.raises(InputError, match=r"b\.jpg cannot hold transparency; write \.png"):
        images.write(tmp_path / "b.jpg", Picture(pixels, "YXS", alpha))
    assert not (tmp_path / "b.jpg").exists()


def test_exif_too_long_for_a_jpeg_is_refused(tmp_path: Path, noise: Noise) -> None:
    with pytest.raises(InputError, match="cannot hold this picture"):
        images.write(tmp_path / "a.jpg", Picture(noise(4, 4), "YX", exif=b"II*\0" + bytes(70_000)))


def test_cmyk_is_refused(tmp_path: Path, noise: Noise) -> None:
    Image.fromarray(noise(8, 8, 4), "CMYK").save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="CMYK image; convert it to RGB"):
        images.read(tmp_path / "a.jpg")


def test_a_lossless_webp_stays_lossless_below_transparency_too(tmp_path: Path, noise: Noise) -> None:
    samples = noise(20, 21, 4)
    samples[:5, :, 3] = 0
    Image.fromarray(samples).save(tmp_path / "a.webp", lossless=True, exact=True)
    picture = images.read(tmp_path / "a.webp")
    images.write(tmp_path / "b.webp", picture)
    back = images.read(tmp_path / "b.webp")
    np.testing.assert_array_equal(back.with_alpha()[0], samples)


def test_a_lossy_webp_with_metadata_is_not_taken_for_lossless(tmp_path: Path, rich: Picture) -> None:
    images.write(tmp_path / "a.webp", replace(rich, alpha=None))
    big, small = tmp_path / "b.webp", tmp_path / "c.webp"
    picture = images.read(tmp_path / "a.webp")
    images.write(big, picture, quality=100)
    images.write(small, picture, quality=10)
    assert small.stat().st_size < big.stat().st_size


def test_a_grey_picture_becomes_rgb_in_webp(tmp_path: Path) -> None:
    images.write(tmp_path / "a.webp", Picture(SMOOTH[..., 0], "YX", np.full((64, 80), 200, np.uint8)))
    back = images.read(tmp_path / "a.webp")
    assert (back.axes, back.pixels.shape) == ("YXS", (64, 80, 3))
    assert back.alpha is not None
    assert abs(int(back.alpha.mean()) - 200) <= 1


def test_an_animated_webp_is_refused(tmp_path: Path, noise: Noise) -> None:
    first, second = (Image.fromarray(noise(8, 8, 3) // n) for n in (1, 2))
    first.save(tmp_path / "a.webp", save_all=True, append_images=[second])
    with pytest.raises(InputError, match="animation"):
        images.read(tmp_path / "a.webp")


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
@pytest.mark.parametrize("kept", [0.03, 0.5, 0.95])
def test_a_truncated_file_is_refused(tmp_path: Path, noise: Noise, suffix: str, kept: float) -> None:
    path = tmp_path / f"a{suffix}"
    images.write(path, Picture(noise(90, 90, 3), "YXS"))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(InputError, match="damaged or cut off"):
        images.read(path)


def test_a_photograph_beyond_pillows_bomb_limit_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images.write(tmp_path / "a.jpg", Picture(SMOOTH, "YXS"))
    images.write(tmp_path / "a.webp", Picture(SMOOTH, "YXS"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for name in ("a.jpg", "a.webp"):
        assert images.read(tmp_path / name).pixels.shape == SMOOTH.shape


def test_a_webp_beyond_the_formats_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.webp cannot hold this picture.*write \.tif"):
        images.write(tmp_path / "a.webp", Picture(np.zeros((1, 16400), np.uint8), "YX"))
