"""What napari finds: the manifest, its commands, samples and readers; and comparing, adding models, preferences."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_model import tiny_model

import restonnx
from restonnx.plugin import catalogue, commands

ROOT = Path(__file__).parents[2]
Models = Callable[..., str]
Drive = Callable[[Any], Any]


@pytest.fixture(scope="module")
def manifest() -> Any:
    npe2 = pytest.importorskip("npe2")
    return npe2.PluginManifest.from_file(ROOT / "napari.yaml")


def test_every_shipped_task_has_its_command_and_no_other_has(manifest: Any) -> None:
    tasks = catalogue.shipped_tasks()
    menu = [item.command for item in manifest.contributions.menus["restonnx/tasks"] if item.group == "2_tasks"]
    known = {command.id: (command.title, command.python_name) for command in manifest.contributions.commands}
    wanted = {
        f"restonnx.{name}": (catalogue.title(task), f"restonnx.plugin.commands:{name}") for name, task in tasks.items()
    }
    lines = [
        f"  commands:  - {{id: {one}, title: {title}, python_name: {python}}}\n"
        f"  restonnx/tasks:  - {{command: {one}, group: 2_tasks}}"
        for one, (title, python) in wanted.items()
        if one not in menu
    ]
    assert {one: known[one] for one in menu} == wanted, "\n".join(["napari.yaml lacks, or has too much:", *lines])


def test_a_command_is_found_for_shipped_tasks_alone(models: Models) -> None:
    models("tiny-brew", metadata={"task": "brew-coffee"})
    assert "brew-coffee" in catalogue.by_task()
    assert commands.denoise.__name__ == "denoise"
    for name in ("brew_coffee", "prior", "raw_denoise", "derian"):
        with pytest.raises(AttributeError, match=name):
            getattr(commands, name)


def test_a_task_without_a_sound_model_is_told_in_one_line_and_nothing_else_runs(
    viewer: Any, drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = commands.denoise
    monkeypatch.setattr(catalogue, "by_task", dict)
    viewer.add_image(np.zeros((40, 40), np.uint8))
    driver = drive(viewer)
    command(viewer)
    assert not driver.widget.busy
    assert driver.said() == ["There is no sound model for the task Denoise; `restonnx models list` says why."]


def test_every_menu_is_one_that_napari_takes(manifest: Any) -> None:
    pytest.importorskip("napari")
    from napari._app_model.constants._menus import MenuId

    own = {submenu.id for submenu in manifest.contributions.submenus}
    assert set(manifest.contributions.menus) - own <= set(MenuId.contributables())
    assert "napari/layers/filter" in manifest.contributions.menus
    assert not any(name.startswith("napari/") for name in own)


def test_the_manifest_names_what_can_be_imported(display: None) -> None:
    command = [sys.executable, "-m", "npe2", "validate", "--imports", str(ROOT / "napari.yaml")]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=ROOT / "src", check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "valid" in finished.stdout


def test_all_but_the_window_works_where_neither_napari_nor_qt_is_installed() -> None:
    folder = ROOT / "src"
    apart = {"training", "onnx_export", "view", "__main__.py", "__init__.py"}
    paths = [path.relative_to(folder) for path in folder.rglob("*.py")]
    names = [".".join(path.with_suffix("").parts) for path in paths if not apart & set(path.parts)]
    assert "restonnx.plugin.engine" in names
    code = f"""
import importlib, sys
absent = {{"napari", "npe2", "qtpy", "superqt", "vispy", "PySide6", "PyQt6", "PyQt5", "dask", "zarr"}}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError("not installed", name=name)
sys.meta_path.insert(0, Absent())
for name in {names}:
    importlib.import_module(name)
import numpy
from restonnx.plugin.preferences import Preferences, preferences
assert preferences() == Preferences()
import restonnx
print(restonnx.restore(numpy.zeros((16, 16), "u1"), "denoise-gray").shape, len(absent & set(sys.modules)))
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False)
    assert finished.stdout.strip() == "(16, 16) 0", finished.stderr


def test_a_menu_command_restores_the_selected_image(viewer: Any, drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari._app_model import get_app_model

    viewer.add_image(np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8), name="first")
    viewer.add_image(np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8), name="second")
    monkeypatch.setattr("napari.viewer.current_viewer", lambda: viewer.__wrapped__)
    get_app_model().commands.execute_command("restonnx.denoise").result()
    driver = drive(viewer)
    assert driver.names() == ["first", "second", "second denoise"]
    viewer.layers.selection.active = viewer.layers["first"]
    get_app_model().commands.execute_command("restonnx.denoise").result()
    driver.settle()
    assert driver.names() == ["first", "first denoise-micrographs", "second", "second denoise"]


