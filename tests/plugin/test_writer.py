"""Layers as TIFF and PNG: every value, the axes, the scale and its units are read back from the files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from restonnx import InputError, images
from restonnx.plugin.writer import write_png, write_tiff

pytest.importorskip("pint", reason="pint comes with napari")

Drive = Callable[[Any], Any]
MICRON = ("micrometer",) * 3
RECORD = {"model": "denoise", "seed": 3, "strength": 0.5}


def values(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> Any:
    """Random, over all of an integer's range, beyond 0 and 1 of a float."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(0, 3, shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


def about(**more: Any) -> dict[str, Any]:
    return {"name": "layer", "rgb": False, "multiscale": False, "metadata": {}, **more}


def test_a_stack_becomes_what_imagej_reads_with_its_calibration(tmp_path: Path) -> None:
    stack = values((4, 20, 30), np.uint16)
    place = {"scale": (0.5, 0.25, 0.2), "translate": (1, 0, -2), "units": MICRON, "axis_labels": ("z", "y", "x")}
    meta = about(**place, contrast_limits=(100, 4000), metadata={"restonnx": RECORD, "other": object()})
    assert write_tiff(str(tmp_path / "a.tif"), stack, meta) == [str(tmp_path / "a.tif")]
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.series[0].axes == "ZYX"
        assert np.array_equal(tiff.asarray(), stack)
        found = tiff.imagej_metadata
        assert (found["unit"], found["spacing"]) == ("um", 0.5)
        assert (found["min"], found["max"]) == (100, 4000)
        assert (found["zorigin"], found["xorigin"]) == (-2, 10)
        assert json.loads(found["Info"]) == {"restonnx": RECORD}
        wide, tall = (np.divide(*tiff.pages[0].tags[code].value) for code in (282, 283))
    assert (1 / wide, 1 / tall) == pytest.approx((0.2, 0.25))


def test_lengths_of_several_units_are_told_in_one(tmp_path: Path) -> None:
    place = {"scale": (0.002, 250, 200), "units": ("millimeter", "nanometer", "nanometer")}
    write_tiff(str(tmp_path / "a.tif"), values((4, 20, 30), np.float32), about(**place))
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert (tiff.imagej_metadata["unit"], tiff.imagej_metadata["spacing"]) == ("nm", pytest.approx(2000))


def test_a_time_series_of_stacks_is_ome_where_its_name_says_so(tmp_path: Path) -> None:
    series = values((2, 3, 20, 30), np.uint16)
    place = {"scale": (10, 0.5, 0.25, 0.2), "units": ("second", *MICRON), "translate": (0, 0, 7, 8)}
    write_tiff(str(tmp_path / "a.ome.tif"), series, about(**place))
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tiff:
        assert tiff.series[0].axes == "TZYX"
        assert np.array_equal(tiff.asarray(), series)
        pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
    assert [pixels[f"PhysicalSize{letter}"] for letter in "ZYX"] == [0.5, 0.25, 0.2]
    assert {pixels[f"PhysicalSize{letter}Unit"] for letter in "ZYX"} == {"µm"}
    assert pixels["TimeIncrement"] == 10
    assert len(pixels["Plane"]) == 6
    assert pixels["Plane"][0]["PositionX"] == 8


@pytest.mark.parametrize(
    ("shape", "dtype", "rgb", "kind"),
    [
        ((20, 30), np.uint8, False, "plain"),
        ((20, 30), np.float64, False, "plain"),
        ((20, 30, 3), np.uint16, True, "plain"),
        ((20, 30, 4), np.uint8, True, "plain"),
        ((5, 20, 30), np.float32, False, "imagej"),
        ((5, 20, 30, 3), np.uint8, True, "imagej"),
        ((5, 20, 30, 3), np.uint16, True, "ome"),
        ((5, 20, 30, 4), np.uint16, True, "ome"),
        ((2, 3, 4, 20, 30), np.int16, False, "ome"),
        ((5, 20, 3), np.float64, False, "ome"),
        ((5, 20, 30), np.int64, False, "shaped"),
        ((2, 2, 2, 2, 20, 30), np.uint8, False, "shaped"),
    ],
)
def test_every_value_of_every_kind_of_layer_is_kept(
    tmp_path: Path, shape: tuple[int, ...], dtype: Any, rgb: bool, kind: str
) -> None:
    pixels = values(shape, dtype)
    write_tiff(str(tmp_path / "a.tif"), pixels, about(rgb=rgb))
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        kinds = {"imagej": tiff.is_imagej, "ome": tiff.is_ome, "shaped": tiff.is_shaped}
        assert {name for name, there in kinds.items() if there} == {kind} - {"plain"}
        assert tiff.pages[0].photometric.name == ("RGB" if rgb else "MINISBLACK")
        read = tiff.asarray()
    assert read.dtype == dtype
    assert np.array_equal(read, pixels)
    if kind != "shaped":
        again = images.read(tmp_path / "a.tif")
        assert again.pixels.dtype == dtype
        assert (again.alpha is not None) == (rgb and shape[-1] == 4)


