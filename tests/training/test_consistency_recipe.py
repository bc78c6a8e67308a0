"""Consistency models from a recipe: with a teacher and without one, their target kept in the checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from stopped_runs import resumed

from restonnx.errors import InputError
from restonnx.training import checkpoint as checkpoints
from restonnx.training import loop
from restonnx.training.loop import train
from restonnx.training.objectives.build import build_objective, inner
from restonnx.training.processes import Place
from restonnx.training.recipe import load

RECIPE = """
name = "small-fast"

[about]
title = "Small"
description = "For tests."
task = "prior"
domain = "display_rgb"

[network]
kind = "denoiser"
widths = [8, 8]
down = [1, 1]
up = [1]

[sampler]
family = "consistency"

[degradation]
kind = "none"

[objective]
kind = "consistency_training"

[training]
iterations = 12
batch = 2
patch = 16
warmup = 2
checkpoint_minutes = 0.0001
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small-fast.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def teacher(recipe: Path, tmp_path: Path) -> Path:
    """A prior with random weights."""
    prior = load(recipe, ["sampler.family=direct", "objective.kind=denoising"])
    torch.manual_seed(1)
    path = tmp_path / "teacher.safetensors"
    checkpoints.save(path, checkpoints.Checkpoint(prior, prior.build().state_dict(), {}, {}, 1, 1.0))
    return path


def distillation(teacher: Path, **settings: str) -> tuple[str, ...]:
    chosen = {"kind": "distillation", "teacher": f'"{teacher}"', **settings}
    return tuple(f"objective.{key}={value}" for key, value in chosen.items())


@pytest.mark.parametrize("target", ["self", "ema"])
@pytest.mark.parametrize("taught", [True, False])
def test_a_stopped_run_that_goes_on_equals_the_run_that_was_never_stopped(
    recipe: Path, teacher: Path, photographs: Path, tmp_path: Path, target: str, taught: bool
) -> None:
    overrides = (f"objective.target={target}",)
    if taught:
        overrides = distillation(teacher, target=target, loss="pseudo-huber", weighting="gap")
    whole = load_file(train(recipe, data=photographs, out=tmp_path / "whole", overrides=overrides, quiet=True))
    again = load_file(resumed(recipe, photographs, tmp_path / "stopped", overrides))
    assert again.keys() == whole.keys()
    assert all(torch.equal(again[name], value) for name, value in whole.items())
    assert any(name.startswith("objective.target.") for name in whole) == (target == "ema")
    if target == "ema":  # it follows the network, slowly
        target_, network = whole["objective.target.head.conv_out.weight"], whole["network.head.conv_out.weight"]
        start = load(recipe, overrides)
        torch.manual_seed(start.training.seed)
        first = start.build().state_dict()["head.conv_out.weight"]
        assert 0 < (target_ - first).norm() < (network - first).norm()


def test_a_start_from_a_sibling_starts_the_target_too(recipe: Path, teacher: Path) -> None:
    run = loop._Run(load(recipe, ["objective.target=ema"]), Place(torch.device("cpu")))
    run.start_from(teacher)
    saved = checkpoints.load(teacher).ema
    kept = run.snapshot().objective
    assert kept.keys() == {f"target.{name}" for name in saved}
    assert all(torch.equal(kept[f"target.{name}"], value) for name, value in saved.items())


def test_the_recipes_settings_reach_the_objective(recipe: Path, teacher: Path) -> None:
    trained = load(recipe, ["objective.scales=4", "objective.end_scales=20", "objective.target=ema"])
    objective = inner(build_objective(trained, trained.build()))
    assert (objective.teacher, objective.norm, objective.weight) == (None, "pseudo-huber", "gap")
    assert [objective.curriculum.points(progress) for progress in (0, 1)] == [4, 21]
    assert objective.curriculum.adaptive
    plain = load(recipe, distillation(teacher))
    objective = inner(build_objective(plain, plain.build()))
    assert objective.teacher is not None
    assert (objective.target, objective.norm, objective.weight) == (None, "l2", "uniform")
    assert objective.path_steps == 0
    followed = load(recipe, distillation(teacher, path_steps="4"))
    assert inner(build_objective(followed, followed.build())).path_steps == 4


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["sampler.family=direct"], 'goes with objective.kind = "denoising", not "consistency_training"'),
        (["objective.kind=denoising"], '"distillation" or "consistency_training", not "denoising"'),
        (["objective.end_scales=5"], "end_scales must be at least scales"),
        (["objective.target=slow"], "objective.target"),
        (
            ["objective.kind=distillation", "objective.path_steps=4", "objective.weighting=gap"],
            'weighting = "gap" and target = "ema" go with 0',
        ),
        (["objective.teacher=prior"], "unknown key 'objective.teacher'"),
    ],
)
def test_recipes_that_do_not_hold_together_are_refused_in_one_line(
    recipe: Path, overrides: list[str], complaint: str
) -> None:
    with pytest.raises(InputError) as error:
        load(recipe, overrides)
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)
