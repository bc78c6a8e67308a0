"""`restonnx models`."""

from __future__ import annotations

from pathlib import Path

from tiny_model import tiny_model
from typer.testing import CliRunner, Result

from restonnx.cli import app


def models(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["models", *map(str, arguments)], env={"COLUMNS": "200"})


def test_the_bare_command_lists_what_was_added(tiny: Path) -> None:
    assert models("add", tiny).exit_code == 0
    for arguments in ((), ("list",)):
        result = models(*arguments)
        assert result.exit_code == 0, result.output
        assert "tiny" in result.output
        assert "denoise" in result.output


def test_an_added_model_is_copied_into_the_users_folder(tiny: Path, user_models: Path) -> None:
    result = models("add", tiny)
    assert str(user_models) in result.output
    assert (user_models / "tiny.onnx").read_bytes() == tiny.read_bytes()


def test_a_model_is_added_twice_only_with_overwrite(tiny: Path) -> None:
    models("add", tiny)
    again = models("add", tiny)
    assert again.exit_code == 1
    assert again.stderr.startswith("error: ")
    assert models("add", tiny, "--overwrite").exit_code == 0


def test_a_text_file_is_not_added(tmp_path: Path, user_models: Path) -> None:
    fake = tmp_path / "fake.onnx"
    fake.write_text("not a model")
    result = models("add", fake)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert not list(user_models.glob("*")) if user_models.exists() else True


def test_show_prints_metadata_file_and_card(tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "tiny.onnx")
    (tmp_path / "tiny.md").write_text("# Tiny\n\nFor tests alone.\n")
    result = models("show", path)
    assert result.exit_code == 0, result.output
    for text in (
        "tiny 1.0",
        "resshift, 2 steps",
        "display_rgb, 3 channels",
        "Apache-2.0",
        str(path),
        "For tests alone.",
    ):
        assert text in result.output


def test_a_wrong_name_is_answered_with_the_nearest_one(tiny: Path) -> None:
    models("add", tiny)
    result = models("show", "tinny")
    assert result.exit_code == 1
    assert "tiny" in result.stderr.replace("tinny", "")


def test_a_removed_model_is_gone(tiny: Path, user_models: Path) -> None:
    models("add", tiny)
    assert models("remove", "tiny").exit_code == 0
    assert not (user_models / "tiny.onnx").exists()
    assert models("remove", "tiny").exit_code == 1


def test_verify_reports_every_model_and_fails_for_a_broken_one(tiny: Path, user_models: Path, tmp_path: Path) -> None:
    models("add", tiny)
    assert models("verify", "tiny").exit_code == 0
    models("add", tiny_model(tmp_path / "nan.onnx", name="nan", fail="nan"))
    result = models("verify", "nan", "tiny")
    assert result.exit_code == 1
    assert "nan" in result.stderr
    assert "tiny: " in result.stdout


def test_a_broken_file_in_the_folder_does_not_break_the_list(tiny: Path, user_models: Path) -> None:
    models("add", tiny)
    (user_models / "broken.onnx").write_text("not a model")
    result = models()
    assert result.exit_code == 0
    assert "cannot be used" in result.output
    assert "tiny" in result.output
