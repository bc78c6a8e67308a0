"""The EXIF of files that are no TIFF: from their embedded JPEG, else from what LibRaw knows."""

from __future__ import annotations

import datetime
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import rawpy
from PIL import Image

from restonnx.isp import exif


def raw(thumbnail: Any = None, **other: Any) -> Any:
    known: dict[str, Any] = {"iso_speed": 0.0, "shutter_speed": 1.0, "aperture": 1.0, "focal_length": 0.0}
    known |= {"timestamp": datetime.datetime(1970, 1, 1)} | other

    def extract_thumb() -> Any:
        if thumbnail is None:
            raise rawpy.LibRawNoThumbnailError("none")
        return SimpleNamespace(format=rawpy.ThumbFormat.JPEG, data=thumbnail)

    return SimpleNamespace(other=SimpleNamespace(**known), lens=SimpleNamespace(model=""), extract_thumb=extract_thumb)


def loaded(content: bytes | None) -> Any:
    values = Image.Exif()
    assert content is not None
    values.load(content)
    return values


def other_file(folder: Path) -> Path:
    path = folder / "a.raf"
    path.write_bytes(b"FUJIFILMCCD-RAW ")
    return path


def test_it_comes_from_the_embedded_jpeg(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[271] = "FUJIFILM"
    tags.get_ifd(0x8769)[0x8827] = 400
    jpeg = io.BytesIO()
    Image.new("RGB", (16, 16)).save(jpeg, "JPEG", exif=tags)
    values = loaded(exif.read(other_file(tmp_path), raw(jpeg.getvalue())))
    assert (values[271], values.get_ifd(0x8769)[0x8827]) == ("FUJIFILM", 400)


def test_without_one_it_says_what_libraw_knows(tmp_path: Path) -> None:
    known = {"iso_speed": 640.0, "shutter_speed": 0.004, "aperture": 2.8, "focal_length": 35.0}
    taken = datetime.datetime(2024, 5, 6, 7, 8, 9)
    values = loaded(exif.read(other_file(tmp_path), raw(**known, timestamp=taken))).get_ifd(0x8769)
    assert values[0x8827] == 640
    assert [float(values[code]) for code in (0x829A, 0x829D, 0x920A)] == [0.004, 2.8, 35.0]
    assert values[0x9003] == "2024:05:06 07:08:09"


def test_nothing_is_made_up_where_nothing_is_known(tmp_path: Path) -> None:
    assert exif.read(other_file(tmp_path), raw()) is None
    values = loaded(exif.finished(None, "restonnx", 1))
    assert (values[305], values[274]) == ("restonnx", 1)
    assert not values.get_ifd(0x8769)
