"""The library: shipped models and the user's own. Add, remove and verify leave nothing half-done."""

from __future__ import annotations

import errno
import hashlib
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
from tiny_model import tiny_model

from restonnx import library
from restonnx.errors import ModelError


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of the package's folder: one with "denoise", "denoise-gray" and their checksums."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    paths = [
        tiny_model(folder, name="denoise", metadata={"title": "Colour denoising"}),
        tiny_model(folder, name="denoise-gray", channels=1),
    ]
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths]
    (folder / library.CHECKSUMS).write_text("".join(sums), encoding="utf-8")
    (folder / "denoise.md").write_text("# Denoise\n", encoding="utf-8")
    monkeypatch.setattr(library, "SHIPPED", folder)
    return folder


def refusal(function: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- listing and finding


def test_shipped_models_come_first_then_the_users_each_by_name(
    shipped: Path, user_models: Path, tmp_path: Path
) -> None:
    for name in ("zebra", "alpha"):
        library.add(tiny_model(tmp_path / f"{name}.onnx", name=name))
    entries = library.models()
    assert [entry.name for entry in entries] == ["denoise", "denoise-gray", "alpha", "zebra"]
    assert [entry.shipped for entry in entries] == [True, True, False, False]
    assert [entry.path.parent for entry in entries] == [shipped, shipped, user_models, user_models]


def test_an_entry_tells_title_task_metadata_and_card(shipped: Path) -> None:
    denoise, gray = library.models()
    assert (denoise.title, denoise.task, denoise.card) == ("Colour denoising", "denoise", "# Denoise\n")
    assert denoise.metadata.channels == 3
    assert denoise.problem == ""
    assert gray.card == ""


def test_without_any_folder_there_are_no_models(
    user_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "SHIPPED", tmp_path / "none")
    assert library.models() == ()
    assert not user_models.exists()


def test_a_broken_file_is_listed_with_its_problem_and_does_not_break_the_listing(
    shipped: Path, user_models: Path
) -> None:
    user_models.mkdir()
    (user_models / "broken.onnx").write_text("no model", encoding="utf-8")
    *sound, broken = library.models()
    assert [entry.problem for entry in sound] == ["", ""]
    assert broken.name == "broken"
    assert "is a text file" in broken.problem
    assert (broken.title, broken.task, broken.card) == ("", "", "")
    with pytest.raises(ModelError, match="is a text file"):
        _ = broken.metadata


def test_other_and_hidden_files_are_not_listed(shipped: Path, user_models: Path) -> None:
    user_models.mkdir()
    for name in ("notes.txt", "._denoise.onnx", "model.onnx.part"):
        (user_models / name).write_text("x", encoding="utf-8")
    assert len(library.models()) == 2


def test_a_copied_file_with_a_shipped_name_does_not_shadow_the_shipped_model(shipped: Path, user_models: Path) -> None:
    user_models.mkdir()
    shutil.copy(shipped / "denoise.onnx", user_models / "denoise.onnx")
    assert library.find("denoise").path == shipped / "denoise.onnx"
    assert "name of a shipped model" in library.models()[-1].problem


def test_the_users_folder_is_the_platforms_without_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTONNX_MODELS", "")
    assert library.user_folder().parts[-2:] == ("restonnx", "models")


def test_a_model_is_found_by_name_and_by_path(shipped: Path, tiny: Path) -> None:
    assert library.find("denoise").metadata.name == "denoise"
    assert library.find(str(tiny)).metadata.name == "tiny"
    assert library.find(tiny).path == tiny


@pytest.mark.parametrize("name", ["denoize", "Denoise", "denoise-grey"])
def test_an_unknown_name_is_answered_with_the_nearest_right_ones(name: str, shipped: Path) -> None:
    message = refusal(library.find, name)
    assert f'there is no model "{name}"' in message
    assert "did you mean denoise" in message


def test_a_name_like_no_other_is_answered_with_the_command_that_lists_all(shipped: Path) -> None:
    assert "`restonnx models list`" in refusal(library.find, "zzz")


def test_a_path_that_is_no_onnx_file_is_answered_with_what_a_path_looks_like(shipped: Path, tmp_path: Path) -> None:
    assert "ends in .onnx" in refusal(library.find, tmp_path / "weights.pth")


# --- adding


def test_an_added_model_bears_the_name_of_its_metadata_and_brings_its_card(
    shipped: Path, user_models: Path, tmp_path: Path
) -> None:
    source = tiny_model(tmp_path / "download (3).onnx", name="mine")
    source.with_suffix(".md").write_text("my card", encoding="utf-8")
    entry = library.add(source)
    assert (entry.name, entry.path, entry.shipped) == ("mine", user_models / "mine.onnx", False)
    assert entry.card == "my card"
    assert library.find("mine").sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert entry in library.models()
    assert sorted(contents(user_models)) == ["mine.md", "mine.onnx"]


def test_a_shipped_name_is_refused_even_with_overwrite(shipped: Path, user_models: Path, tmp_path: Path) -> None:
    source = tiny_model(tmp_path / "m.onnx", name="denoise")
    assert "is the name of a shipped model" in refusal(library.add, source, overwrite=True)
    assert not user_models.exists()


def test_a_taken_name_is_refused_and_the_old_model_stays(user_models: Path, tmp_path: Path) -> None:
    library.add(tiny_model(tmp_path / "one.onnx", name="mine"))
    before = contents(user_models)
    other = tiny_model(tmp_path / "two.onnx", name="mine", halo=9)
    assert "`restonnx models add --overwrite`" in refusal(library.add, other)
    assert contents(user_models) == before


def test_overwrite_replaces_the_model_and_its_card(user_models: Path, tmp_path: Path) -> None:
    first = tiny_model(tmp_path / "one.onnx", name="mine")
    first.with_suffix(".md").write_text("old card", encoding="utf-8")
    library.add(first)
    entry = library.add(tiny_model(tmp_path / "two.onnx", name="mine", halo=9), overwrite=True)
    assert entry.metadata.tile.halo == 9
    assert entry.card == ""
    assert sorted(contents(user_models)) == ["mine.onnx"]


def test_a_model_that_is_already_in_its_place_is_kept(user_models: Path, tmp_path: Path) -> None:
    entry = library.add(tiny_model(tmp_path / "one.onnx", name="mine"))
    entry.path.with_suffix(".md").write_text("my card", encoding="utf-8")
    assert library.add(entry.path, overwrite=True).card == "my card"


def test_a_broken_file_is_not_added(user_models: Path, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("no model", encoding="utf-8")
    assert "is a text file" in refusal(library.add, tmp_path / "m.onnx")
    assert not user_models.exists()


def test_a_model_with_weights_outside_its_file_is_not_added(tiny: Path, user_models: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(onnx.load(tiny), path, save_as_external_data=True, location="m.data", size_threshold=0)
    message = refusal(library.add, path)
    assert "m.data" in message
    assert "as one file" in message
    assert not user_models.exists()


@pytest.mark.parametrize("failing", ["copyfile", "replace"])
def test_a_full_disk_is_one_line_and_leaves_nothing_behind(
    failing: str, user_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    library.add(tiny_model(tmp_path / "one.onnx", name="mine"))
    before = contents(user_models)
    monkeypatch.setattr(library.shutil if failing == "copyfile" else library.os, failing, full)
    other = tiny_model(tmp_path / "two.onnx", name="mine", halo=9)
    assert "No space left on device" in refusal(library.add, other, overwrite=True)
    monkeypatch.undo()
    assert contents(user_models) == before
    assert [path.name for path in user_models.iterdir()] == ["mine.onnx"]


def test_a_folder_that_cannot_be_made_is_one_line(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RESTONNX_MODELS", str(tmp_path / "file" / "models"))
    message = refusal(library.add, tiny)
    assert 'cannot add "tiny"' in message
    assert str(tmp_path / "file" / "models") in message


# --- removing


def test_removing_deletes_model_and_card(user_models: Path, tmp_path: Path) -> None:
    source = tiny_model(tmp_path / "m.onnx", name="mine")
    source.with_suffix(".md").write_text("card", encoding="utf-8")
    library.add(source)
    library.remove("mine")
    assert contents(user_models) == {}
    assert source.exists()


def test_a_broken_model_of_the_users_can_be_removed(user_models: Path) -> None:
    user_models.mkdir()
    (user_models / "broken.onnx").touch()
    library.remove("broken")
    assert contents(user_models) == {}


def test_removing_a_shipped_name_takes_the_users_file_only(shipped: Path, user_models: Path) -> None:
    user_models.mkdir()
    shutil.copy(shipped / "denoise.onnx", user_models / "denoise.onnx")
    library.remove("denoise")
    assert contents(user_models) == {}
    assert (shipped / "denoise.onnx").exists()


def test_a_shipped_model_cannot_be_removed(shipped: Path) -> None:
    assert "came with restonnx and cannot be removed" in refusal(library.remove, "denoise")
    assert (shipped / "denoise.onnx").exists()


@pytest.mark.parametrize("name", ["nothing", "../zoo/denoise", "denoise.onnx"])
def test_removing_what_is_no_name_of_the_library_deletes_nothing(name: str, shipped: Path) -> None:
    before = contents(shipped)
    assert "there is no model" in refusal(library.remove, name)
    assert contents(shipped) == before


def test_a_file_is_not_removed_by_its_path(tiny: Path) -> None:
    assert "give the name that `restonnx models list` shows" in refusal(library.remove, str(tiny))
    assert tiny.is_file()


# --- verifying


def test_a_sound_shipped_model_is_verified_against_its_checksum(shipped: Path) -> None:
    result = library.verify("denoise")
    assert "sound: version 1.0" in result
    assert "as published" in result
    assert "CPUExecutionProvider" in result
    assert "\n" not in result


def test_a_changed_shipped_model_is_refused(shipped: Path) -> None:
    tiny_model(shipped, name="denoise", halo=9)
    message = refusal(library.verify, "denoise")
    assert "SHA-256 differs" in message
    assert "install restonnx again" in message


@pytest.mark.parametrize("keep_file", [True, False])
def test_a_shipped_model_without_a_checksum_is_refused(keep_file: bool, shipped: Path) -> None:
    (shipped / library.CHECKSUMS).write_text("", encoding="utf-8")
    if not keep_file:
        (shipped / library.CHECKSUMS).unlink()
    assert f"not listed in {library.CHECKSUMS}" in refusal(library.verify, "denoise")


@pytest.mark.parametrize(
    "options",
    [
        {"channels": 1},
        {"draws": 0},
        {"scale": 2},
        {"multiple": 48, "preferred": 100},
        {"noise_channels": 4, "noise_stride": 4},
        {"extra": ("noise_level", "mask", "kernel", "reference")},
    ],
    ids=str,
)
def test_every_kind_of_model_can_be_verified_by_its_path(options: dict[str, Any], tmp_path: Path) -> None:
    assert "sha256" in library.verify(tiny_model(tmp_path / "m.onnx", **options))


def test_a_model_with_a_further_input_can_be_verified(tiny: Path, tmp_path: Path) -> None:
    inputs = [
        {"name": "image", "role": "image"},
        {"name": "noise", "role": "noise"},
        {"name": "sigma", "role": "noise_level"},
        {"name": "mask", "role": "mask"},
    ]
    path = tiny_model(tmp_path / "m.onnx", metadata={"inputs": inputs})
    model = onnx.load(path)
    one = onnx.helper.make_tensor_value_info("sigma", onnx.TensorProto.FLOAT, ["n", 1, 1, 1])
    mask = onnx.helper.make_tensor_value_info("mask", onnx.TensorProto.FLOAT, ["n", 1, "h", "w"])
    model.graph.input.extend([one, mask])
    last = model.graph.node[-1]
    before = last.input[0]
    last.input[0] = "masked"
    model.graph.node.insert(len(model.graph.node) - 1, onnx.helper.make_node("Mul", [before, "mask"], ["louder"]))
    model.graph.node.insert(len(model.graph.node) - 1, onnx.helper.make_node("Add", ["louder", "sigma"], ["masked"]))
    path.write_bytes(model.SerializeToString())
    assert "sound" in library.verify(path)


def test_a_model_that_gives_no_finite_values_is_refused(tmp_path: Path) -> None:
    assert "not finite" in refusal(library.verify, tiny_model(tmp_path / "m.onnx", fail="nan"))


def test_a_model_that_onnx_runtime_cannot_load_is_refused(tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.graph.node[0].op_type = "NoSuchOperator"
    path.write_bytes(model.SerializeToString())
    assert str(path.name) in refusal(library.verify, path)


def test_a_model_whose_image_has_another_size_than_it_says_is_refused(tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "m.onnx", scale=2, draws=0, metadata={"scale": 1})
    assert "where (1, 3, 64, 64) is right" in refusal(library.verify, path)
