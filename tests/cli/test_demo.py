"""`restonnx demo` with a tiny model on the photograph that is shipped."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_model import tiny_model
from typer.testing import CliRunner, Result

from restonnx import photograph
from restonnx.cli import app

ZOO = Path(__file__).parents[2] / "src" / "restonnx" / "zoo"


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).copy()


def demo(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["demo", "--device", "cpu", *map(str, arguments)])


def test_it_writes_before_and_after_side_by_side_and_says_how_good(tmp_path: Path, tiny: Path) -> None:
    result = demo("-o", tmp_path / "out.png", "--model", tiny)
    assert result.exit_code == 0, result.output
    noisy = photograph.noisy()
    written = read(tmp_path / "out.png")
    width = noisy.shape[1]
    assert written.shape == (noisy.shape[0], 2 * width, 3)
    assert np.array_equal(written[:, :width], noisy)
    before, after = (float(value) for value in re.findall(r"PSNR +([\d.]+) dB +SSIM 0\.\d{4}", result.stdout))
    clean = photograph.clean().astype(float)
    for value, pixels in ((before, noisy), (after, written[:, width:])):
        assert value == pytest.approx(10 * np.log10(255**2 / np.mean((pixels - clean) ** 2)), abs=0.01)
    assert "CPUExecutionProvider" in result.stdout
    assert re.search(r"[\d.]+ s for", result.stdout)


def test_the_default_output_can_be_written_again(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert demo("--model", tiny).exit_code == 0
    assert (tmp_path / "restonnx-demo.png").is_file()


def test_a_model_that_enlarges_is_one_line(tmp_path: Path) -> None:
    result = demo("-o", tmp_path / "out.png", "--model", tiny_model(tmp_path / "large.onnx", scale=2))
    assert result.exit_code == 1
    assert "enlarges, and the demo compares with an image of the same size" in result.stderr
    assert not (tmp_path / "out.png").exists()


def test_a_model_that_draws_images_of_its_own_is_one_line(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "drawing.onnx", metadata={"task": "generate"})
    result = demo("-o", tmp_path / "out.png", "--model", model)
    assert (result.exit_code, (tmp_path / "out.png").exists()) == (1, False)
    assert "draws images of its own" in result.stderr


def test_another_file_that_exists_is_kept(tmp_path: Path, tiny: Path) -> None:
    mine = tmp_path / "mine.png"
    mine.write_bytes(b"mine")
    result = demo("-o", mine, "--model", tiny)
    assert result.exit_code == 1
    assert mine.read_bytes() == b"mine"
    assert "--overwrite" in result.stderr
