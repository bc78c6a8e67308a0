"""TIFF files keep their pixels, axes and form, and broken ones are refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from restonnx import images
from restonnx.errors import InputError
from restonnx.images import Picture, tiff

Noise = Callable[..., np.ndarray]
ALL_DTYPES = [
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int32",
    "float16",
    "float32",
    "float64",
]


def again(path: Path, picture: Picture | None = None) -> Path:
    """Read the file (unless its picture is given), write the picture beside it, and return the new path."""
    copy = path.with_name(f"copy_{path.name}")
    images.write(copy, picture or images.read(path))
    return copy


@pytest.mark.parametrize("dtype", ALL_DTYPES)
@pytest.mark.parametrize("options", [{}, {"compression": "lzw", "predictor": True}, {"compression": "zlib"}])
def test_every_dtype_comes_back_bit_exact(tmp_path: Path, noise: Noise, dtype: str, options: dict[str, Any]) -> None:
    pixels = noise(21, 34, dtype=dtype)
    if options.get("predictor"):
        options = options | {"predictor": {"f": 3}.get(pixels.dtype.kind, 2 if pixels.itemsize <= 4 else 1)}
    tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
    back = images.read(again(tmp_path / "a.tif"))
    assert back.pixels.dtype == pixels.dtype
    np.testing.assert_array_equal(back.pixels, pixels)


@pytest.mark.parametrize(
    ("shape", "options", "axes"),
    [
        ((5, 20, 30), {"metadata": {"axes": "ZYX"}}, "ZYX"),
        ((2, 3, 20, 30), {"metadata": {"axes": "TCYX"}, "photometric": "minisblack"}, "TCYX"),
        ((5, 20, 30), {"metadata": None}, "IYX"),
        ((5, 20, 30), {"imagej": True, "metadata": {"axes": "TYX"}}, "TYX"),
        ((4, 2, 20, 30), {"imagej": True, "metadata": {"axes": "ZCYX"}}, "ZCYX"),
        ((5, 20, 30), {"ome": True, "metadata": {"axes": "ZYX"}}, "ZYX"),
        ((2, 3, 4, 20, 30), {"ome": True, "metadata": {"axes": "CTZYX"}}, "CTZYX"),
        ((20, 30, 3), {"photometric": "rgb"}, "YXS"),
        ((3, 20, 30), {"photometric": "rgb", "planarconfig": "separate"}, "SYX"),
        ((4, 20, 30, 3), {"photometric": "rgb", "metadata": {"axes": "ZYXS"}}, "ZYXS"),
        ((20, 30, 5), {"photometric": "rgb", "extrasamples": [0, 0]}, "YXS"),
        ((20, 30), {"tile": (16, 32), "compression": "zstd"}, "YX"),
        ((20, 30), {"bigtiff": True, "byteorder": ">"}, "YX"),
    ],
)
def test_stacks_and_colours_keep_their_axes_and_the_form_of_the_file(
    tmp_path: Path, noise: Noise, shape: tuple[int, ...], options: dict[str, Any], axes: str
) -> None:
    pixels = noise(*shape, dtype="uint8" if "S" in axes else "uint16")
    tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
    picture = images.read(tmp_path / "a.tif")
    assert picture.axes == axes
    copy = again(tmp_path / "a.tif", picture)
    back = images.read(copy)
    assert back.axes == axes
    np.testing.assert_array_equal(back.pixels, pixels)
    with tifffile.TiffFile(tmp_path / "a.tif") as old, tifffile.TiffFile(copy) as new:
        for name in ("is_imagej", "is_ome", "is_shaped", "is_bigtiff", "byteorder"):
            assert getattr(new, name) == getattr(old, name), name
        for name in ("compression", "photometric", "planarconfig", "extrasamples", "is_tiled"):
            assert getattr(new.pages[0], name) == getattr(old.pages[0], name), name
        assert len(new.pages) == len(old.pages)


def test_a_planar_stack_with_alpha_comes_back_planar(tmp_path: Path, noise: Noise) -> None:
    pixels = noise(2, 4, 20, 30)
    options = {"photometric": "rgb", "planarconfig": "separate", "extrasamples": ["unassalpha"]}
    tifffile.imwrite(tmp_path / "a.tif", pixels, metadata={"axes": "ZSYX"}, **options)
    picture = images.read(tmp_path / "a.tif")
    assert (picture.axes, picture.pixels.shape) == ("ZSYX", (2, 3, 20, 30))
    np.testing.assert_array_equal(tifffile.imread(again(tmp_path / "a.tif", picture)), pixels)


@pytest.mark.parametrize("kind", ["assocalpha", "unassalpha", "unspecified"])
def test_alpha_stands_apart_and_keeps_its_kind(tmp_path: Path, noise: Noise, kind: str) -> None:
    samples = noise(20, 30, 4, dtype="uint16")
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extrasamples=[kind])
    picture = images.read(tmp_path / "a.tif")
    assert picture.pixels.shape == (20, 30, 3)
    assert picture.premultiplied is (kind == "assocalpha")
    np.testing.assert_array_equal(picture.alpha, samples[..., 3])
    copy = again(tmp_path / "a.tif", picture)
    np.testing.assert_array_equal(tifffile.imread(copy), samples)
    with tifffile.TiffFile(copy) as file:
        assert file.pages[0].extrasamples[0].name == kind.upper()


def test_premultiplied_colours_are_divided_for_a_png(tmp_path: Path) -> None:
    samples = np.array([[[50, 100, 0, 128], [7, 7, 7, 0], [9, 8, 7, 255]]], np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extrasamples=["assocalpha"])
    images.write(tmp_path / "a.png", images.read(tmp_path / "a.tif"))
    back = images.read(tmp_path / "a.png").pixels
    np.testing.assert_array_equal(back[0, [0, 2]], [[100, 199, 0], [9, 8, 7]])


def test_grey_with_alpha_comes_back(tmp_path: Path, noise: Noise) -> None:
    samples = noise(20, 30, 2)
    tifffile.imwrite(
        tmp_path / "a.tif",
        samples,
        photometric="minisblack",
        planarconfig="contig",
        extrasamples=["unassalpha"],
    )
    picture = images.read(tmp_path / "a.tif")
    assert (picture.axes, picture.alpha is None) == ("YX", False)
    np.testing.assert_array_equal(tifffile.imread(again(tmp_path / "a.tif", picture)), samples)


def test_where_zero_is_white_the_pixels_are_turned_and_turned_back(tmp_path: Path, noise: Noise) -> None:
    stored = noise(20, 30)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="miniswhite")
    picture = images.read(tmp_path / "a.tif")
    np.testing.assert_array_equal(picture.pixels, 255 - stored)
    copy = again(tmp_path / "a.tif", picture)
    np.testing.assert_array_equal(tifffile.imread(copy), stored)
    floats = again(copy, replace(picture, pixels=picture.pixels.astype(np.float32)))
    np.testing.assert_array_equal(images.read(floats).pixels, picture.pixels)


@pytest.mark.parametrize("dtype", ALL_DTYPES)
def test_every_dtype_of_a_picture_without_a_file_is_written(tmp_path: Path, noise: Noise, dtype: str) -> None:
    pixels = noise(3, 21, 34, 3, dtype=dtype)
    images.write(tmp_path / "a.tif", Picture(pixels, "ZYXS"))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), pixels)


def test_a_palette_becomes_rgb(tmp_path: Path, noise: Noise) -> None:
    image = Image.fromarray(noise(20, 30, 3)).quantize(16)
    image.save(tmp_path / "a.tif")
    picture = images.read(tmp_path / "a.tif")
    assert (picture.axes, picture.pixels.dtype) == ("YXS", np.uint8)
    np.testing.assert_array_equal(picture.pixels, np.asarray(image.convert("RGB")))
    np.testing.assert_array_equal(images.read(again(tmp_path / "a.tif", picture)).pixels, picture.pixels)


def test_axes_that_the_file_does_not_name_get_a_letter_each(tmp_path: Path, noise: Noise) -> None:
    pixels = noise(2, 2, 2, 20, 30)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack")
    picture = images.read(tmp_path / "a.tif")
    assert len(set(picture.axes)) == 5
    back = images.read(again(tmp_path / "a.tif", picture))
    assert back.axes == picture.axes
    np.testing.assert_array_equal(back.pixels, pixels)


@pytest.mark.parametrize("shape", [(1, 50), (50, 1), (1, 1), (1, 50, 3), (1, 20, 30), (2, 1, 50)])
@pytest.mark.parametrize("options", [{}, {"metadata": None}, {"imagej": True}, {"ome": True}])
def test_images_of_one_pixel_in_some_direction_come_back(
    tmp_path: Path, noise: Noise, shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    photometric = "rgb" if shape[-1] == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", noise(*shape), photometric=photometric, **options)
    picture = images.read(tmp_path / "a.tif")
    back = images.read(again(tmp_path / "a.tif", picture))
    assert back.axes == picture.axes
    np.testing.assert_array_equal(back.pixels, noise(*shape).reshape(picture.pixels.shape))


def test_an_ome_file_whose_other_half_is_missing_is_refused(tmp_path: Path, noise: Noise) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", noise(3, 20, 30), metadata={"axes": "ZYX"}, photometric="minisblack")
    data = (tmp_path / "a.ome.tif").read_bytes()
    (tmp_path / "a.ome.tif").write_bytes(data.replace(b'SizeZ="3"', b'SizeZ="5"'))
    with pytest.raises(InputError, match="pages that are missing"):
        images.read(tmp_path / "a.ome.tif")


def test_lossy_compression_is_not_repeated(tmp_path: Path, noise: Noise) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(32, 32, 3), photometric="rgb", compression="jpeg")
    picture = images.read(tmp_path / "a.tif")
    copy = again(tmp_path / "a.tif", picture)
    np.testing.assert_array_equal(images.read(copy).pixels, picture.pixels)
    with tifffile.TiffFile(copy) as file:
        assert file.pages[0].compression.name == "ADOBE_DEFLATE"


def test_a_large_uncompressed_stack_is_mapped_and_not_loaded(
    tmp_path: Path, noise: Noise, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = noise(5, 20, 30, dtype="uint16")
    tifffile.imwrite(tmp_path / "a.tif", pixels, imagej=True, byteorder=">")
    monkeypatch.setattr(tiff, "MAPPED_BYTES", 1000)
    picture = images.read(tmp_path / "a.tif")
    assert isinstance(picture.pixels, np.memmap)
    np.testing.assert_array_equal(picture.pixels, pixels)
    np.testing.assert_array_equal(tifffile.imread(again(tmp_path / "a.tif", picture)), pixels)


def test_a_large_image_behind_its_thumbnail_is_the_one_that_is_mapped(
    tmp_path: Path, noise: Noise, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = noise(100, 120)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(noise(10, 12), metadata=None, subfiletype=1)
        file.write(pixels, metadata=None)
    monkeypatch.setattr(tiff, "MAPPED_BYTES", 100)
    picture = images.read(tmp_path / "a.tif")
    assert isinstance(picture.pixels, np.memmap)
    np.testing.assert_array_equal(picture.pixels, pixels)


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.99])
@pytest.mark.parametrize(
    "options",
    [{}, {"metadata": None}, {"imagej": True}, {"compression": "zlib"}, {"bigtiff": True, "tile": (16, 16)}],
)
def test_a_truncated_stack_is_refused_and_never_taken_for_a_shorter_one(
    tmp_path: Path, noise: Noise, options: dict[str, Any], kept: float
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(6, 40, 50, dtype="uint16"), **options)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(InputError, match=r"a\.tif is damaged or cut off"):
        images.read(path)


def test_pages_that_form_a_loop_are_refused(tmp_path: Path, noise: Noise) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(20, 30), metadata=None)
    data = bytearray(path.read_bytes())
    first = int.from_bytes(data[4:8], "little")
    behind = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    data[behind : behind + 4] = data[4:8]
    path.write_bytes(data)
    with pytest.raises(InputError, match="loop"):
        images.read(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"photometric": "cfa"}, "camera raw"),
        ({"photometric": "separated", "shape": (20, 30, 4)}, "SEPARATED colours; convert it to RGB"),
        ({"photometric": "ycbcr", "shape": (20, 30, 3)}, "YCbCr colours without JPEG"),
        ({"dtype": "complex64"}, "complex64 pixels"),
        ({"dtype": "bool"}, "bool pixels"),
    ],
)
def test_what_is_no_developed_image_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    options = dict(options)
    pixels = np.zeros(options.pop("shape", (20, 30)), options.pop("dtype", "uint8"))
    tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
    with pytest.raises(InputError, match=message):
        images.read(tmp_path / "a.tif")


def test_several_images_of_different_sizes_are_refused_but_thumbnails_are_not(tmp_path: Path, noise: Noise) -> None:
    for kind, second in (("pages", 0), ("thumbnail", 1)):
        with tifffile.TiffWriter(tmp_path / f"{kind}.tif") as file:
            file.write(noise(40, 60), metadata=None)
            file.write(noise(17, 20), metadata=None, subfiletype=second)
    with pytest.raises(InputError, match="holds 2 images of their own"):
        images.read(tmp_path / "pages.tif")
    assert images.read(tmp_path / "thumbnail.tif").pixels.shape == (40, 60)
