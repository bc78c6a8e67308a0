"""DNGs that are written: the same numbers, the same picture in other programs, tags that describe what is in them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rawpy
import tifffile
from raw_files import (
    BAYER,
    X_TRANS,
    Changed,
    dng,
    libraw_numbers,
    libraw_render,
    mosaic_of,
    numbers,
    photograph,
    shape_of,
    with_exif,
    with_noise,
)

from restonnx import isp
from restonnx.isp import dng_tags

CFA_KINDS: dict[str, Any] = {**BAYER, "X-Trans": X_TRANS, "monochrome": None}


def tags_of(path: Path) -> dng_tags.DngTags:
    found = dng_tags.read(path)
    assert found is not None
    return found


@pytest.mark.parametrize("compression", ["lossless-jpeg", "none"])
@pytest.mark.parametrize("kind", [*CFA_KINDS, "linear"])
def test_a_dng_of_every_kind_holds_the_sources_numbers_and_renders_the_same(
    tmp_path: Path, kind: str, compression: Any
) -> None:
    source = dng(tmp_path / "a.dng", numbers(shape_of(kind, (300, 270))), CFA_KINDS.get(kind))
    isp.develop(source, [], tmp_path / "b.dng", compression=compression)
    assert (libraw_numbers(tmp_path / "b.dng") == libraw_numbers(source)).all()
    assert (libraw_render(tmp_path / "b.dng") == libraw_render(source)).all()


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_every_depth_is_kept(tmp_path: Path, bits: int) -> None:
    source = dng(tmp_path / "a.dng", numbers(bits=bits), BAYER["BGGR"], black=64, white=2**bits - 1)
    isp.develop(source, [Changed("cfa")], tmp_path / "b.dng")
    assert (libraw_numbers(tmp_path / "b.dng") == libraw_numbers(source)).all()
    assert (libraw_render(tmp_path / "b.dng") == libraw_render(source)).all()


@pytest.mark.parametrize("area", [(4, 6, 64, 90), (3, 5, 63, 83)])
@pytest.mark.parametrize("pattern", [*BAYER.values(), X_TRANS])
def test_masked_borders_stay_where_they_were(tmp_path: Path, area: Any, pattern: Any) -> None:
    black: Any = 256 if len(pattern) == 6 else (200, 210, 220, 230)
    shape = shape_of("X-Trans" if len(pattern) == 6 else "RGGB")
    area = (*area[:2], area[2] - 70 + shape[0], area[3] - 92 + shape[1])
    source = dng(tmp_path / "a.dng", numbers(shape), pattern, area=area, black=black)
    isp.develop(source, [], tmp_path / "b.dng")
    assert (libraw_numbers(tmp_path / "b.dng") == libraw_numbers(source)).all()
    assert (libraw_render(tmp_path / "b.dng") == libraw_render(source)).all()


@pytest.mark.parametrize("kind", ["RGGB", "X-Trans"])
def test_after_a_stage_on_colours_the_dng_is_linear_and_renders_as_the_picture(tmp_path: Path, kind: str) -> None:
    source = dng(tmp_path / "a.dng", numbers(shape_of(kind)), CFA_KINDS[kind], orientation=6)
    stage = Changed("linear_rgb", gain=0.9)
    picture = isp.develop(source, [stage])
    isp.develop(source, [stage], tmp_path / "b.dng")
    with rawpy.imread(str(tmp_path / "b.dng")) as raw:
        assert raw.raw_type == rawpy.RawType.Stack
    assert np.abs(libraw_render(tmp_path / "b.dng").astype(int) - picture.pixels).max() <= 1


def test_super_resolution_makes_a_larger_linear_dng(tmp_path: Path) -> None:
    for kind, shape in (("RGGB", (140, 184, 4)), ("monochrome", (140, 184))):
        source = dng(tmp_path / f"{kind}.dng", numbers(), CFA_KINDS[kind])
        isp.develop(source, [Changed("linear_rgb", scale=2)], tmp_path / f"{kind}-2.dng")
        assert libraw_numbers(tmp_path / f"{kind}-2.dng").shape == shape


def test_colour_tags_of_the_source_are_kept_to_the_last_digit(tmp_path: Path) -> None:
    extra = (
        (50727, 5, 3, (11, 10, 1, 1, 9, 10), True),
        (50730, 10, 1, (-1, 3), True),
        (50936, 2, 0, "A profile", True),
        (50731, 5, 1, (0, 0), True),
    )
    source = dng(tmp_path / "a.dng", numbers(), BAYER["RGGB"], extra=extra)
    isp.develop(source, [], tmp_path / "b.dng")
    before, after = tags_of(source).first, tags_of(tmp_path / "b.dng").first
    for code in (50721, 50728, 50778, 50727, 50730, 50936, 50708, 271, 272):
        assert after[code].value == before[code].value, code
    assert 50731 not in after, "a denominator of 0 says nothing"
    assert (libraw_render(tmp_path / "b.dng") == libraw_render(source)).all()


def test_the_dng_describes_itself(tmp_path: Path) -> None:
    source = with_exif(dng(tmp_path / "a.dng", numbers(), BAYER["GRBG"], orientation=8, area=(4, 6, 64, 90)))
    isp.develop(source, [Changed("cfa")], tmp_path / "b.dng")
    tags = tags_of(tmp_path / "b.dng")
    assert tags.first[50706].value == bytes((1, 4, 0, 0))
    assert tags.first[274].value == 8
    assert tags.first[305].value.startswith("restonnx")
    assert tags.first[305].value.endswith("changed on cfa")
    assert tags.first[50827].value == "a.dng"
    assert tags.raw[33422].value == bytes((1, 0, 2, 1))
    assert tags.raw[50829].value == (4, 6, 64, 90)
    assert tags.raw[258].value == 16
    assert tags.first[34665].value["ISOSpeedRatings"] == 800
    assert isp.read_raw(tmp_path / "b.dng").meta.iso == 800


def test_the_previews_show_the_result(tmp_path: Path) -> None:
    source = dng(tmp_path / "a.dng", numbers((400, 600)), BAYER["RGGB"], orientation=6)
    isp.develop(source, [Changed("cfa", gain=0.25)], tmp_path / "b.dng")
    expected = libraw_render(tmp_path / "b.dng", user_flip=0).mean() / 257
    with tifffile.TiffFile(tmp_path / "b.dng") as tiff:
        first: Any = tiff.pages[0]
        previews = [first.asarray(), first.pages[1].asarray()]
    assert [preview.shape for preview in previews] == [(171, 256, 3), (400, 600, 3)]
    for preview in previews:
        assert preview.mean() == pytest.approx(expected, rel=0.1)
    with rawpy.imread(str(tmp_path / "b.dng")) as raw:
        assert raw.extract_thumb().format == rawpy.ThumbFormat.JPEG


def test_the_noise_profile_is_that_of_the_restored_data(tmp_path: Path) -> None:
    class Averaging(Changed):
        def __call__(self, image: Any, **options: Any) -> Any:
            return (image + photo) / 2

    photo = mosaic_of(photograph(), BAYER["RGGB"])
    raw = with_noise(photo, 4e-3, 4e-5) * (4095 - 256) + 256
    pixels = np.clip(np.rint(raw), 0, 4095).astype(np.uint16)
    source = dng(tmp_path / "a.dng", pixels, BAYER["RGGB"], noise=(4e-3, 4e-5))
    isp.develop(source, [], tmp_path / "same.dng")
    isp.develop(source, [Averaging("cfa")], tmp_path / "half.dng")
    same, half = (isp.read_raw(tmp_path / name).meta.noise for name in ("same.dng", "half.dng"))
    assert same == isp.NoiseProfile((4e-3,) * 3, (4e-5,) * 3, "DNG")
    assert half is not None
    assert half.a == pytest.approx((1e-3,) * 3, rel=0.2)


def test_lens_corrections_are_copied_while_they_fit(tmp_path: Path) -> None:
    opcodes = ((51009, 7, 8, b"\0\0\0\0maps", True), (51022, 7, 8, b"\0\0\0\0lens", True))
    source = dng(tmp_path / "a.dng", numbers(), BAYER["RGGB"], extra=opcodes)
    for stage, kept in ((Changed("cfa"), {51009, 51022}), (Changed("linear_rgb", 0.9), {51022}), (large(), set())):
        isp.develop(source, [stage], tmp_path / "b.dng", overwrite=True)
        found = tags_of(tmp_path / "b.dng").raw
        assert {code for code in (51009, 51022) if code in found} == kept


def large() -> Changed:
    return Changed("linear_rgb", scale=2)


def test_what_could_not_be_decoded_by_libraw_becomes_a_dng_that_can(tmp_path: Path) -> None:
    pixels = numbers()
    source = dng(tmp_path / "a.dng", pixels, BAYER["RGGB"], compression="deflate")
    isp.develop(source, [], tmp_path / "b.dng")
    assert (libraw_numbers(tmp_path / "b.dng") == pixels).all()


@pytest.mark.skipif(shutil.which("dcraw") is None, reason="dcraw is not installed")
@pytest.mark.parametrize("kind", ["RGGB", "GBRG", "X-Trans", "linear"])
@pytest.mark.parametrize("options", [["-D"], ["-w", "-M"]])
def test_dcraw_sees_the_same_in_source_and_dng(tmp_path: Path, kind: str, options: list[str]) -> None:
    if kind == "linear" and options == ["-D"]:
        pytest.skip("there is no mosaic")
    source = dng(tmp_path / "a.dng", numbers(shape_of(kind, (300, 270))), CFA_KINDS.get(kind))
    isp.develop(source, [], tmp_path / "b.dng")
    seen = [
        subprocess.run(["dcraw", "-c", "-4", *options, path], capture_output=True, check=True).stdout
        for path in (source, tmp_path / "b.dng")
    ]
    assert len(seen[0]) > 100_000
    assert seen[0] == seen[1]


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
def test_exiftool_finds_no_error(tmp_path: Path) -> None:
    source = with_exif(dng(tmp_path / "a.dng", numbers(), BAYER["RGGB"]))
    isp.develop(source, [], tmp_path / "b.dng")
    command = ["exiftool", "-validate", "-error", "-warning", "-a", tmp_path / "b.dng"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Error" not in said
    lines = [line for line in said.splitlines() if line.startswith("Warning") and "A100DataOffset" not in line]
    assert not lines, "but for the type of the tag SubIFDs, on which the two programs differ"
