"""TIFF files keep what ImageJ, OME, cameras and people have written into them."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from restonnx import images
from restonnx.images import Picture, Resolution

Noise = Callable[..., np.ndarray]


def again(path: Path, picture: Picture | None = None) -> Path:
    """Read the file (unless its picture is given), write the picture beside it, and return the new path."""
    copy = path.with_name(f"copy_{path.name}")
    images.write(copy, picture or images.read(path))
    return copy


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


def test_a_broken_exif_does_not_keep_the_pixels_from_being_written(tmp_path: Path, noise: Noise) -> None:
    images.write(tmp_path / "a.tif", Picture(noise(20, 30), "YX", exif=b"no EXIF at all"))
    assert images.read(tmp_path / "a.tif").exif is None


def test_text_beyond_ascii_in_exif_is_kept(tmp_path: Path, rich: Picture) -> None:
    images.write(tmp_path / "a.tif", rich)
    images.write(tmp_path / "b.tif", images.read(tmp_path / "a.tif"))
    exif = images.read(tmp_path / "b.tif").exif
    assert exif is not None
    assert "Ansel Ångström".encode() in exif


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


@pytest.mark.parametrize("point", [False, True])
def test_a_result_of_another_size_lies_at_the_same_place_on_the_earth(
    tmp_path: Path, noise: Noise, point: bool
) -> None:
    keys = (1, 1, 0, 1, 1025, 0, 1, 2 if point else 1)
    matrix = np.array([[9.0, 1, 0, 5000], [2, -8, 0, 7000], [0, 0, 0, 0], [0, 0, 0, 1]])
    tags = [
        (33550, 12, 3, (10.0, 12.0, 0.0), True),
        (33922, 12, 12, (0.0, 0, 0, 5000, 7000, 0, 30, 20, 0, 5300, 6760, 0), True),
        (34264, 12, 16, tuple(matrix.reshape(-1)), True),
        (34735, 3, len(keys), keys, True),
    ]
    tifffile.imwrite(tmp_path / "a.tif", noise(20, 30), metadata=None, extratags=tags)
    images.write(tmp_path / "b.tif", replace(images.read(tmp_path / "a.tif"), pixels=noise(60, 60)))
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        scale, ties, new, kept = (file.pages[0].tags[code].value for code in (33550, 33922, 34264, 34735))
    assert scale == (5, 4, 0)
    assert tuple(kept) == keys
    # The first pixel's corner is (0, 0) where the raster is of areas, and (-0.5, -0.5) where it is of points.
    corner = np.array([-0.5, -0.5]) if point else np.zeros(2)
    for tie, old in zip(np.reshape(ties, (2, 6)), [(0, 0), (30, 20)], strict=True):
        np.testing.assert_allclose(tie[:2] - corner, (np.array(old) - corner) * (2, 3))
    for old in [(0, 0), (30, 0), (7, 20)]:
        place = (np.array(old) - corner) * (2, 3) + corner
        np.testing.assert_allclose(np.reshape(new, (4, 4)) @ (*place, 0, 1), matrix @ (*old, 0, 1))


def test_a_packet_that_was_stored_as_text_is_read(tmp_path: Path, noise: Noise) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(20, 30), metadata=None, extratags=[(700, 2, 0, "<x:xmpmeta/>", True)])
    assert images.read(tmp_path / "a.tif").xmp == b"<x:xmpmeta/>"


def test_a_result_of_twice_the_size_is_as_wide_in_inches(tmp_path: Path, rich: Picture) -> None:
    picture = replace(rich, pixels=np.zeros((48, 60, 3), np.uint8))
    images.write(tmp_path / "a.tif", picture)
    back = images.read(tmp_path / "a.tif")
    assert back.resolution == Resolution(Fraction(600), Fraction(600), "inch")
    assert rich.alpha is not None
    np.testing.assert_array_equal(back.alpha, rich.alpha.repeat(2, 0).repeat(2, 1))
