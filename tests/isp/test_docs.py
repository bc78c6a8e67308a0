"""The examples of docs/raw.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from raw_files import BAYER, dng, mosaic_of, photograph, with_noise

PAGE = Path(__file__).parents[2] / "docs" / "raw.md"


def test_every_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    noisy = with_noise(mosaic_of(photograph(384, 384), BAYER["RGGB"]), 1e-3, 1e-5)
    dng(tmp_path / "photo.dng", np.clip(np.rint(noisy * 3839 + 256), 0, 4095).astype(np.uint16), BAYER["RGGB"])
    examples = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(examples) >= 8
    names: dict[str, object] = {}
    for example in examples:
        exec(compile(example, PAGE.name, "exec"), names)
    assert {"photo-clean.dng", "darker.tif"} <= {path.name for path in tmp_path.iterdir()}
    for name in ("rgb", "restored", "data", "bnr_raw"):
        assert names[name] is not None


def test_the_commands_of_the_page_exist() -> None:
    from typer.testing import CliRunner

    from restonnx.cli import app

    options = set(re.findall(r"(?<=[ `])--[a-z][a-z-]+", PAGE.read_text("utf-8")))
    helps = "".join(
        CliRunner().invoke(app, [name, "--help"], terminal_width=200).output for name in ("develop", "noise-profile")
    )
    assert len(options) >= 6
    assert not [option for option in options if option not in helps]
