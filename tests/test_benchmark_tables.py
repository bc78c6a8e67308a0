"""The tables of the benchmarks' page are those of the results."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import benchmark_modules
import pytest
from benchmark_modules import FOLDER


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    return benchmark_modules.load("tables")


def test_the_page_shows_the_results_as_they_are(tables: ModuleType) -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in tables.TABLES:
        assert f"<!-- {name}:begin -->\n" in text
    assert tables.rendered(text) == text, "run python benchmarks/tables.py"


def test_a_table_without_results_says_so_and_other_tables_are_left_alone(
    tables: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    text = "<!-- steps:begin -->\nold\n<!-- steps:end -->\n<!-- zoo:begin -->\nkept\n<!-- zoo:end -->\n"
    assert tables.rendered(text) == text.replace("old", "Unmeasured.")


def test_engines_are_listed_from_the_fastest_with_what_was_left_out(tables: ModuleType) -> None:
    fast = {
        "engine": "ort",
        "side": 256,
        "seconds_per_megapixel": 1.0,
        "fastest": 0.9,
        "slowest": 1.2,
        "build_seconds": 0.2,
        "first_run_seconds": 0.1,
        "peak_memory_mb": 300,
        "fraction_of_peak": 0.8,
        "times_base": 1.0,
        "largest_difference": 0.0,
    }
    slow = fast | {"engine": "torch-eager", "seconds_per_megapixel": 1.7, "times_base": 1.7}
    left_out = {"engine": "torch-bf16", "side": 256, "unmeasured": "this CPU has no bfloat16"}
    peak = {"engine": "sgemm", "side": 256, "gmac_per_second": 46.0, "best_gmac_per_second": 47.0}
    machine = {"processor": "CPU", "cores": 2, "packages": {"torch": "2"}}
    content = {
        "model": "denoise",
        "machine": machine,
        "threads": 2,
        "device": "cpu",
        "base": "ort",
        "rounds": 5,
        "gmac_per_megapixel": 63.0,
    }
    lines = tables.engines(content | {"rows": [left_out, slow, fast, peak]}).splitlines()
    assert [line.split("|")[1].strip() for line in lines if line.startswith("| `")] == ["`ort`", "`torch-eager`"]
    assert "| 1.70 |" in next(line for line in lines if "torch-eager" in line)
    assert lines[-1] == "Unmeasured: torch-bf16 (this CPU has no bfloat16)."
