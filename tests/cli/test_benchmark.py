"""`restonnx benchmark`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from restonnx import speed
from restonnx.cli import app
from restonnx.cli.benchmark import parse_size
from restonnx.errors import InputError


def benchmark(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["benchmark", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process for each measurement takes seconds; that it gives the same is tested elsewhere."""
    monkeypatch.setattr(speed, "measure_apart", speed.measure)


def test_every_model_and_size_is_a_row_and_the_numbers_are_written(tiny: Path, tiny_gray: Path, tmp_path: Path) -> None:
    out = tmp_path / "numbers.json"
    result = benchmark(tiny, tiny_gray, "--size", 40, "--size", "32x48", "--runs", 2, "--device", "cpu", "--json", out)
    assert result.exit_code == 0, result.output
    assert [line.split()[:3] for line in result.stdout.splitlines()[1:5]] == [
        ["tiny", "40x40", "cpu"],
        ["tiny", "32x48", "cpu"],
        ["tiny-gray", "40x40", "cpu"],
        ["tiny-gray", "32x48", "cpu"],
    ]
    content = json.loads(out.read_text())
    assert content["machine"]["python"]
    assert [row["size"] for row in content["measured"]] == [[40, 40], [32, 48]] * 2
    assert all(len(row["runs"]) == 2 and row["seconds_per_megapixel"] > 0 for row in content["measured"])


def test_numbers_that_exist_are_replaced_only_with_overwrite(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "numbers.json"
    out.write_text("mine")
    given = (tiny, "--size", 16, "--runs", 1, "--device", "cpu", "--json", out)
    refused = benchmark(*given)
    assert refused.exit_code == 1
    assert "--overwrite" in refused.stderr
    assert out.read_text() == "mine"
    assert benchmark(*given, "--overwrite").exit_code == 0
    assert out.read_text() != "mine"


def test_a_wrong_model_is_said_before_anything_is_measured(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "measure_apart", lambda *_, **__: pytest.fail("measured"))
    result = benchmark(tiny, "no-such-model", "--size", 16)
    assert result.exit_code == 1
    assert "no-such-model" in result.stderr


@pytest.mark.parametrize(("text", "size"), [("1024", (1024, 1024)), ("4000x6000", (4000, 6000))])
def test_a_size_is_a_side_or_rows_and_columns(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["1", "0x8", "big", "4x5x6", "-8", "8000000"])
def test_another_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--size must be such as 1024 or 4000x6000"):
        parse_size(text)
