"""PNG files keep their pixels bit for bit, and all that is said about them."""

import dataclasses
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, PngImagePlugin

from restonnx import images
from restonnx.errors import InputError
from restonnx.images import Picture

Noise = Callable[..., np.ndarray]


@given(
    samples=st.sampled_from(["uint8", "uint16"]).flatmap(
        lambda dtype: hnp.arrays(dtype, st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3])))
    ),
    with_alpha=st.booleans(),
)
def test_pixels_and_alpha_of_8_and_16_bits_come_back_bit_exact(
    tmp_path_factory: pytest.TempPathFactory, samples: np.ndarray, with_alpha: bool
) -> None:
    path = tmp_path_factory.mktemp("png") / "a.png"
    pixels = samples if samples.shape[-1] == 3 else samples[..., 0]
    alpha = samples[::-1, :, 0] if with_alpha else None
    images.write(path, Picture(pixels, "YXS"[: pixels.ndim], alpha))
    back = images.read(path)
    assert (back.axes, back.pixels.dtype) == ("YXS"[: pixels.ndim], samples.dtype)
    np.testing.assert_array_equal(back.pixels, pixels)
    assert (back.alpha is None) is not with_alpha
    if back.alpha is not None:
        np.testing.assert_array_equal(back.alpha, alpha)


def test_profile_exif_xmp_and_resolution_come_back_byte_for_byte(tmp_path: Path, rich: Picture) -> None:
    images.write(tmp_path / "a.png", rich)
    back = images.read(tmp_path / "a.png")
    assert (back.icc, back.exif, back.xmp) == (rich.icc, rich.exif, rich.xmp)
    assert back.resolution is not None
    dots = back.resolution.per("inch")
    assert dots is not None
    assert round(dots[0]) == 300


def test_other_programs_see_the_profile_and_the_exif(tmp_path: Path, rich: Picture) -> None:
    images.write(tmp_path / "a.png", rich)
    with Image.open(tmp_path / "a.png") as image:
        image.load()
        assert image.info["icc_profile"] == rich.icc
        assert image.getexif()[271] == "Maker"
        assert image.info["xmp"] == rich.xmp


def test_text_gamma_and_time_of_the_file_are_kept_and_its_palette_is_not(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "the left one")
    text.add_itxt("Title", "Größe", "de", "Titel")
    text.add(b"gAMA", struct.pack(">I", 45455))
    text.add(b"tIME", struct.pack(">H5B", 2024, 1, 2, 3, 4, 5))
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).convert("P")
    image.save(tmp_path / "a.png", pnginfo=text, transparency=3)
    picture = images.read(tmp_path / "a.png")
    assert picture.axes == "YXS"
    assert picture.alpha is not None
    images.write(tmp_path / "b.png", picture)
    with Image.open(tmp_path / "b.png") as back:
        assert back.mode == "RGBA"
        assert (back.info["Comment"], back.info["Title"]) == ("the left one", "Größe")
        assert back.info["gamma"] == pytest.approx(0.45455)
    assert b"PLTE" not in (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_kind_of_png_is_read_as_pillow_reads_it(tmp_path: Path, noise: Noise, mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(noise(8, 9, dtype="uint16"))
    else:
        image = Image.fromarray(noise(8, 9, 3)).convert(mode)
    image.save(tmp_path / "a.png")
    picture = images.read(tmp_path / "a.png")
    expected = image.convert("L") if mode == "1" else image.convert("RGB") if mode == "P" else image
    np.testing.assert_array_equal(picture.with_alpha()[0], np.asarray(expected))


def test_compressed_xmp_is_read(tmp_path: Path, noise: Noise, xmp: bytes) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp.decode(), zip=True)
    Image.fromarray(noise(4, 4)).save(tmp_path / "a.png", pnginfo=text)
    assert images.read(tmp_path / "a.png").xmp == xmp


def test_wider_dtypes_are_scaled_to_16_bits(tmp_path: Path) -> None:
    for pixels in (np.array([[0, 0.25, 1.1]]), np.array([[0, 2**30, 2**32 - 1]], np.uint32)):
        images.write(tmp_path / "a.png", Picture(pixels, "YX"), overwrite=True)
        np.testing.assert_array_equal(images.read(tmp_path / "a.png").pixels, [[0, 16384, 65535]])


@pytest.mark.parametrize(
    ("pixels", "axes", "message"),
    [
        (np.zeros((2, 5, 5), np.uint8), "ZYX", "stack.*write .tif"),
        (np.zeros((5, 5, 5), np.uint8), "YXS", "stack.*write .tif"),
        (np.zeros((5, 5), np.int16), "YX", "int16 pixels; write .tif"),
        (np.full((5, 5), 4000.0), "YX", "0 to 1, but these run from 4000"),
        (np.full((5, 5), np.nan), "YX", "0 to 1"),
    ],
)
def test_what_a_png_cannot_hold_is_refused_and_nothing_is_written(
    tmp_path: Path, pixels: np.ndarray, axes: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        images.write(tmp_path / "a.png", Picture(pixels, axes))
    assert list(tmp_path.iterdir()) == []


def test_axes_of_length_one_and_any_order_of_axes_are_no_stack(tmp_path: Path, noise: Noise) -> None:
    pixels = noise(1, 3, 6, 5)
    images.write(tmp_path / "a.png", Picture(pixels, "TSXY"))
    np.testing.assert_array_equal(images.read(tmp_path / "a.png").pixels, pixels[0].transpose(2, 1, 0))


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_png_is_refused(tmp_path: Path, noise: Noise, kept: float) -> None:
    path = tmp_path / "a.png"
    images.write(path, Picture(noise(60, 60, 3), "YXS"))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(InputError, match=r"a\.png is damaged or cut off"):
        images.read(path)


def test_a_changed_byte_within_the_pixels_is_noticed(tmp_path: Path, noise: Noise) -> None:
    path = tmp_path / "a.png"
    images.write(path, Picture(noise(60, 60, 3), "YXS"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        images.read(path)


@pytest.mark.parametrize("profile", [zlib.compress(bytes(1 << 27)), b"no zlib at all"])
def test_a_profile_that_inflates_without_end_or_not_at_all_is_refused(
    tmp_path: Path, noise: Noise, profile: bytes
) -> None:
    data = imagecodecs.png_encode(noise(4, 4))
    content = b"bomb\0\0" + profile
    chunk = struct.pack(">I", len(content)) + b"iCCP" + content
    chunk += struct.pack(">I", zlib.crc32(b"iCCP" + content))
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    with pytest.raises(InputError, match=r"a\.png is damaged"):
        images.read(tmp_path / "a.png")


def test_an_animation_is_refused(tmp_path: Path, noise: Noise) -> None:
    first, second = Image.fromarray(noise(5, 5)), Image.fromarray(noise(5, 5) // 2)
    first.save(tmp_path / "a.png", save_all=True, append_images=[second])
    with pytest.raises(InputError, match="animation"):
        images.read(tmp_path / "a.png")


def test_a_result_of_another_dtype_and_twice_the_size_takes_alpha_along(tmp_path: Path, rich: Picture) -> None:
    pixels = np.linspace(0, 1, 48 * 60 * 3, dtype=np.float32).reshape(48, 60, 3)
    images.write(tmp_path / "a.png", dataclasses.replace(rich, pixels=pixels))
    back = images.read(tmp_path / "a.png")
    assert back.alpha is not None
    assert rich.alpha is not None
    assert back.pixels.dtype == np.uint16
    np.testing.assert_array_equal(back.alpha, rich.alpha.repeat(2, 0).repeat(2, 1).astype(np.uint16) * 257)
