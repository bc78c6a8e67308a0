"""`restonnx doctor`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import restonnx
from restonnx import providers
from restonnx.cli import app
from restonnx.cli import doctor as doctor_module

NO_DRIVER = "libcuda.so.1 was not found: install the NVIDIA driver"


@pytest.fixture(autouse=True)
def healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sound installation on a computer without a card; each test breaks something."""
    monkeypatch.setitem(restonnx.__dict__, "__version__", "1.2.3")
    pretend(monkeypatch, cuda=NO_DRIVER, card=False)


def pretend(monkeypatch: pytest.MonkeyPatch, *, cuda: str | None = None, card: bool = True, clash: str = "") -> None:
    facts = providers.RuntimeFacts(
        version="1.30.0",
        distributions=("onnxruntime-gpu 1.30.0",),
        available=("CUDAExecutionProvider", "CPUExecutionProvider"),
        cuda_major=13,
        missing=("libcublas.so.13",) if cuda else (),
        problems=tuple(filter(None, (clash, cuda))),
    )
    monkeypatch.setattr(providers, "providers", lambda: facts)
    monkeypatch.setattr(providers, "cuda_problem", lambda index=0: cuda)
    monkeypatch.setattr(doctor_module, "has_nvidia_card", lambda: card)


def doctor() -> Result:
    return CliRunner().invoke(app, ["doctor"])


def test_a_computer_without_a_card_is_well_and_is_told_why_cuda_is_not_used() -> None:
    result = doctor()
    assert result.exit_code == 0, result.output
    assert f"not used: {NO_DRIVER}" in result.stdout
    assert "all is well" in result.stdout
    assert "1.2.3" in result.stdout
    assert "onnxruntime-gpu 1.30.0" in result.stdout


def test_a_card_that_cannot_be_used_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = 'libcublas.so.13 could not be loaded; pip install "restonnx[cuda]"'
    pretend(monkeypatch, cuda=reason)
    result = doctor()
    assert result.exit_code == 1
    assert f"problem: {reason}" in result.stdout
    assert "all is well" not in result.stdout


def test_two_runtimes_at_once_are_a_problem_on_any_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda=NO_DRIVER, card=False, clash="onnxruntime and onnxruntime-gpu overwrite each other")
    result = doctor()
    assert result.exit_code == 1
    assert "problem: onnxruntime and onnxruntime-gpu" in result.stdout


def test_the_provider_that_really_runs_is_named(tiny: Path) -> None:
    CliRunner().invoke(app, ["models", "add", str(tiny)])
    result = doctor()
    assert "auto runs on:" in result.stdout
    assert "ExecutionProvider" in result.stdout.split("auto runs on:")[1]


def test_a_broken_model_of_the_users_is_a_problem(user_models: Path) -> None:
    user_models.mkdir()
    (user_models / "broken.onnx").write_text("not a model")
    result = doctor()
    assert result.exit_code == 1
    assert "restonnx models remove broken" in result.stdout


def test_a_card_is_seen_by_its_vendors_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(doctor_module, "PCI_DEVICES", tmp_path)
    assert not doctor_module.has_nvidia_card()
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "vendor").write_text("0x10de\n")
    assert doctor_module.has_nvidia_card()
