"""`restonnx export` of published weights and of solvers hands its options on, and refuses what does not go together."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from restonnx.cli import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """What the functions behind the command were called with; nothing heavy is imported."""
    monkeypatch.setattr("restonnx.cli.extras.find_spec", lambda name: ModuleSpec(name, None))
    written = tmp_path / "written.onnx"
    written.write_bytes(b"0" * 1_500_000)
    done = SimpleNamespace(errors=(2e-6,), path=written, metadata=SimpleNamespace(name="made"))
    found: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def record(*positional: Any, **named: Any) -> Any:
        found.append((positional, named))
        return done

    class Chosen(dict[str, Any]):
        def model_dump(self) -> dict[str, Any]:
            return dict(self)

    def parse(kind: str, settings: list[str]) -> Any:
        return Chosen(text.split("=") for text in settings), {}

    package = ModuleType("restonnx.onnx_export")
    monkeypatch.setitem(sys.modules, "restonnx.onnx_export", package)
    for module, content in {
        "published": {"export_published": record},
        "dcdp_export": {"export_dcdp": record},
        "options": {"parse": parse},
        "export": {"export_checkpoint": record},
    }.items():
        stand_in = ModuleType(f"restonnx.onnx_export.{module}")
        vars(stand_in).update(content)
        monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    return found


def test_a_trained_chain_is_exported_with_its_steps_and_order(calls: list[Any], tmp_path: Path) -> None:
    output = tmp_path / "x.onnx"
    result = run("export", "a.safetensors", "-o", output, "--steps", 2, "--order", "residual_first")
    assert result.exit_code == 0, result.output
    ((positional, named),) = calls
    assert positional == (Path("a.safetensors"), output)
    assert named == {"steps": 2, "order": "residual_first", "name": None, "precision": "float16"}


def test_a_model_of_the_library_is_exported_again(calls: list[Any], tmp_path: Path) -> None:
    result = run("export", "denoise", "-o", tmp_path / "x.onnx", "--precision", "int8-weights")
    assert result.exit_code == 0, result.output
    ((positional, named),) = calls
    assert (positional[0].name, positional[0].is_file()) == ("denoise.onnx", True)
    assert named["precision"] == "int8-weights"
    assert "did you mean denoise" in run("export", "denois", "-o", tmp_path / "y.onnx").stderr


def test_a_published_checkpoint_is_exported_with_its_settings(calls: list[Any], tmp_path: Path) -> None:
    output = tmp_path / "folder" / "x.onnx"
    result = run(
        *("export", "--from", "a.pth", "--as", "resshift", "-o", output, "--autoencoder", "vq.pth", "--steps", 15),
        *("--scale", 4, "--set", "kappa=1", "--set", "network.num_heads=2", "--licence", "MIT", "--name", "mine"),
    )
    assert result.exit_code == 0, result.output
    ((positional, named),) = calls
    assert positional == (Path("a.pth"), "resshift", output)
    assert named == {
        "settings": ["kappa=1", "network.num_heads=2", "scale=4", "steps=15"],
        "autoencoder": Path("vq.pth"),
        "name": "mine",
        "title": None,
        "licence": "MIT",
        "precision": "float16",
    }
    assert output.parent.is_dir()
    assert "made" in result.stdout
    assert "1.5 MB" in result.stdout


def test_a_prior_becomes_a_solver(calls: list[Any], tmp_path: Path) -> None:
    output = tmp_path / "x.onnx"
    result = run("export", "prior", "--as", "dcdp", "--operator", "superresolve", "--scale", 3, "-o", output)
    assert result.exit_code == 0, result.output
    ((positional, named),) = calls
    assert positional == ("prior", output)
    assert named == {
        "operator": "superresolve",
        "scale": "3",
        "name": None,
        "title": None,
        "precision": "float16",
    }


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "give either CHECKPOINT, or --from FILE"),
        (("a.safetensors", "--from", "b.pth", "--as", "adm"), "give either CHECKPOINT, or --from FILE"),
        (("--from", "b.pth"), "--from FILE goes with --as KIND"),
        (("--from", "b.pth", "--as", "dcdp", "--operator", "blur"), "--from FILE goes with --as KIND"),
        (("a.safetensors", "--as", "adm"), "pass their file with --from"),
        (("prior", "--as", "dcdp"), "needs --operator"),
        (("prior", "--as", "dcdp", "--operator", "blur", "--licence", "MIT"), "--licence: only together with --from"),
        (("--from", "b.pth", "--as", "adm", "--operator", "blur"), "--operator: only together with --as dcdp"),
        (("a.safetensors", "--set", "kappa=1", "--title", "x"), "--set and --title: only together with --as"),
        (("--from", "b.pth", "--as", "rddm", "--order", "together"), "with --as rddm it is --set order="),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    calls: list[Any], tmp_path: Path, words: tuple[str, ...], complaint: str
) -> None:
    result = run("export", *words, "-o", tmp_path / "x.onnx")
    assert result.exit_code == 1
    assert complaint in result.stderr
    assert result.stderr.count("\n") == 1
    assert not calls
