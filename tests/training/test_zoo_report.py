"""Measuring models on the tests of their tasks: what is measured, what is kept, what is left out by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_model import tiny_model

from restonnx import library
from restonnx.errors import InputError
from restonnx.training.evaluation import zoo
from restonnx.training.evaluation.measures import rounded
from restonnx.training.evaluation.samples import Pairs, Synthetic
from restonnx.training.evaluation.table import ELSEWHERE, SUITES, limited, suites
from restonnx.training.evaluation.uncertainty import reliability
from restonnx.training.recipe import RECIPES

SIDE = 48
EXTRA = {
    "prior": ("noise_level",),
    "prior-gray": ("noise_level",),
    "inpaint": ("noise_level", "mask"),
    "deblur-kernel": ("noise_level", "kernel"),
    "super-resolution-known": ("noise_level",),
    "dual-camera-x2": ("reference",),
}
SCALE = {"super-resolution-known": 4, "dual-camera-x2": 2} | {
    name: int(name[len("super-resolution-x")]) for name in SUITES if name.startswith("super-resolution-x")
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photographs in every set that the tests name; the pairs' inputs are noisier than their truth."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE] / 9
    smooth = 0.5 + 0.4 * np.sin(y + 1)[..., None] * np.cos(x[..., None] + np.arange(3))
    for source in {test.source for name in SUITES for suite in SUITES[name] for test in suite.tests}:
        folder = root / source.folder
        for number in range(2):
            noise = 0.05 * rng.standard_normal(smooth.shape)
            if isinstance(source, Synthetic):
                save(folder / f"{number}.png", smooth)
            else:
                truth = source.truth if isinstance(source, Pairs) else "gt"
                save(folder / truth / f"{number}.png", smooth)
                save(folder / "input" / f"{number}.png", smooth + noise)
    return root


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(image.clip(0, 1) * 255).astype(np.uint8)).save(path)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., str]:
    """A model of that name that changes next to nothing, as a file."""

    def make(name: str, **options: Any) -> str:
        base = name.removesuffix("-detail")
        gray = all(suite.channels == 1 for suite in SUITES.get(base, ())) and base in SUITES
        chosen = {"channels": 1 if gray else 3, "extra": EXTRA.get(base, ()), "scale": SCALE.get(base, 1)} | options
        return str(tiny_model(tmp_path / f"{name}.onnx", name=name, **chosen))

    return make


@pytest.mark.parametrize("name", SUITES)
def test_every_task_is_measured_beside_its_input_and_a_classical_method(
    name: str, data: Path, make: Callable[..., str], tmp_path: Path
) -> None:
    report = zoo.measure_zoo(data, tmp_path / "zoo.json", models=[make(name)], limit=1, say=lambda line: None)
    model = report["models"][name]
    assert [suite["title"] for suite in model["suites"]] == [suite.title for suite in SUITES[name]]
    for suite in model["suites"]:
        for test in suite["tests"]:
            kinds = [row["kind"] for row in test["rows"]]
            assert kinds.count("model") == 1
            assert kinds.count("input") == (SCALE.get(name, 1) == 1)
            assert "classical" in kinds
            assert (test["images"], test["of"]) == (1, 2)
            measured = [row for row in test["rows"] if row["kind"] != "published"]
            assert all(np.isfinite(value) for row in measured for value in row.values() if isinstance(value, float))
            assert all(("psnr_y" in row) == (test["luma_border"] is not None) for row in measured)
            coloured = SUITES[name][0].channels == 3
            assert all(("ciede2000" in row) == coloured for row in measured)


def test_a_run_of_one_model_replaces_its_rows_only(data: Path, make: Callable[..., str], tmp_path: Path) -> None:
    out = tmp_path / "zoo.json"
    measure = lambda *names, **options: zoo.measure_zoo(  # noqa: E731
        data, out, models=[make(name) for name in names], say=lambda line: None, **options
    )
    measure("prior", "prior-gray", limit=1)
    before = json.loads(out.read_text())
    measure("prior-gray")
    after = json.loads(out.read_text())
    assert after["models"]["prior"] == before["models"]["prior"]
    assert after["models"]["prior-gray"]["suites"][0]["tests"][0]["images"] == 2
    assert "--limit" in before["models"]["prior-gray"]["command"]
    assert "--limit" not in after["models"]["prior-gray"]["command"]
    for key in ("sha256", "graph_sha256", "machine", "provider", "version"):
        assert after["models"]["prior-gray"][key]


def test_baselines_are_kept_only_when_asked_and_only_for_the_same_images_and_settings(
    data: Path, make: Callable[..., str], tmp_path: Path
) -> None:
    out = tmp_path / "zoo.json"
    zoo.measure_zoo(data, out, models=[make("prior-gray")], limit=1, say=lambda line: None)
    marked = json.loads(out.read_text())
    for test in marked["models"]["prior-gray"]["suites"][0]["tests"]:
        for row in test["rows"]:
            row["psnr"] = -1.0
    out.write_text(json.dumps(marked))

    def psnr_of_input(**options: Any) -> float:
        report = zoo.measure_zoo(data, out, models=[make("prior-gray")], say=lambda line: None, **options)
        rows = report["models"]["prior-gray"]["suites"][0]["tests"][0]["rows"]
        assert rows[0]["kind"] == "model"
        assert rows[0]["psnr"] > 0
        return next(row["psnr"] for row in rows if row["kind"] == "input")

    assert psnr_of_input(limit=1, keep_baselines=True) == -1
    assert psnr_of_input(limit=2, keep_baselines=True) > 0
    out.write_text(json.dumps(marked))
    assert psnr_of_input(limit=1) > 0
    marked["models"]["prior-gray"]["suites"][0]["tests"][0]["rows"][2]["settings"] = {"strength": 9.0}
    out.write_text(json.dumps(marked))
    assert psnr_of_input(limit=1, keep_baselines=True) > 0


def test_a_missing_set_is_named_and_the_others_are_measured(make: Callable[..., str], tmp_path: Path) -> None:
    save(tmp_path / "data/paired/real_noise/PolyU/gt/a.png", np.full((48, 48, 3), 0.4))
    save(tmp_path / "data/paired/real_noise/PolyU/input/a.png", np.full((48, 48, 3), 0.5))
    said: list[str] = []
    report = zoo.measure_zoo(tmp_path / "data", tmp_path / "z.json", models=[make("denoise-fast")], say=said.append)
    (suite,) = report["models"]["denoise-fast"]["suites"]
    assert [test["name"] for test in suite["tests"]] == ["PolyU"]
    assert any("test/CBSD68" in line for line in said)
    assert any("CC15_Nam" in line for line in said)


def test_a_stochastic_model_is_asked_for_its_spread(data: Path, make: Callable[..., str], tmp_path: Path) -> None:
    report = zoo.measure_zoo(data, tmp_path / "z.json", models=[make("low-light-detail")], say=lambda line: None)
    (suite,) = report["models"]["low-light-detail"]["suites"]
    spread = suite["tests"][0]["spread"]
    assert (spread["samples"], spread["images"]) == (8, 2)
    assert spread["mean_std"] == pytest.approx(255 * 0.01 * np.sqrt(2), rel=0.2)  # two draws, a hundredth of each
    one, together = suite["tests"][0]["rows"][:2]
    assert (one["kind"], together["kind"]) == ("model", "mean")
    assert together["method"] == "low-light-detail, mean of 8"
    assert together["psnr"] > one["psnr"]
    assert "denoise" not in report["models"]


def test_an_honest_interval_holds_nine_truths_in_ten() -> None:
    rng = np.random.default_rng(0)
    spread = np.exp(rng.standard_normal((64, 64)))
    draws = spread * rng.standard_normal((9, 64, 64))
    found = reliability(draws[:8].mean(axis=0), draws[:8].std(axis=0), draws[8])
    assert found["coverage_of_90"] == pytest.approx(0.9, abs=0.015)
    assert found["rank_correlation_pixels"] > 0.3


def test_a_fine_tuned_model_has_the_tests_of_its_recipe() -> None:
    assert suites("mine", "derain") == SUITES["derain"]
    assert suites("derain-detail") == SUITES["derain"]
    assert suites("mine", "mine") == ()


def test_every_shipped_model_and_every_recipe_is_in_the_table_or_excused() -> None:
    shipped = [(entry.name, entry.metadata.recipe) for entry in library.models() if entry.shipped]
    recipes = [(path.stem, "") for path in RECIPES.glob("*.toml")]
    for name, recipe in shipped + recipes:
        assert suites(name, recipe) or name in ELSEWHERE, name


def test_a_limit_takes_images_from_the_whole_set() -> None:
    assert limited(68, None) == list(range(68))
    assert limited(68, 4) == [0, 17, 34, 51]
    assert limited(3, 8) == [0, 1, 2]
    assert all(len(limited(count, 5)) <= 5 for count in range(1, 70))


def test_what_cannot_be_measured_is_refused_in_one_line(data: Path, make: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are no tests for"):
        zoo.measure_zoo(data, tmp_path / "z.json", models=[make("mine")])
    with pytest.raises(InputError, match="no folder"):
        zoo.measure_zoo(tmp_path / "none", tmp_path / "z.json", models=[make("prior")])
    out = tmp_path / "z.json"
    with pytest.raises(InputError, match=r"1 not measured: .*raindrop"):
        zoo.measure_zoo(data, out, models=[make("raindrop", extra=("kernel",)), make("prior")], say=lambda line: None)
    assert list(json.loads(out.read_text())["models"]) == ["prior"]
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(InputError, match="not written by"):
        zoo.measure_zoo(data, tmp_path / "other.json", models=[make("prior")])


def test_json_holds_no_more_places_than_mean_something() -> None:
    from restonnx.training.evaluation.measures import Quality

    assert rounded(Quality(30.123456, 0.912345678, ciede2000=1.23456789)) == {
        "psnr": 30.123,
        "ssim": 0.9123,
        "ciede2000": 1.2346,
    }
