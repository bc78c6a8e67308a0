"""What holds for every command: help, version, exit codes, one-line errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import restonnx
from restonnx.cli import app
from restonnx.errors import Cancelled, DeviceError, InputError

COMMANDS = ("restore", "demo", "models", "doctor", "train", "evaluate", "error-curves", "export")
SOURCE = Path(__file__).parents[2] / "src"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments])


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `restonnx models show` end with this error."""

    def find(name: str) -> None:
        raise error

    monkeypatch.setattr("restonnx.library.find", find)


def test_the_help_names_every_command() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert all(command in result.output for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_text(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert command in result.output


def test_the_version_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(restonnx.__dict__, "__version__", "1.2.3")
    result = run("--version")
    assert (result.exit_code, result.output) == (0, "restonnx 1.2.3\n")


def test_an_unknown_command_is_wrong_usage() -> None:
    assert run("restor").exit_code == 2


@pytest.mark.parametrize(
    "error", [InputError("a\nlong\n  story"), DeviceError("a long story"), OSError("a long story")]
)
def test_a_foreseen_error_is_one_line_and_exit_code_1(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(error, monkeypatch)
    result = run("models", "show", "x")
    assert result.exit_code == 1
    assert result.stderr == "error: a long story\n"


def test_an_error_of_the_system_names_the_file_and_not_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    raising(FileExistsError(17, "File exists", "here/it is"), monkeypatch)
    assert run("models", "show", "x").stderr == "error: here/it is: File exists\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Cancelled("x")])
def test_ctrl_c_in_any_command_is_one_word_and_exit_code_130(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    raising(error, monkeypatch)
    result = run("models", "show", "x")
    assert result.exit_code == 130
    assert result.stderr == "cancelled\n"


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    raising(ZeroDivisionError(), monkeypatch)
    assert isinstance(run("models", "show", "x").exception, ZeroDivisionError)


def test_the_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, restonnx.cli\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'PIL', 'tifffile', 'skimage', 'pydantic', 'napari'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_python_m_runs_the_command() -> None:
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-m", "restonnx", "--help"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0
    assert "restore" in done.stdout