def test_a_command_runs_with_the_settings_of_the_tasks_last_run(
    viewer: Any, drive: Drive, models: Models, photograph: np.ndarray
) -> None:
    layer = viewer.add_image(photograph, name="photo", rgb=True)
    driver = drive(viewer)
    driver.choose(layer, models("tiny"), strength=0.5, seed=9, replace=False)
    first = driver.restore()
    driver.choose(model="inpaint", strength=1.0, seed=0)  # another task is shown
    driver.qtbot.wait(100)
    assert first.metadata["restonnx"]["strength"] == 0.5, "another model's strength is not for its result"
    commands.denoise(viewer)
    driver.settle()
    assert len(viewer.layers) == 3
    viewer.window.remove_dock_widget(driver.widget)  # it is closed
    commands.denoise(viewer)
    driver = drive(viewer)
    made = [one for one in viewer.layers if one.name != "photo"]
    assert len(made) == 3
    assert all(np.array_equal(one.data, first.data) for one in made)
    assert {one.metadata["restonnx"]["seed"] for one in made} == {9}
    driver.choose(seed=5)  # what is shown, though it was not run yet, stands above what was
    commands.denoise(viewer)
    driver.settle()
    assert {one.metadata["restonnx"].get("seed") for one in viewer.layers if one.name != "photo"} == {9, 5}


def test_a_task_with_models_of_several_scales_offers_them(viewer: Any, drive: Drive, models: Models) -> None:
    image = viewer.add_image(np.random.default_rng(0).integers(0, 60000, (16, 20), dtype=np.uint16))
    enlarge = {"channels": 1, "metadata": {"task": "enlarge"}}
    models("tiny-x2", scale=2, **enlarge)
    driver = drive(viewer)
    form = driver.widget.form
    assert form.scale.isHidden(), "models of denoising have none"
    driver.choose(image, "tiny-x2")
    assert not form.scale.isHidden()
    models("tiny-x3", scale=3, **enlarge)
    assert form.entry.name == "tiny-x2"
    assert [form.scale.itemData(n) for n in range(form.scale.count())] == [2, 3]
    form.scale.setCurrentIndex(form.scale.findData(3))
    driver.settle()
    assert form.entry.name == "tiny-x3"
    assert driver.restore().data.shape == (48, 60)


def test_the_samples_are_what_they_say(viewer: Any, drive: Drive) -> None:
    viewer.open_sample("restonnx", "photograph")
    viewer.open_sample("restonnx", "micrograph")
    photograph, stack = viewer.layers
    assert photograph.rgb
    assert photograph.data.dtype == np.uint8
    assert stack.data.dtype == np.uint16
    assert stack.data.ndim == 3
    assert [str(unit) for unit in stack.units] == ["micrometer"] * 3


def test_a_model_that_is_dropped_on_the_viewer_is_added(
    viewer: Any, drive: Drive, tmp_path: Path, user_models: Path
) -> None:
    path = tiny_model(tmp_path / "any.onnx", name="dropped")
    driver = drive(viewer)
    viewer.open(str(path), plugin=None)  # napari finds out whose it is
    assert (user_models / "dropped.onnx").is_file()
    assert driver.said() == ['Added the model "dropped"; choose it in Plugins > restonnx > Restore.']
    assert driver.widget.form.choose_model("dropped")
    assert len(viewer.layers) == 0


def test_a_file_that_is_no_model_is_refused_in_one_sentence(viewer: Any, drive: Drive, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    driver = drive(viewer)
    viewer.open(str(tmp_path / "bad.onnx"), plugin="restonnx")
    assert len(driver.said()) == 1
    assert "bad.onnx" in driver.said()[0]
    assert not driver.widget.add_model(tmp_path / "bad.onnx")
    assert not driver.widget.add_model(tmp_path / "photo.jpg")
    assert all("\n" not in text for text in driver.said())


def test_a_model_that_is_dropped_on_the_widget_is_chosen(viewer: Any, drive: Drive, tmp_path: Path) -> None:
    from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
    from qtpy.QtGui import QDropEvent

    path = tiny_model(tmp_path / "any.onnx", name="dropped")
    driver = drive(viewer)
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)), QUrl.fromLocalFile(str(tmp_path / "photo.jpg"))])
    buttons, keys = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    event = QDropEvent(QPointF(5, 5), Qt.DropAction.CopyAction, mime, buttons, keys)
    driver.widget.dropEvent(event)
    driver.settle()
    assert driver.widget.form.entry.name == "dropped"
    assert driver.said() == ['Added the model "dropped".']


@pytest.mark.parametrize("agreed", [True, False])
def test_another_model_of_the_same_name_is_replaced_when_the_user_agrees(
    viewer: Any, drive: Drive, tmp_path: Path, user_models: Path, monkeypatch: pytest.MonkeyPatch, agreed: bool
) -> None:
    first, second = (tiny_model(tmp_path / f"{n}.onnx", name="same", halo=n) for n in (8, 12))
    driver = drive(viewer)
    monkeypatch.setattr(driver.widget, "_agreed", lambda question: agreed)
    monkeypatch.setattr("restonnx.plugin.view.widget.QFileDialog.getOpenFileName", lambda *_: (str(first), ""))
    driver.widget.form.add.click()
    assert driver.widget.form.entry.name == "same"
    assert driver.widget.add_model(first)  # the same file again is no question
    assert driver.widget.add_model(second) is agreed
    assert (user_models / "same.onnx").read_bytes() == (second if agreed else first).read_bytes()


