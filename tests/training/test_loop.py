from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from restonnx.errors import Cancelled, InputError, ModelError, RestonnxError
from restonnx.training import checkpoint as checkpoints
from restonnx.training import loop
from restonnx.training.loop import learning_rate, train
from restonnx.training.recipe import RECIPES, load


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path)


def test_a_stopped_run_that_goes_on_equals_the_run_that_was_never_stopped(
    recipe: Path, photographs: Path, tmp_path: Path
) -> None:
    whole = train(recipe, data=photographs, out=tmp_path / "whole", quiet=True)
    stopped = tmp_path / "stopped"
    for _ in range(100):  # each call stops after its first iteration
        train(recipe, data=photographs, out=stopped, minutes=0.0, quiet=True)
        if checkpoints.load(stopped / "checkpoint.safetensors").iteration == 12:
            break
    again = weights(stopped / "checkpoint.safetensors")
    assert again.keys() == weights(whole).keys()
    for name, value in weights(whole).items():
        assert torch.equal(again[name], value), name


@pytest.mark.slow
def test_a_killed_process_goes_on_from_its_last_checkpoint(recipe: Path, photographs: Path, tmp_path: Path) -> None:
    out, options = tmp_path / "killed", ["training.iterations=60"]
    whole = train(recipe, data=photographs, out=tmp_path / "whole", overrides=options, quiet=True)
    code = (
        "import sys; from restonnx.training.loop import train;"
        f"train(sys.argv[1], data=sys.argv[2], out=sys.argv[3], overrides={options!r}, quiet=True)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, recipe, photographs, out], env=_environment())
    deadline = time.monotonic() + 60
    while not (out / "checkpoint.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoints.load(out / "checkpoint.safetensors").iteration < 60
    resumed = train(recipe, data=photographs, out=out, overrides=options, quiet=True)
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(resumed)[name], value, rtol=0, atol=0, msg=name)


@pytest.mark.slow
def test_two_processes_compute_what_one_computes_with_the_whole_batch(
    recipe: Path, photographs: Path, tmp_path: Path
) -> None:
    options = ["training.iterations=100"]
    alone = train(recipe, data=photographs, out=tmp_path / "alone", overrides=options, quiet=True)
    script = tmp_path / "two.py"
    script.write_text(
        "import sys\nfrom restonnx.training.loop import train\n"
        f"train(sys.argv[1], data=sys.argv[2], out=sys.argv[3], overrides={options!r}, quiet=True, device='cpu')\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [*launch, script, recipe, photographs, tmp_path / "two"], check=True, env=_environment(), timeout=100
    )
    losses = [
        json.loads((folder / "log.jsonl").read_text())["loss"] for folder in (tmp_path / "alone", tmp_path / "two")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=2e-6)
    for name, value in weights(alone).items():
        other = weights(tmp_path / "two" / "checkpoint.safetensors")[name]
        torch.testing.assert_close(other, value, rtol=1e-3, atol=2e-5, msg=name)


def test_training_lowers_the_loss_and_logs_it(
    recipe: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "LOG_EVERY", 20)
    options = ["training.iterations=240", "training.lr=3e-3", "degradation.sigma=[50, 50]", "sampler.kappa=0.02"]
    train(recipe, data=photographs, out=tmp_path / "run", overrides=options, quiet=True)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert len(losses) == 12
    assert losses[-1] < 0.85 * losses[0]
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_a_run_is_not_continued_with_another_recipe_nor_overwritten(
    recipe: Path, photographs: Path, tmp_path: Path
) -> None:
    short = ["training.iterations=1"]
    train(recipe, data=photographs, out=tmp_path, overrides=short, quiet=True)
    with pytest.raises(InputError, match="another recipe"):
        train(recipe, data=photographs, out=tmp_path, overrides=[*short, "sampler.kappa=0.2"], quiet=True)
    with pytest.raises(InputError, match="exists"):
        train(recipe, data=photographs, out=tmp_path, overrides=short, resume=False, quiet=True)


def test_a_file_is_no_folder_of_a_run(recipe: Path, photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(InputError, match="run is a file: give the name of a folder"):
        train(recipe, data=photographs, out=tmp_path / "run", quiet=True)
    assert (tmp_path / "run").read_text() == "mine"


def test_a_network_too_unlike_is_no_start(recipe: Path, photographs: Path, tmp_path: Path) -> None:
    options = ["training.iterations=1"]
    first = train(recipe, data=photographs, out=tmp_path / "first", overrides=options, quiet=True)
    other = [*options, "network.widths=[24, 32]"]
    with pytest.raises(InputError, match="of the weights fit"):
        train(recipe, data=photographs, out=tmp_path / "second", overrides=other, init=first, quiet=True)


def test_the_log_of_a_killed_run_has_every_iteration_once(recipe: Path, photographs: Path, tmp_path: Path) -> None:
    run = [json.dumps({"iteration": n, "seconds": 1.0, "loss": 1.0, "lr": 1.0}) for n in (0, 500)]
    (tmp_path / "log.jsonl").write_text("\n".join(run) + '\n{"iteration": 12, "seco')
    train(recipe, data=photographs, out=tmp_path, quiet=True)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [0, 12]


class SetAfter:
    """A `cancel` that is set from its nth look on."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    def is_set(self) -> bool:
        self.left -= 1
        return self.left <= 0


def test_a_cancelled_run_has_kept_its_last_iteration(recipe: Path, photographs: Path, tmp_path: Path) -> None:
    whole = train(recipe, data=photographs, out=tmp_path / "whole", quiet=True)
    with pytest.raises(Cancelled, match="stopped at iteration 5: the same command goes on"):
        train(recipe, data=photographs, out=tmp_path / "run", quiet=True, cancel=SetAfter(5))
    kept = tmp_path / "run" / "checkpoint.safetensors"
    assert checkpoints.load(kept).iteration == 5
    assert kept.stat().st_mode == kept.with_name("log.jsonl").stat().st_mode
    train(recipe, data=photographs, out=tmp_path / "run", quiet=True)
    assert all(torch.equal(weights(kept)[name], value) for name, value in weights(whole).items())


@pytest.mark.parametrize(
    ("device", "processes", "message"),
    [("banana", "1", "\"cuda:N\", not 'banana'"), ("cuda:1", "2", "2 processes cannot share cuda:1")],
)
def test_a_device_that_cannot_be_is_refused(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, processes: str, message: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", processes)
    with pytest.raises(InputError, match=message):
        train(recipe, data=tmp_path, out=tmp_path, device=device)


@pytest.mark.parametrize(("minutes", "how"), [("9", "the loss is nan"), ("1e-9", "the weights are no longer finite")])
def test_a_diverged_run_leaves_the_checkpoint_before_it_and_goes_on_at_a_lower_rate(
    recipe: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: str, how: str
) -> None:
    train(recipe, data=photographs, out=tmp_path, overrides=["training.iterations=2"], quiet=True)
    options = [f"training.checkpoint_minutes={minutes}"]
    sound = loop.Crops.batch
    with monkeypatch.context() as broken:
        broken.setattr(loop.Crops, "batch", lambda *given: sound(*given) * (math.nan if given[1] >= 3 else 1))
        with pytest.raises(RestonnxError, match=how):
            train(recipe, data=photographs, out=tmp_path, overrides=options, quiet=True)
    kept = tmp_path / "checkpoint.safetensors"
    assert checkpoints.load(kept).iteration == (2 if minutes == "9" else 3)
    train(recipe, data=photographs, out=tmp_path, overrides=["training.lr=1e-4"], quiet=True)
    assert checkpoints.load(kept).iteration == 12
    assert all(value.isfinite().all() for value in weights(kept).values())


def test_a_model_starts_from_the_weights_of_a_sibling_that_fit(recipe: Path, photographs: Path, tmp_path: Path) -> None:
    options = ["training.iterations=1", "training.lr=1e-12", "training.min_lr=0"]
    first = train(recipe, data=photographs, out=tmp_path / "first", overrides=options, quiet=True)
    gray = [*options, "network.channels=1", "about.domain=display_gray", "training.seed=5"]
    second = train(recipe, data=photographs, out=tmp_path / "second", overrides=gray, init=first, quiet=True)
    a, b = weights(first), weights(second)
    name = "ema.encoder.down_blocks.0.0.conv1.weight"
    torch.testing.assert_close(a[name], b[name])
    assert a["ema.encoder.conv_in.weight"].shape != b["ema.encoder.conv_in.weight"].shape


def test_the_rate_warms_up_and_falls_to_its_minimum(recipe: Path) -> None:
    settings = load(recipe, ["training.warmup=10"]).training
    assert learning_rate(settings, 0, 0.0) == pytest.approx(settings.lr / 10)
    assert learning_rate(settings, 50, 0.0) == pytest.approx(settings.lr)
    assert learning_rate(settings, 50, 1.0) == pytest.approx(settings.min_lr)


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\x00" * 64])
def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not a safetensors checkpoint"):
        checkpoints.load(path)


def test_a_folder_without_photographs_is_refused(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, message in (("empty", "no image of at least"), ("nowhere", "there is no folder")):
        with pytest.raises(InputError, match=message):
            train(recipe, data=tmp_path / folder, out=tmp_path / "run", quiet=True)


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


def test_a_model_says_what_it_was_trained_on(recipe: Path, photographs: Path, tmp_path: Path) -> None:
    begun = train(recipe, data=photographs, out=tmp_path / "begun", overrides=["training.iterations=1"], quiet=True)
    about = checkpoints.load(begun).recipe.about
    assert [(source.name, source.licence) for source in about.training_data] == [("photographs", "not stated")]
    assert (about.licence, about.authors) == ("not stated", ())

    other = photographs.rename(tmp_path / "others")
    options = ["training.iterations=2", "about.licence=CC-BY-4.0", "sampler.steps=3"]
    run = {"data": other, "out": tmp_path / "next", "overrides": options, "quiet": True}
    path = train(recipe, init=begun, minutes=0, **run)
    assert checkpoints.load(path).iteration < 2
    about = checkpoints.load(train(recipe, **run)).recipe.about  # goes on
    assert [source.name for source in about.training_data] == ["others", "photographs"]
    assert about.licence == "CC-BY-4.0"


def test_a_shipped_recipe_does_not_lend_its_data_and_authors(photographs: Path, tmp_path: Path) -> None:
    small = ["network.widths=[16]", "network.down=[1]", "network.up=[]", "training.patch=16", "training.batch=1"]
    options = [*small, "training.iterations=1"]
    path = train("dehaze", data=photographs, out=tmp_path / "run", overrides=options, quiet=True)
    about = checkpoints.load(path).recipe.about
    assert ([source.name for source in about.training_data], about.licence, about.authors) == (
        ["photographs"],
        "not stated",
        (),
    )
    told = load("dehaze").about
    assert (told.licence, told.authors, len(told.training_data)) == ("Apache-2.0", ("The restonnx authors",), 3)
    own = tmp_path / "own.toml"
    own.write_text((RECIPES / "dehaze.toml").read_text())
    path = train(own, data=photographs, out=tmp_path / "own", overrides=options, quiet=True)
    assert checkpoints.load(path).recipe.about == told
