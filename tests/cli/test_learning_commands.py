"""`train`, `evaluate`, `error-curves` and `export` hand their options on, and say what is missing."""

from __future__ import annotations

import importlib.util
import sys
import threading
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from restonnx.cli import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


class Recorder:
    """Stands in for the function behind a command and keeps what it was called with."""

    def __init__(self, result: object = None) -> None:
        self.result = result
        self.positional: tuple[Any, ...] = ()
        self.named: dict[str, Any] = {}

    def __call__(self, *positional: Any, **named: Any) -> object:
        self.positional, self.named = positional, named
        return self.result


@pytest.fixture(autouse=True)
def _everything_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands are tested without the packages of the extra `train`."""
    monkeypatch.setattr("restonnx.cli.extras.find_spec", lambda name: ModuleSpec(name, None))


def stand_in(monkeypatch: pytest.MonkeyPatch, module: str, name: str, result: object = None) -> Recorder:
    recorder = Recorder(result)
    package = module.rpartition(".")[0]
    if package not in sys.modules:
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
    replacement = ModuleType(module)
    setattr(replacement, name, recorder)
    monkeypatch.setitem(sys.modules, module, replacement)
    return recorder


def test_train_hands_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    train = stand_in(monkeypatch, "restonnx.training.loop", "train", Path("runs/x/checkpoint.safetensors"))
    result = run(
        *("train", "denoise", "--data", "photos", "--out", "runs/x", "--no-resume", "--minutes", 5),
        *("--set", "training.batch=4", "--set", "training.lr=1e-4", "--from", "old.safetensors"),
    )
    assert result.exit_code == 0, result.output
    assert train.positional == ("denoise",)
    assert isinstance(train.named.pop("cancel"), threading.Event)
    assert train.named == {
        "data": Path("photos"),
        "pairs": None,
        "out": Path("runs/x"),
        "resume": False,
        "minutes": 5.0,
        "overrides": ["training.batch=4", "training.lr=1e-4"],
        "init": Path("old.safetensors"),
        "device": "auto",
    }
    assert "runs/x/checkpoint.safetensors" in result.stdout


def test_train_names_the_runs_folder_after_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    train = stand_in(monkeypatch, "restonnx.training.loop", "train")
    run("train", "recipes/mine.toml", "--data", "photos")
    assert train.named["out"] == Path("runs/mine")
    assert train.named["resume"] is True


def test_a_setting_without_a_value_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    train = stand_in(monkeypatch, "restonnx.training.loop", "train")
    result = run("train", "denoise", "--data", "photos", "--set", "training.batch")
    assert result.exit_code == 2
    assert "KEY=VALUE" in result.stderr
    assert train.positional == ()


@pytest.mark.parametrize(
    "words",
    [
        ("denoise", "mine.onnx", "--data", "photos", "--sigma", 15, 25, 50, "--baselines"),
        ("--data", "photos", "--baselines", "--sigma", 15, 25, 50, "denoise", "mine.onnx"),
        (
            "denoise",
            "--sigma",
            15,
            "--sigma",
            25,
            "--sigma",
            50,
            "mine.onnx",
            "--data",
            "photos",
            "--baselines",
        ),
        ("denoise", "mine.onnx", "--data", "photos", "--baselines"),
    ],
)
def test_evaluate_takes_several_levels_and_models(monkeypatch: pytest.MonkeyPatch, words: tuple[object, ...]) -> None:
    evaluate = stand_in(monkeypatch, "restonnx.training.evaluate", "evaluate")
    result = run("evaluate", *words)
    assert result.exit_code == 0, result.output
    assert evaluate.positional == (["denoise", "mine.onnx"],)
    assert evaluate.named["sigma"] == [15.0, 25.0, 50.0]
    assert evaluate.named["data"] == Path("photos")
    assert evaluate.named["baselines"] is True


def zoo(monkeypatch: pytest.MonkeyPatch) -> tuple[Recorder, Recorder]:
    """Stand-ins for what measures and for what writes the tables."""
    monkeypatch.setitem(sys.modules, "restonnx.training.evaluation", ModuleType("restonnx.training.evaluation"))
    measure = stand_in(monkeypatch, "restonnx.training.evaluation.zoo", "measure_zoo", {"models": {}})
    write = stand_in(monkeypatch, "restonnx.training.evaluation.documents", "write", [Path("README.md")])
    sys.modules["restonnx.training.evaluation.documents"].RESULTS = Path("benchmarks/results/zoo.json")  # type: ignore[attr-defined]
    return measure, write


def test_evaluate_all_measures_the_named_models_and_writes_the_tables_of_a_clone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measure, write = zoo(monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert run("evaluate", "--all").exit_code == 2  # not in a clone
    (tmp_path / "benchmarks/results").mkdir(parents=True)
    result = run("evaluate", "--all", "--model", "denoise", "mine.onnx", "--limit", 4, "--keep-baselines")
    assert result.exit_code == 0, result.output
    assert measure.positional == (Path("../shared/data"), Path("benchmarks/results/zoo.json"))
    assert measure.named.pop("say")
    assert measure.named == {"models": ["denoise", "mine.onnx"], "limit": 4, "keep_baselines": True}
    assert write.positional == (Path(), {"models": {}})
    assert "README.md" in result.stderr


def test_evaluate_all_leaves_the_tables_alone_when_the_numbers_go_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    measure, write = zoo(monkeypatch)
    assert run("evaluate", "--all", "--data", "sets", "--json", "mine.json").exit_code == 0
    assert measure.positional == (Path("sets"), Path("mine.json"))
    assert measure.named["models"] == []
    assert write.positional == ()


@pytest.mark.parametrize(
    "words",
    [
        ("--all", "denoise"),
        ("--all", "--sigma", 25),
        ("--all", "--baselines"),
        ("denoise", "--data", "photos", "--limit", 4),
        ("denoise", "--data", "photos", "--model", "prior"),
        ("--data", "photos"),
        ("denoise",),
    ],
)
def test_options_of_evaluate_that_do_not_go_together_are_wrong_usage(words: tuple[object, ...]) -> None:
    assert run("evaluate", *words).exit_code == 2


def test_error_curves_hands_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    compare = stand_in(monkeypatch, "restonnx.training.error_curves", "compare")
    words = ("a.safetensors", "derain", "b.onnx", "--data", "photos", "--json", "a.json", "-o", "a.png", "--limit", 9)
    result = run("error-curves", *words)
    assert result.exit_code == 0, result.output
    assert compare.positional == (["a.safetensors", "derain", "b.onnx"],)
    assert compare.named == {
        "data": Path("photos"),
        "output": Path("a.png"),
        "json": Path("a.json"),
        "overrides": [],
        "limit": 9,
    }


def test_export_hands_its_options_on_and_makes_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    output = tmp_path / "new" / "fast.onnx"
    written = tmp_path / "other.onnx"
    written.write_bytes(b"0" * 2_500_000)
    done = SimpleNamespace(errors=(1e-6, 3e-6), path=written, metadata=SimpleNamespace(name="fast"))
    export = stand_in(monkeypatch, "restonnx.onnx_export.export", "export_checkpoint", done)
    result = run("export", "a.safetensors", "-o", output, "--steps", 1, "--name", "fast", "--precision", "float32")
    assert result.exit_code == 0, result.output
    assert export.positional == (Path("a.safetensors"), output)
    assert export.named == {"order": None, "steps": 1, "name": "fast", "precision": "float32"}
    assert output.parent.is_dir()
    assert "3.0e-06" in result.stdout
    assert "2.5 MB" in result.stdout


def test_export_keeps_a_file_that_exists(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    export = stand_in(monkeypatch, "restonnx.onnx_export.export", "export_checkpoint")
    (tmp_path / "mine.onnx").write_bytes(b"mine")
    result = run("export", "a.safetensors", "-o", tmp_path / "mine.onnx")
    assert result.exit_code == 1
    assert "--overwrite" in result.stderr
    assert export.positional == ()


@pytest.mark.parametrize(
    "words",
    [
        ("train", "denoise", "--data", "photos"),
        ("error-curves", "a.safetensors", "--data", "photos"),
        ("export", "a.safetensors", "-o", "a.onnx"),
    ],
)
def test_without_torch_one_line_gives_the_command_that_adds_it(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    def spec(name: str) -> ModuleSpec | None:
        return None if name == "torch" else importlib.util.find_spec("json")

    monkeypatch.setattr("restonnx.cli.extras.find_spec", spec)
    result = run(*words)
    assert result.exit_code == 1
    assert result.stderr == 'error: this command needs torch: pip install "restonnx[train]"\n'