def test_masks_half_floats_and_multiscale_layers_are_written_as_others_read_them(tmp_path: Path) -> None:
    mask, half = values((20, 30), np.uint8) > 99, values((20, 30), np.float16)
    write_tiff(str(tmp_path / "mask.tif"), mask, about())
    write_tiff(str(tmp_path / "half.tif"), half, about())
    write_tiff(str(tmp_path / "levels.tif"), [half, half[::2, ::2]], about(multiscale=True))
    assert np.array_equal(tifffile.imread(tmp_path / "mask.tif"), mask * 255)
    for name in ("half.tif", "levels.tif"):
        assert tifffile.imread(tmp_path / name).dtype == np.float32
        assert np.array_equal(tifffile.imread(tmp_path / name), half)


class OnDisk:
    """An array that may be read plane by plane alone."""

    shape, ndim, dtype = (3, 4, 20, 30), 4, np.dtype(np.uint16)

    def __getitem__(self, index: Any) -> Any:
        assert len(index) == 2
        return values((20, 30), np.uint16, seed=index[0] * 4 + index[1])

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("the whole array was asked for")


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_what_is_on_the_disk_is_written_plane_by_plane(tmp_path: Path, name: str) -> None:
    write_tiff(str(tmp_path / name), OnDisk(), about())
    read = tifffile.imread(tmp_path / name)
    assert read.shape == OnDisk.shape
    assert all(np.array_equal(read[t, z], OnDisk()[t, z]) for t in range(3) for z in range(4))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3), (20, 30, 4), (1, 20, 30)])
def test_png_keeps_8_and_16_bits_of_grey_colour_and_alpha(tmp_path: Path, shape: tuple[int, ...], dtype: Any) -> None:
    pixels, rgb = values(shape, dtype), shape[-1] < 5
    axes = len(shape) - rgb
    place = {"scale": (0.5,) * axes, "units": ("micrometer",) * axes}
    write_png(str(tmp_path / "a.png"), pixels, about(rgb=rgb, metadata={"restonnx": RECORD}, **place))
    read = images.read(tmp_path / "a.png")
    assert read.pixels.dtype == dtype
    whole = read.pixels if read.alpha is None else np.concatenate([read.pixels, read.alpha[..., None]], axis=-1)
    assert np.array_equal(whole, pixels.reshape(whole.shape))
    assert read.resolution.per("meter") == (2_000_000, 2_000_000)
    assert json.dumps(RECORD).encode() in (tmp_path / "a.png").read_bytes()


@pytest.mark.parametrize(
    ("pixels", "rgb", "text"),
    [
        (np.zeros((20, 30), np.float32), False, "this layer is float32: save it as .tif"),
        (np.zeros((20, 30), np.int32), False, "this layer is int32: save it as .tif"),
        (np.zeros((4, 20, 30), np.uint8), False, "this layer has 4: save it as .tif"),
        (np.zeros((4, 20, 30, 3), np.uint8), True, "this layer has 4: save it as .tif"),
    ],
)
def test_what_png_cannot_hold_is_refused_in_one_line(tmp_path: Path, pixels: Any, rgb: bool, text: str) -> None:
    with pytest.raises(InputError, match=text) as caught:
        write_png(str(tmp_path / "a.png"), pixels, about(rgb=rgb))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_complex_numbers_and_odd_axes_in_ome_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot hold complex64 pixels"):
        write_tiff(str(tmp_path / "a.tif"), np.zeros((20, 30), np.complex64), about())
    with pytest.raises(InputError, match=r"the axes YXZ of uint8 as OME-TIFF: save it as plain .tif"):
        write_tiff(str(tmp_path / "a.ome.tif"), np.zeros((9, 9, 9), np.uint8), about(axis_labels=("y", "x", "z")))
    assert not list(tmp_path.iterdir())


def test_a_suffix_is_added_and_then_nothing_is_replaced(tmp_path: Path) -> None:
    first, second = values((20, 30), np.uint8), values((20, 30), np.uint8, seed=1)
    assert write_tiff(str(tmp_path / "photo.nef denoise"), first, about()) == [str(tmp_path / "photo.nef denoise.tif")]
    with pytest.raises(InputError, match="exists already"):
        write_tiff(str(tmp_path / "photo.nef denoise"), second, about())
    write_tiff(str(tmp_path / "photo.nef denoise.tif"), second, about())  # napari's dialog has asked
    assert np.array_equal(tifffile.imread(tmp_path / "photo.nef denoise.tif"), second)


def test_napari_offers_the_writers_and_saves_a_layer_with_them(viewer: Any, drive: Drive, tmp_path: Path) -> None:
    from napari.plugins._npe2 import file_extensions_string_for_layers

    drive(viewer)
    stack = values((3, 20, 30), np.uint16)
    layer = viewer.add_image(stack, scale=(2, 0.1, 0.1), units=MICRON, axis_labels=("z", "y", "x"))
    offered, _ = file_extensions_string_for_layers([layer.__wrapped__])
    assert "restonnx TIFF with axes, scale and units (*.tif *.tiff *.ome.tif *.ome.tiff)" in offered
    assert "restonnx PNG of 8 or 16 bits (*.png)" in offered
    assert layer.save(str(tmp_path / "a.tif"), plugin="restonnx") == [str(tmp_path / "a.tif")]
    assert layer.save(str(tmp_path / "a.ome.tif")) == [str(tmp_path / "a.ome.tif")]
    for name in ("a.tif", "a.ome.tif"):
        again = images.read(tmp_path / name)
        assert np.array_equal(again.pixels, stack)
        assert float(again.resolution.x) == pytest.approx(10 if name == "a.tif" else 1e5)
