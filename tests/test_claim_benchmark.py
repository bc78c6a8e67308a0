"""The benchmark of the claim compares objectives, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("torch", reason='training needs torch: pip install "restonnx[train]"')
pytest.importorskip("onnx", reason='the chain is unrolled as for export: pip install "restonnx[train]"')

import benchmark_modules

from restonnx.training.recipe import Recipe, load


@pytest.fixture(scope="module")
def claim() -> ModuleType:
    return benchmark_modules.load("data_consistency")


def recipe(claim: ModuleType, task: str, variant: str) -> Recipe:
    return load(claim.RECIPE, [*claim.of_task(task), *claim.VARIANTS[variant]])


def test_a_tasks_variants_differ_in_their_objective_alone_and_see_the_shipped_recipes_damage(claim: ModuleType) -> None:
    for task in claim.TASKS:
        recipes = [recipe(claim, task, variant) for variant in claim.VARIANTS]
        assert len({made.objective.model_dump_json() for made in recipes}) == len(recipes)
        others = {made.model_copy(update={"objective": None}).model_dump_json(warnings=False) for made in recipes}
        assert len(others) == 1
        assert recipes[0].degradation == load(task).degradation
        assert recipes[0].scale == load(task).scale


def test_only_the_full_chain_keeps_more_than_one_step_for_its_gradient(claim: ModuleType) -> None:
    forward, detached, full = (claim.kept_for_backward(recipe(claim, "denoise", variant)) for variant in claim.VARIANTS)
    assert forward == pytest.approx(detached, rel=0.01)
    assert full > 1.5 * forward


def test_a_task_measured_again_leaves_the_others_as_they_are(claim: ModuleType) -> None:
    last, first = claim.TASKS[-1], claim.TASKS[0]
    before = {last: {"minutes": 1}, first: {"minutes": 2}}
    assert list(claim.with_task(before, "denoise", {"minutes": 3}).items()) == [
        (first, {"minutes": 2}),
        ("denoise", {"minutes": 3}),
        (last, {"minutes": 1}),
    ]
    assert claim.with_task(before, last, {"minutes": 4})[last] == {"minutes": 4}


def test_a_picture_is_drawn_of_what_the_results_hold(
    claim: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(claim, "RESULTS", tmp_path / "none.json")
    assert claim.measured() == {}
    monkeypatch.setattr(claim, "RESULTS", tmp_path / "claim.json")
    monkeypatch.setattr(claim, "PICTURE", tmp_path / "claim.webp")
    errors = {"modular_mse": 1e-3, "cumulative_mse": 2e-3, "modular_psnr": 30.0, "cumulative_psnr": 27.0}
    steps = [{"t": t} | errors for t in (1, 0)]
    variants = {name: {"steps": steps} for name in claim.VARIANTS}
    claim.RESULTS.write_text(json.dumps({"tasks": {"denoise": {"variants": variants}}}))
    claim.picture()
    assert 0 < (tmp_path / "claim.webp").stat().st_size < 100_000
