"""TIFF files keep pixels, axes, calibration, compression and tags."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from restonnx import images
from restonnx.errors import InputError
from restonnx.images import Picture, Resolution, tiff

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


def test_imagej_calibration_labels_and_colours_are_kept(tmp_path: Path, noise: Noise) -> None:
    red = np.zeros((3, 256), np.uint8)
    red[0] = np.arange(256)
    metadata = {"axes": "ZYX", "spacing": 0.5, "unit": "um", "finterval": 0.1, "Info": "a = 1\nb = 2"}
    metadata |= {"Labels": ["low", "high"], "Ranges": (3.0, 900.0), "LUTs": [red], "min": 3.0, "max": 900.0}
    pixels = noise(2, 20, 30, dtype="uint16")
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, imagej=True, metadata=metadata, resolution=(9.25, 9.25), resolutionunit=1
    )
    with tifffile.TiffFile(again(tmp_path / "a.tif")) as file:
        kept = dict(file.imagej_metadata or {})
        assert file.pages[0].tags["XResolution"].value[0] / file.pages[0].tags["XResolution"].value[1] == 9.25
    np.testing.assert_array_equal(kept.pop("LUTs"), red)
    for key in ("spacing", "unit", "finterval", "Info", "Labels", "Ranges", "min", "max"):
        assert kept[key] == metadata[key], key


def test_a_float64_or_32_bit_result_of_an_imagej_file_is_no_longer_imagej_but_keeps_its_axes(
    tmp_path: Path, noise: Noise
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(2, 20, 30), imagej=True, metadata={"axes": "TYX"})
    picture = replace(images.read(tmp_path / "a.tif"), pixels=noise(2, 20, 30, dtype="float64"))
    back = images.read(again(tmp_path / "a.tif", picture))
    assert (back.axes, back.pixels.dtype) == ("TYX", np.float64)


def test_ome_keeps_instrument_channels_and_calibration_for_a_result_of_twice_the_size(
    tmp_path: Path, noise: Noise
) -> None:
    metadata = {
        "axes": "CZYX",
        "PhysicalSizeX": 0.2,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 0.2,
        "PhysicalSizeZ": 1.5,
        "Channel": {"Name": ["DAPI", "GFP"]},
        "Description": "Ångström & co",
        "SignificantBits": 12,
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", noise(2, 3, 20, 30, dtype="uint16"), metadata=metadata)
    picture = images.read(tmp_path / "a.ome.tif")
    pixels = noise(2, 3, 40, 60, dtype="float32")
    copy = again(tmp_path / "a.ome.tif", replace(picture, pixels=pixels))
    with tifffile.TiffFile(copy) as file:
        assert (file.series[0].axes, file.series[0].shape) == ("CZYX", (2, 3, 40, 60))
        xml = file.ome_metadata or ""
    described = tifffile.xml2dict(xml)["OME"]["Image"]
    channels = [channel["Name"] for channel in described["Pixels"]["Channel"]]
    assert channels == ["DAPI", "GFP"]
    assert described["Description"] == "Ångström & co"
    assert described["Pixels"]["PhysicalSizeX"] == pytest.approx(0.1)
    assert described["Pixels"]["PhysicalSizeZ"] == 1.5
    assert (described["Pixels"]["Type"], described["Pixels"]["SizeX"]) == ("float", 60)
    assert "SignificantBits" not in described["Pixels"]
    np.testing.assert_array_equal(images.read(copy).pixels, pixels)


def test_a_name_in_ome_tif_makes_an_ome_file(tmp_path: Path, noise: Noise) -> None:
    images.write(tmp_path / "a.ome.tif", Picture(noise(3, 20, 30), "ZYX"))
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert file.is_ome
        assert file.series[0].axes == "ZYX"


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_camera_exif_place_and_profile_are_kept(
    tmp_path: Path, noise: Noise, rich: Picture, byteorder: str, big: bool
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(24, 30, 3), byteorder=byteorder, bigtiff=big)
    native = images.read(tmp_path / "a.tif").native
    images.write(tmp_path / "b.tif", replace(rich, native=native))
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        tags = file.pages[0].tags
        assert (tags["Make"].value, tags["Orientation"].value) == ("Maker", 6)
        assert tags["ExifTag"].value["ExposureTime"] == pytest.approx(0.01)
        assert tags["GPSTag"].value["GPSLatitudeRef"] == "N"
        assert file.byteorder == byteorder
    back = images.read(tmp_path / "b.tif")
    assert (back.icc, back.xmp, back.resolution) == (rich.icc, rich.xmp, rich.resolution)
    if not big:
        images.write(tmp_path / "c.tif", back)
        assert images.read(tmp_path / "c.tif").exif == back.exif


def test_exif_goes_from_jpeg_through_tiff_to_jpeg(tmp_path: Path, rich: Picture) -> None:
    images.write(tmp_path / "a.jpg", replace(rich, alpha=None))
    images.write(tmp_path / "b.tif", images.read(tmp_path / "a.jpg"))
    images.write(tmp_path / "c.jpg", images.read(tmp_path / "b.tif"))
    with Image.open(tmp_path / "a.jpg") as first, Image.open(tmp_path / "c.jpg") as last:
        old, new = first.getexif(), last.getexif()
        assert dict(old) == dict(new) | {k: v for k, v in old.items() if k in (0x8769, 0x8825)}
        for directory in (0x8769, 0x8825):
            assert old.get_ifd(directory) == new.get_ifd(directory)


def test_exif_is_kept_for_every_page_count(tmp_path: Path, noise: Noise, exif: bytes) -> None:
    pixels = noise(4, 20, 30)
    images.write(tmp_path / "a.tif", Picture(pixels, "ZYX", exif=exif))
    back = images.read(tmp_path / "a.tif")
    np.testing.assert_array_equal(back.pixels, pixels)
    with Image.open(tmp_path / "a.tif") as image:
        assert image.n_frames == 4
        assert image.getexif().get_ifd(0x8769)[0x9003] == "2024:05:06 07:08:09"


def test_description_captions_and_geography_of_a_plain_file_are_kept(tmp_path: Path, noise: Noise) -> None:
    tags = [
        (33550, 12, 3, (2.0, 2.0, 0.0), True),
        (33723, 1, 6, b"\x1c\x02x\0\x01a", True),
        (34377, 1, 8, b"8BIM\x04\x04\0\0", True),
    ]
    tifffile.imwrite(
        tmp_path / "a.tif",
        noise(20, 30),
        metadata=None,
        description="field 7",
        software="scope 1.2",
        extratags=tags,
    )
    with tifffile.TiffFile(tmp_path / "a.tif") as old, tifffile.TiffFile(again(tmp_path / "a.tif")) as new:
        for code in (270, 305, 33550, 33723, 34377):
            assert new.pages[0].tags[code].value == old.pages[0].tags[code].value, code


def test_lossy_compression_is_not_repeated(tmp_path: Path, noise: Noise) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(32, 32, 3), photometric="rgb", compression="jpeg")
    picture = images.read(tmp_path / "a.tif")
    copy = again(tmp_path / "a.tif", picture)
    np.testing.assert_array_equal(images.read(copy).pixels, picture.pixels)
    with tifffile.TiffFile(copy) as file:
        assert file.pages[0].compression.name == "ADOBE_DEFLATE"


def test_a_result_of_twice_the_size_is_as_wide_in_inches(tmp_path: Path, rich: Picture) -> None:
    picture = replace(rich, pixels=np.zeros((48, 60, 3), np.uint8))
    images.write(tmp_path / "a.tif", picture)
    back = images.read(tmp_path / "a.tif")
    assert back.resolution == Resolution(Fraction(600), Fraction(600), "inch")
    assert rich.alpha is not None
    np.testing.assert_array_equal(back.alpha, rich.alpha.repeat(2, 0).repeat(2, 1))


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
