"""`restonnx develop` and `restonnx noise-profile` on files that the test makes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from raw_files import BAYER, X_TRANS, dng, libraw_numbers, libraw_render, mosaic_of, numbers, photograph, with_noise
from tiny_model import tiny_model
from typer.testing import CliRunner, Result

from restonnx import images
from restonnx.cli import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def develop(*arguments: object) -> Result:
    return run("develop", *arguments, "--device", "cpu")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "packed.onnx", name="packed", channels=4, domain="cfa", draws=0, family="direct")


def raw_file(path: Path, pattern: Any = BAYER["RGGB"], seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return dng(path, numbers(seed=seed), pattern)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["b.tif", "b.png", "b.dng"])
def test_one_file_goes_into_the_file_that_is_named(tmp_path: Path, model: Path, name: str) -> None:
    result = develop(raw_file(tmp_path / "a.dng"), "-o", tmp_path / "out" / name, "--model", model)
    assert result.exit_code == 0, result.output
    assert names(tmp_path / "out") == {name}
    assert "model packed 1.0 on CPUExecutionProvider" in result.output
    assert "1 developed" in result.output


@pytest.mark.parametrize(("to", "suffix"), [(None, ".tif"), ("png", ".png"), ("dng", ".dng")])
def test_a_folder_is_developed_into_another(tmp_path: Path, model: Path, to: str | None, suffix: str) -> None:
    raw_file(tmp_path / "in" / "a.dng")
    raw_file(tmp_path / "in" / "b.DNG", BAYER["GBRG"])
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    chosen = ["--to", to] if to else []
    result = develop(tmp_path / "in", "-o", tmp_path / "out", "--model", model, *chosen)
    assert result.exit_code == 0, result.output
    assert names(tmp_path / "out") == {f"a{suffix}", f"b{suffix}"}


def test_without_a_model_the_picture_is_libraws_own(tmp_path: Path) -> None:
    path = raw_file(tmp_path / "a.dng")
    result = develop(path, "-o", tmp_path / "b.png", "--model", "none")
    assert result.exit_code == 0, result.output
    assert (images.read(tmp_path / "b.png").pixels == libraw_render(path)).all()
    assert develop(path, "-o", tmp_path / "b.dng", "--model", "none").exit_code == 0
    assert (libraw_numbers(tmp_path / "b.dng") == libraw_numbers(path)).all()


def test_each_bad_file_is_told_in_a_line_and_the_rest_goes_on(tmp_path: Path, model: Path) -> None:
    whole = raw_file(tmp_path / "in" / "a.dng").read_bytes()
    bad = {
        "b.nef": b"no camera wrote this",
        "c.dng": whole[:3000],  # cut off
        "d.x3f": b"FOVb" + bytes(100),  # Foveon
        "e.cr2": b"",
        "f.arw": bytes(byte ^ key for byte, key in zip(whole, np.random.default_rng(0).bytes(len(whole)), strict=True)),
        "g.dng": whole[:8] + np.random.default_rng(1).bytes(len(whole) - 8),  # encrypted behind its signature
        "h.dng": b"\x89PNG\r\n\x1a\n" + bytes(500),
    }
    for name, content in bad.items():
        (tmp_path / "in" / name).write_bytes(content)
    raw_file(tmp_path / "in" / "z.dng")
    result = develop(*sorted((tmp_path / "in").iterdir()), "-o", tmp_path / "out", "--model", model)
    assert result.exit_code == 1
    assert names(tmp_path / "out") == {"a.tif", "z.tif"}
    errors = [line for line in result.output.splitlines() if line.startswith("error:")]
    assert len(errors) == len(bad)
    assert all(name in line for name, line in zip(bad, errors, strict=True))
    assert f"2 developed, {len(bad)} failed" in result.output


def test_a_batch_goes_on_where_it_was_stopped(tmp_path: Path, model: Path) -> None:
    for seed, name in enumerate("abc"):
        raw_file(tmp_path / "in" / f"{name}.dng", seed=seed)
    assert develop(tmp_path / "in" / "a.dng", "-o", tmp_path / "out/", "--model", model).exit_code == 0
    first = (tmp_path / "out" / "a.tif").stat().st_mtime_ns
    stopped = develop(tmp_path / "in", "-o", tmp_path / "out", "--model", model)
    assert stopped.exit_code == 1, "an output that exists is an error without --resume"
    (tmp_path / "out" / "c.tif").unlink()
    resumed = develop(tmp_path / "in", "-o", tmp_path / "out", "--model", model, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert "1 developed, 2 were there already" in resumed.output
    assert (tmp_path / "out" / "a.tif").stat().st_mtime_ns == first
    again = develop(tmp_path / "in", "-o", tmp_path / "out", "--model", model, "--resume")
    assert (again.exit_code, "0 developed" in again.output) == (0, True)


def test_the_input_is_never_overwritten(tmp_path: Path, model: Path) -> None:
    path = raw_file(tmp_path / "a.dng")
    before = hashlib.sha256(path.read_bytes()).digest()
    for arguments in ((path, "-o", path), (path, "-o", f"{tmp_path}/", "--to", "dng")):
        for flag in ("--overwrite", "--resume"):
            result = develop(*arguments, flag, "--model", model)
            assert result.exit_code == 1
            assert "never overwritten" in result.output
    assert hashlib.sha256(path.read_bytes()).digest() == before


def test_two_inputs_do_not_share_an_output(tmp_path: Path, model: Path) -> None:
    raw_file(tmp_path / "one" / "a.dng")
    raw_file(tmp_path / "two" / "a.dng")
    result = develop(tmp_path / "one", tmp_path / "two", "-o", tmp_path / "out", "--model", model)
    assert result.exit_code == 1
    assert "is already the output of" in result.output
    assert names(tmp_path / "out") == {"a.tif"}


def test_a_grey_model_restores_mosaics_and_what_has_none(tmp_path: Path, tiny_gray: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, pattern in (("bayer", BAYER["RGGB"]), ("fuji", X_TRANS)):
        noisy = with_noise(mosaic_of(photograph(530, 526), pattern), 4e-3, 4e-5)
        dng(tmp_path / "in" / f"{name}.dng", np.clip(np.rint(noisy * 3839 + 256), 0, 4095).astype(np.uint16), pattern)
    dng(tmp_path / "in" / "linear.dng", numbers((70, 92, 3)))
    result = develop(tmp_path / "in", "-o", tmp_path / "out", "--model", tiny_gray, "--to", "dng")
    assert result.exit_code == 0, result.output
    shapes = {path.stem: libraw_numbers(path).ndim for path in (tmp_path / "out").iterdir()}
    assert shapes == {"bayer": 2, "fuji": 3, "linear": 3}


def test_settings_are_passed_on(tmp_path: Path, model: Path) -> None:
    path = raw_file(tmp_path / "a.dng")
    options = ["--color-space", "prophoto", "--exposure", "0.5", "--demosaic", "VNG", "--strength", "0"]
    assert develop(path, "-o", tmp_path / "b.tif", "--model", model, *options).exit_code == 0
    import rawpy

    expected = libraw_render(
        path,
        output_color=rawpy.ColorSpace.ProPhoto,
        gamma=(1.8, 0),
        bright=2**0.5,
        demosaic_algorithm=rawpy.DemosaicAlgorithm.VNG,
    )
    assert (images.read(tmp_path / "b.tif").pixels == expected).all()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--noise", "high"], "two numbers such as 1e-3,4e-6"),
        (["--noise", "0,0"], "two numbers such as 1e-3,4e-6"),
        (["--model", "no-such-model"], "no-such-model"),
        (["--at", "linear_rgb"], "can stand at cfa"),
    ],
)
def test_wrong_options_are_told_in_one_line(tmp_path: Path, model: Path, options: list[str], text: str) -> None:
    chosen = options if "--model" in options else ["--model", str(model), *options]
    result = develop(raw_file(tmp_path / "a.dng"), "-o", tmp_path / "b.tif", *chosen)
    assert result.exit_code in (1, 2)
    assert text in " ".join(result.output.replace("│", " ").split())
    assert not (tmp_path / "b.tif").exists()


class TestNoiseProfile:
    def test_what_the_file_says_is_printed(self, tmp_path: Path) -> None:
        path = dng(tmp_path / "a.dng", numbers(), BAYER["RGGB"], noise=(1e-3, 4e-6))
        result = run("noise-profile", path)
        assert result.exit_code == 0, result.output
        assert "from DNG" in result.output
        rows = [line.split() for line in result.output.splitlines() if line.startswith(("red", "green", "blue"))]
        assert [row[1:4] for row in rows] == [["1.000e-03", "4.000e-06", "1000"]] * 3

    def test_it_is_estimated_and_plotted(self, tmp_path: Path) -> None:
        noisy = with_noise(mosaic_of(photograph(), BAYER["RGGB"]), 4e-3, 4e-5)
        pixels = np.clip(np.rint(noisy * 3839 + 256), 0, 4095).astype(np.uint16)
        path = dng(tmp_path / "a.dng", pixels, BAYER["RGGB"], noise=(1.0, 1.0))
        result = run("noise-profile", path, "--estimate", "--plot", tmp_path / "p.png")
        assert result.exit_code == 0, result.output
        assert "from estimate" in result.output
        with Image.open(tmp_path / "p.png") as plot:
            colours = {colour for _, colour in plot.getcolors(10_000) or []}
        assert {(200, 40, 40), (30, 140, 60), (40, 80, 200)} <= colours
        again = run("noise-profile", path, "--plot", tmp_path / "p.png")
        assert (again.exit_code, "p.png exists: pass --overwrite to replace it" in again.output) == (1, True)
        assert run("noise-profile", path, "--plot", tmp_path / "p.png", "--overwrite").exit_code == 0
        assert run("noise-profile", path, "--plot", tmp_path / "p.txt").exit_code == 1

    def test_monochrome_has_one_row_and_a_table_helps(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("iso,a,b\n100,1e-4,1e-7\n")
        path = dng(tmp_path / "a.dng", numbers(), noise=(2e-3, 1e-6))
        result = run("noise-profile", path)
        assert [line.split()[0] for line in result.output.splitlines()][-1] == "all"
        small = raw_file(tmp_path / "b.dng")
        failed = run("noise-profile", small, "--table", tmp_path / "t.csv")
        assert (failed.exit_code, "cannot be estimated" in failed.output) == (1, True), "its ISO is not known"

    def test_a_file_that_is_no_raw_is_told_in_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "a.nef").write_text("text")
        result = run("noise-profile", tmp_path / "a.nef")
        assert result.exit_code == 1
        assert result.output.startswith("error: ")
        assert len(result.output.splitlines()) == 1
