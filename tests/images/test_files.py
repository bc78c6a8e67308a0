"""A file is written whole or not at all, and what goes wrong is said in one line."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restonnx import files, images
from restonnx.errors import Cancelled, InputError
from restonnx.files import write_json
from restonnx.images import Picture, png

PICTURE = Picture(np.zeros((8, 9, 3), np.uint8), "YXS")
Fails = Callable[..., Any]


@pytest.mark.parametrize("suffix", images.SUFFIXES)
def test_every_suffix_is_written_and_read_in_capitals_too(tmp_path: Path, suffix: str) -> None:
    for name in (f"a{suffix}", f"b{suffix.upper()}"):
        images.write(tmp_path / name, PICTURE)
        assert images.read(tmp_path / name).pixels.shape == (8, 9, 3)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_is_told_by_its_content_and_not_by_its_suffix(tmp_path: Path) -> None:
    images.write(tmp_path / "a.png", PICTURE)
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert isinstance(images.read(str(tmp_path / "a.jpg")).native, png.PngChunks)


def test_an_existing_file_is_replaced_only_where_that_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"precious")
    path.chmod(0o640)
    with pytest.raises(InputError, match=r"a\.png exists already"):
        images.write(path, PICTURE)
    assert path.read_bytes() == b"precious"
    images.write(path, PICTURE, overwrite=True)
    assert images.read(path).pixels.shape == (8, 9, 3)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_file_that_appears_while_another_is_written_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    writing = files.replaced(path, overwrite=False)
    writing.__enter__().write_bytes(b"new")
    path.write_bytes(b"precious")
    with pytest.raises(InputError, match="exists already"):
        writing.__exit__(None, None, None)
    assert path.read_bytes() == b"precious"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    images.write(tmp_path / "real" / "a.png", PICTURE)
    (tmp_path / "a.png").symlink_to(tmp_path / "real" / "a.png")
    images.write(tmp_path / "a.png", Picture(np.ones((4, 4), np.uint8), "YX"), overwrite=True)
    assert (tmp_path / "a.png").is_symlink()
    assert images.read(tmp_path / "real" / "a.png").pixels.shape == (4, 4)


@pytest.mark.parametrize("error", [Cancelled("stop"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("overwrite", [False, True])
def test_whatever_ends_the_writing_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, overwrite: bool
) -> None:
    path = tmp_path / "a.png"
    if overwrite:
        path.write_bytes(b"precious")
    monkeypatch.setattr(png, "write", half_written(error))
    with pytest.raises(type(error)):
        images.write(path, PICTURE, overwrite=overwrite)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([b"precious"] if overwrite else [])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EACCES, "no permission in"),
        (errno.EROFS, "no permission in"),
        (errno.EIO, "cannot write it"),
    ],
)
def test_a_failing_disk_is_one_line_that_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, message: str
) -> None:
    monkeypatch.setattr(png, "write", half_written(OSError(code, os.strerror(code))))
    with pytest.raises(InputError, match=rf"a\.png.*{message}") as caught:
        images.write(tmp_path / "a.png", PICTURE)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux alone has a device that is always full")
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_disk_that_is_really_full_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    really_open = Path.open

    def open_full(path: Path, mode: str = "r") -> Any:
        return really_open(Path("/dev/full"), mode.replace("x", "w"))

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(InputError, match="the disk is full"):
        images.write(tmp_path / f"a{suffix}", PICTURE)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux alone has a device that is always full")
def test_numpy_meeting_a_full_disk_is_reported_as_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the disk is full"), files.explained(tmp_path / "a.tif", "write"):
        np.zeros(1 << 20).tofile("/dev/full")


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the folder .*nowhere of a\.png does not exist"):
        images.write(tmp_path / "nowhere" / "a.png", PICTURE)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="no permission"):
        images.write(tmp_path / "a.png", PICTURE)


@pytest.mark.parametrize("name", ["a.gif", "a", "a.png.bak"])
def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"\.png, \.jpg"):
        images.write(tmp_path / name, PICTURE)


def test_a_folder_is_no_image_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    for call in (lambda: images.read(tmp_path / "a.png"), lambda: images.write(tmp_path / "a.png", PICTURE)):
        with pytest.raises(InputError, match="is a folder"):
            call()


@pytest.mark.parametrize("quality", [0, 101])
def test_a_quality_outside_its_range_is_refused(tmp_path: Path, quality: int) -> None:
    with pytest.raises(InputError, match=r"1 .* to 100"):
        images.write(tmp_path / "a.jpg", PICTURE, quality=quality)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello, I am text", "no PNG, JPEG, WebP or TIFF"),
        (png.SIGNATURE, "damaged or cut off"),
        (b"\xff\xd8\xff\xe0", "damaged or cut off"),
        (b"RIFF\x10\0\0\0WEBP", "damaged or cut off"),
        (b"II*\0", "damaged or cut off"),
        (b"II*\0\x08\0\0\0\xff\xff", "damaged or cut off"),
        (b"MM\0+\0\x08\0\0", "damaged or cut off"),
    ],
)
def test_a_file_that_is_no_image_is_refused_by_name_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.png.*{message}") as caught:
        images.read(tmp_path / "a.png")
    assert "\n" not in str(caught.value)


def test_a_file_that_does_not_exist_is_said_to(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.png does not exist"):
        images.read(tmp_path / "a.png")


def half_written(error: BaseException) -> Fails:
    def write(path: Path, picture: Picture, **options: Any) -> None:
        path.write_bytes(b"half")
        raise error

    return write


@pytest.mark.parametrize(
    ("picture", "suffix", "message"),
    [
        (Picture(np.zeros((20, 30, 40), "u2"), "ZYX"), ".png", "a stack of 20 planes"),
        (Picture(np.zeros((30, 40, 5), "u1"), "YXS"), ".png", "a stack of 5 channels"),
        (Picture(np.zeros((30, 40, 3), "u1"), "YXS", alpha=np.zeros((30, 40), "u1")), ".jpg", "transparency"),
        (Picture(np.zeros((30, 40), "i2"), "YX"), ".png", "int16"),
        (Picture(np.zeros((3, 30, 40), "u1"), "SYX", alpha=np.zeros((30, 40), "u1")), ".png", ""),
        (Picture(np.zeros((20, 30, 40), "f4"), "ZYX"), ".tif", ""),
        (Picture(np.zeros((20, 30, 40), "f4"), "ZYX"), ".xyz", ""),
    ],
)
def test_what_a_format_cannot_hold_is_told_before_it_is_computed(
    tmp_path: Path, picture: Picture, suffix: str, message: str
) -> None:
    path = tmp_path / f"a{suffix}"
    if not message:
        images.check(path, picture)
    else:
        for refused in (lambda: images.check(path, picture), lambda: images.write(path, picture)):
            with pytest.raises(InputError, match=message) as caught:
                refused()
            assert str(path) in str(caught.value)
    assert not list(tmp_path.iterdir())


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(), inner, max_size=8),
    )
)
def test_json_is_read_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "content.json"
    write_json(path, content)
    assert json.loads(path.read_text(encoding="utf-8")) == content


def test_json_has_a_line_for_what_fits_on_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    short, long = ({"rows": [{"a": list(range(count))}, {"b": [1, 2]}], "few": 1.5} for count in (20, 60))
    write_json(path, short)
    assert path.read_text() == json.dumps(short) + "\n"
    write_json(path, long)
    numbers = [f"    {number}," for number in range(59)] + ["    59"]
    opened, closed = (
        ["{", ' "rows": [', "  {", '   "a": ['],
        ["   ]", "  },", '  {"b": [1, 2]}', " ],", ' "few": 1.5', "}"],
    )
    assert path.read_text().splitlines() == opened + numbers + closed
