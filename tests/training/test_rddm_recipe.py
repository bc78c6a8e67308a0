"""RDDM from a recipe: trained, resumed, measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from stopped_runs import resumed

from restonnx.errors import InputError, ModelError
from restonnx.training import checkpoint as checkpoints
from restonnx.training import loop
from restonnx.training.error_curves import error_curves
from restonnx.training.loop import train
from restonnx.training.objectives.rddm import ObjectiveSelection
from restonnx.training.processes import Place
from restonnx.training.recipe import load, parse

RECIPE = """
name = "small-rddm"

[about]
title = "Small"
description = "For tests."
task = "denoise"
domain = "display_rgb"

[network]
kind = "residual_backbone"
widths = [8, 8]
down = [1, 1]
up = [1]

[sampler]
family = "rddm"
steps = 3
total = 50
sum_scale = 0.01

[degradation]
kind = "denoise"
sigma = [20, 30]

[objective]
kind = "rddm"

[training]
iterations = 12
batch = 2
patch = 16
warmup = 2
checkpoint_minutes = 0.0001
"""
GENERATING = ("sampler.generate=true", 'degradation={kind="none"}')
SELECTING = ("objective.prediction=auto", "objective.selection_lr=1e-2", "training.warmup=0")
"""So that the decision falls after a few iterations."""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small-rddm.toml"
    path.write_text(RECIPE)
    return path


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("objective.prediction=pred_res",),
        ("objective.prediction=pred_noise",),
        ("objective.prediction=pred_x0_noise", "network.layout=shared"),
        ("network.layout=two", "sampler.time=cumulative"),
        ("objective.compare=posterior",),
        ("objective.compare=clean", "objective.prediction=pred_res"),
        ("sampler.schedule=linear",),
        ("sampler.sum_scale=0.0", "objective.prediction=pred_res"),
        (*GENERATING, "objective.prediction=pred_noise"),
    ],
)
def test_every_objective_trains_from_a_recipe(
    recipe: Path, photographs: Path, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    path = train(recipe, data=photographs, out=tmp_path / "run", overrides=overrides, quiet=True)
    saved = checkpoints.load(path)
    assert saved.iteration == 12
    before = saved.recipe.build().state_dict()
    assert all(torch.isfinite(value).all() for value in saved.ema.values())
    assert (saved.ema["head.conv_out.bias"] != before["head.conv_out.bias"]).any()


@pytest.mark.parametrize("overrides", [("network.layout=shared",), SELECTING])
def test_a_stopped_run_that_goes_on_equals_the_run_that_was_never_stopped(
    recipe: Path, photographs: Path, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    whole = load_file(train(recipe, data=photographs, out=tmp_path / "whole", overrides=overrides, quiet=True))
    again = load_file(resumed(recipe, photographs, tmp_path / "stopped", overrides))
    assert again.keys() == whole.keys()
    assert all(torch.equal(again[name], value) for name, value in whole.items())


def test_the_selection_ends_begins_anew_and_is_kept(recipe: Path, photographs: Path, tmp_path: Path) -> None:
    path = train(recipe, data=photographs, out=tmp_path / "run", overrides=SELECTING, quiet=True)
    saved = checkpoints.load(path)
    assert int(saved.objective["decision"]) in (0, 1)
    selected = "pred_res" if int(saved.objective["decision"]) else "pred_noise"
    assert saved.settled().recipe.prediction() == selected
    steps = [int(value) for name, value in saved.optimizer.items() if name.endswith(".step")]
    assert 0 < max(steps) < 12  # the optimiser began anew with the network


@pytest.mark.parametrize(("decision", "prediction"), [(0, "pred_noise"), (1, "pred_res")])
def test_the_network_is_read_as_what_was_selected(recipe: Path, decision: int, prediction: str) -> None:
    run = loop._Run(load(recipe, SELECTING), Place(torch.device("cpu")))
    assert isinstance(run.own, ObjectiveSelection)
    with torch.no_grad():
        run.own.preference.fill_(0.45 + 0.1 * decision)
    run._select()
    wanted = load(recipe, [f"objective.prediction={prediction}"]).build()
    assert run.network.noise_head == wanted.noise_head
    again = loop._Run(load(recipe, SELECTING), Place(torch.device("cpu")))
    again.restore(run.snapshot(), Path("x"))
    assert again.network.noise_head == wanted.noise_head
    built = run.snapshot().settled().build()
    x, y = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(built(x, y, 40), run.network(x, y, 40))


def test_an_undecided_selection_says_so(recipe: Path, photographs: Path, tmp_path: Path) -> None:
    path = train(recipe, data=photographs, out=tmp_path / "run", overrides=["objective.prediction=auto"], quiet=True)
    with pytest.raises(ModelError, match="not selected its objective yet"):
        checkpoints.load(path).settled()


def test_error_curves_follow_the_steps_of_the_sampler(recipe: Path, tmp_path: Path) -> None:
    from PIL import Image

    parsed = load(recipe)
    path = tmp_path / "checkpoint.safetensors"
    checkpoints.save(path, checkpoints.Checkpoint(parsed, parsed.build().state_dict(), {}, {}, 1, 1.0))
    folder = tmp_path / "images"
    folder.mkdir()
    Image.effect_noise((200, 200), 60).convert("RGB").save(folder / "noise.png")
    steps = error_curves(path, data=folder).steps
    assert [step.t for step in steps] == [49, 32, 15]
    assert steps[0].modular_mse == pytest.approx(steps[0].cumulative_mse, rel=1e-4)  # both begin at the input
    assert all(0 < step.cumulative_mse < 1 for step in steps)


def test_what_makes_new_images_has_no_error_curves(recipe: Path, tmp_path: Path) -> None:
    parsed = load(recipe, GENERATING)
    path = tmp_path / "checkpoint.safetensors"
    checkpoints.save(path, checkpoints.Checkpoint(parsed, parsed.build().state_dict(), {}, {}, 1, 1.0))
    with pytest.raises(InputError, match="makes new images"):
        error_curves(path, data=tmp_path)


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["network.kind=backbone"], 'sampler.family = "rddm" goes with network.kind = "residual_backbone"'),
        (["objective.kind=forward_noised"], 'goes with objective.kind = "rddm", not "forward_noised"'),
        (["network.layout=two", "objective.prediction=pred_res"], "is for two outputs"),
        (["sampler.time=cumulative"], 'must be "shared" or "two"'),
        (["sampler.steps=60"], "steps must be at most total"),
        (["sampler.generate=true"], 'goes with degradation.kind = "none"'),
        ([*GENERATING, "sampler.sum_scale=0"], "needs noise to start from"),
        (['sampler.alpha=["rising", 1]'], "sampler"),
        (["objective.compare=posterior", "objective.prediction=pred_res"], "goes with prediction"),
        (["objective.first_share=0.5", "objective.prediction=auto"], "a prediction that is decided"),
        (["objective.compare=clean"], 'goes with prediction = "pred_res"'),
        (["sampler.sumscale=1"], "nearest right one is 'sum_scale'"),
    ],
)
def test_recipes_that_do_not_hold_together_are_refused_in_one_line(
    recipe: Path, overrides: list[str], complaint: str
) -> None:
    with pytest.raises(InputError) as error:
        load(recipe, overrides)
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_a_stored_recipe_is_read_again(recipe: Path) -> None:
    parsed = load(recipe, ['sampler.alpha=["increased", 0.3]', "sampler.order=residual_first"])
    assert parse(parsed.model_dump(mode="json", by_alias=True)) == parsed
