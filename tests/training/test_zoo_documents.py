"""The tables of README, benchmarks and cards: made by the command alone, and made again whenever the numbers change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from restonnx import library
from restonnx.errors import InputError
from restonnx.training.evaluation.documents import BEGIN, END, RESULTS, card, everything, overview, render, replaced
from restonnx.training.evaluation.documents import write as write_documents
from restonnx.training.evaluation.zoo import graph_sha256, read_report

ROOT = Path(__file__).parents[2]


def row(method: str, kind: str, psnr: float, **further: Any) -> dict[str, Any]:
    return {"method": method, "kind": kind, "psnr": psnr} | further


def measured(psnr: float, colour: float = 1.0) -> dict[str, float]:
    return {"psnr": psnr, "ssim": psnr / 40, "ciede2000": colour, "low_frequency_shift": colour / 2}


def model(name: str, psnr: float, *, images: int = 68, **test: Any) -> dict[str, Any]:
    rows = [
        {"method": name, "kind": "model"} | measured(psnr),
        {"method": "input", "kind": "input"} | measured(20.17, 9.0),
        {"method": "wavelets", "kind": "classical"} | measured(27.66, 3.0),
        {"method": "non-local means", "kind": "classical"} | measured(28.5, 2.5),
        row("CBM3D", "published", 30.71, source="someone"),
    ]
    tests = [{"name": "sigma 25", "data": "test/CBSD68", "images": images, "of": 68, "luma_border": None, "rows": rows}]
    tests[0] |= test
    suite = {"title": "CBSD68, Gaussian noise", "purpose": "denoise", "real": False, "tests": tests}
    return {
        "version": "1.0.0",
        "shipped": True,
        "objective": "data_consistent",
        "command": f"restonnx evaluate --all --model {name}",
        "machine": {"processor": "A processor", "packages": {"onnxruntime": "1.31"}},
        "suites": [suite],
    }


@pytest.fixture
def report() -> dict[str, Any]:
    return {"models": {"denoise": model("denoise", 30.33), "denoise-fast": model("denoise-fast", 30.38)}}


def test_a_card_has_its_model_its_siblings_the_methods_and_the_published(report: dict[str, Any]) -> None:
    text = card(report, "denoise")
    assert (
        text.index("| **denoise** | 30.33 / 0.758 |") < text.index("| denoise-fast | 30.38") < text.index("| input |")
    )
    assert "| non-local means | 28.50 / " in text
    assert "| CBM3D, published | 30.71 |" in text
    assert "(68 images)" in text
    assert "restonnx evaluate --all --model denoise" in text


def test_models_on_other_images_are_no_siblings(report: dict[str, Any]) -> None:
    report["models"]["denoise-fast"] = model("denoise-fast", 30.38, images=4)
    assert "denoise-fast" not in card(report, "denoise")
    assert "(4 of 68 images)" in card(report, "denoise-fast")


def test_published_numbers_stand_beside_the_whole_set_alone(report: dict[str, Any]) -> None:
    report["models"]["denoise-fast"] = model("denoise-fast", 30.38, images=4)
    assert "CBM3D" not in card(report, "denoise-fast")
    lines = [line for line in everything(report).splitlines() if "(CBM3D)" in line]
    assert [line.split("|")[1].strip() for line in lines] == ["`denoise`"]


def test_the_best_classical_method_is_the_one_beside_the_model(report: dict[str, Any]) -> None:
    line = next(line for line in everything(report).splitlines() if line.startswith("| `denoise` | CBSD68"))
    assert "28.50 / 0.713 (non-local means)" in line
    assert "wavelets" not in line
    assert "9.00 | 2.50 | 1.00" in everything(report)


def test_a_model_that_is_worse_than_its_input_or_a_formula_says_so(report: dict[str, Any]) -> None:
    assert "Below" not in card(report, "denoise")
    report["models"]["denoise"] = model("denoise", 27.0)
    assert "Below the best classical method: CBSD68, Gaussian noise, sigma 25 (-1.50 dB)." in card(report, "denoise")
    report["models"]["denoise"] = model("denoise", 19.0)
    assert "Below its input: CBSD68, Gaussian noise, sigma 25 (-1.17 dB)." in card(report, "denoise")


def test_luma_is_shown_where_it_was_measured(report: dict[str, Any]) -> None:
    rows = [row("denoise", "model", 25.0, ssim=0.7, psnr_y=31.2, ssim_y=0.88)]
    report["models"]["denoise"] = model("denoise", 0.0, rows=rows)
    assert "| **denoise** | 31.20 / 0.880 |" in card(report, "denoise")


def test_a_stochastic_model_shows_what_its_spread_is_worth(report: dict[str, Any]) -> None:
    spread = {"samples": 8, "images": 4, "psnr_one": 29.5, "psnr_mean": 30.6, "rank_correlation_blocks": 0.79}
    spread |= {"rank_correlation_pixels": 0.27, "coverage_of_90": 0.75, "mean_std": 3.9}
    report["models"]["denoise-detail"] = model("denoise-detail", 29.6, spread=spread)
    for text in (card(report, "denoise-detail"), everything(report)):
        assert "| 4 | 29.50 | 30.60 | 0.79 | 0.27 | 75 % |" in text


def test_the_overview_has_every_shipped_model(report: dict[str, Any]) -> None:
    lines = overview(report).splitlines()[2:]
    assert [line.split("](")[0].removeprefix("| [") for line in lines] == [
        e.name for e in library.models() if e.shipped
    ]
    assert "**30.33**" in next(line for line in lines if line.startswith("| [denoise]"))
    assert all("see its card" in line for line in lines if not line.startswith(("| [denoise]", "| [denoise-fast]")))


def test_the_highest_is_bold_be_it_ours_or_not() -> None:
    below = {"models": {"denoise": model("denoise", 28.3)}}
    lines = [line for text in (overview(below), everything(below)) for line in text.splitlines() if "28.3" in line]
    assert lines
    assert not any("**28.3" in line for line in lines)
    assert "| **28.50 / 0.713 (non-local means)** |" in everything(below)


def test_a_sample_and_the_mean_of_several_are_judged_apart() -> None:
    report = {"models": {"denoise-detail": model("denoise-detail", 28.3)}}
    mean = {"method": "denoise-detail, mean of 8", "kind": "mean"} | measured(29.3)
    report["models"]["denoise-detail"]["suites"][0]["tests"][0]["rows"].insert(1, mean)
    assert "| 28.30 (one sample), **29.30** (mean of 8) |" in overview(report)
    text = card(report, "denoise-detail")
    assert "| denoise-detail, mean of 8 | 29.30 / " in text
    assert "One sample is below the best classical method: CBSD68, Gaussian noise, sigma 25 (-0.20 dB)." in text
    assert "mean of 8 is below" not in text
    mean["psnr"] = 28.4
    assert "The mean of 8 is below the best classical method" in card(report, "denoise-detail")


def test_only_what_is_between_the_marks_changes(tmp_path: Path, report: dict[str, Any]) -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter <!-- engines -->\n"
    assert replaced(text, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter <!-- engines -->\n"
    assert replaced("no marks\n", "new") == "no marks\n"
    (tmp_path / "README.md").write_text(text)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "README.md").write_text("no marks\n")
    assert write_documents(tmp_path, report) == [tmp_path / "README.md"]
    assert write_documents(tmp_path, report) == []
    assert "30.33" in (tmp_path / "README.md").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "benchmarks"}


def test_the_committed_documents_are_what_the_command_writes() -> None:
    """`python benchmarks/zoo.py` mends it."""
    for path, text in render(ROOT, read_report(ROOT / RESULTS)).items():
        assert path.read_text(encoding="utf-8") == text, path


def test_every_measured_model_that_ships_has_its_numbers_in_its_card() -> None:
    report = read_report(ROOT / RESULTS)
    written = {path.stem for path in render(ROOT, report)}
    assert {name for name, entry in report["models"].items() if entry["shipped"]} <= written
    assert ROOT / "README.md" in render(ROOT, report)
    assert ROOT / "benchmarks" / "README.md" in render(ROOT, report)


def test_numbers_belong_to_the_models_that_ship_today() -> None:
    report = read_report(ROOT / RESULTS)
    shipped = {entry.name: entry.path for entry in library.models() if entry.shipped}
    for name, entry in report["models"].items():
        if entry["shipped"]:
            assert entry["graph_sha256"] == graph_sha256(shipped[name]), f"run restonnx evaluate --all --model {name}"


def test_a_file_that_is_no_report_is_refused_and_none_is_an_empty_one(tmp_path: Path) -> None:
    assert read_report(tmp_path / "none.json")["models"] == {}
    (tmp_path / "other.json").write_text('{"scores": []}')
    with pytest.raises(InputError, match="not written by"):
        read_report(tmp_path / "other.json")