def test_the_card_of_the_model_opens(viewer: Any, drive: Drive) -> None:
    from qtpy.QtWidgets import QDialog, QTextBrowser

    driver = drive(viewer)
    driver.choose(model="denoise")
    driver.widget.form.card.click()
    card = driver.widget.findChild(QDialog)
    assert card.windowTitle() == "Denoise (colour)"
    assert "Not for" in card.findChild(QTextBrowser).toPlainText()
    card.close()


def test_the_wipe_covers_the_result_with_the_left_of_the_input(
    viewer: Any, drive: Drive, models: Models, photograph: np.ndarray
) -> None:
    layer = viewer.add_image(photograph, name="photo", rgb=True, scale=(2, 3), translate=(5, 7))
    driver = drive(viewer)
    compare = driver.widget.compare
    assert not compare.isEnabled()
    driver.choose(layer, models("tiny"))
    driver.restore()
    compare.wipe.setChecked(True)
    assert driver.names() == ["photo", "photo tiny", "photo before"]
    before = viewer.layers["photo before"]
    assert np.array_equal(before.data, photograph[:, :60])
    assert np.allclose(before.scale, (2, 3))
    assert np.allclose(before.translate, (5, 7))
    compare.slider.setValue(250)
    assert before.data.shape == (90, 30, 3)
    assert driver.widget.form.image.count() == 2  # what the wipe shows is no input
    driver.choose(seed=3)
    driver.restore()
    assert driver.names() == ["photo", "photo tiny", "photo before"]
    compare.wipe.setChecked(False)
    assert driver.names() == ["photo", "photo tiny"]


def test_before_and_after_are_switched(viewer: Any, drive: Drive, models: Models, photograph: np.ndarray) -> None:
    layer = viewer.add_image(photograph, rgb=True)
    driver = drive(viewer)
    driver.choose(layer, models("tiny"))
    result = driver.restore()
    toggle = driver.widget.compare.toggle
    toggle.click()
    assert not result.visible
    toggle.click()
    assert result.visible
    toggle.click()
    driver.choose(seed=3)
    result = driver.restore() or viewer.layers[-1]
    assert result.visible
    assert not toggle.isChecked(), "the new result is shown"
    toggle.click()
    driver.choose(viewer.add_image(photograph, name="other", rgb=True))
    assert result.visible, "nothing stays hidden that the switch cannot show again"


def test_the_difference_is_result_minus_input(viewer: Any, drive: Drive, models: Models) -> None:
    image = np.random.default_rng(0).integers(0, 60000, (40, 48), dtype=np.uint16)
    layer = viewer.add_image(image, name="image", scale=(2, 2))
    driver = drive(viewer)
    driver.choose(layer, models("tiny-x2", channels=1, scale=2))
    result = driver.restore()
    driver.widget.compare.difference.click()
    shown = viewer.layers["image difference"]
    wanted = result.data.astype(float) - image.repeat(2, 0).repeat(2, 1)
    assert np.allclose(shown.data, wanted)
    assert shown.contrast_limits[0] == -shown.contrast_limits[1]
    assert np.allclose(shown.scale, (1, 1))


def test_the_preferences_of_napari_are_the_first_settings(viewer: Any, drive: Drive) -> None:
    from napari.settings import get_plugin_settings

    found = get_plugin_settings("restonnx").restore
    assert (found.device, found.memory, found.model_folder) == ("auto", 2.0, "")
    found.device, found.memory = "cpu", 0.5
    try:
        driver = drive(viewer)
        assert driver.widget.form.settings().device == "cpu"
        assert driver.widget.form.settings().memory == 0.5
    finally:
        found.device, found.memory = "auto", 2.0


def test_the_widget_asks_for_the_height_of_all_that_stands_in_it(viewer: Any, drive: Drive) -> None:
    widget = drive(viewer).widget
    parts = (widget.form, widget.panel, widget.compare)
    assert widget.sizeHint().height() > sum(part.sizeHint().height() for part in parts)
    assert widget.minimumSizeHint().height() < 300, "it scrolls in a small window"


def test_a_closed_widget_can_be_opened_again(viewer: Any, drive: Drive, models: Models, photograph: np.ndarray) -> None:
    layer = viewer.add_image(photograph, rgb=True)
    first = drive(viewer).widget
    viewer.window.remove_dock_widget(first)
    driver = drive(viewer)
    assert driver.widget is not first
    driver.choose(layer, models("tiny"))
    assert np.array_equal(driver.restore().data, restonnx.restore(photograph, "tiny"))
