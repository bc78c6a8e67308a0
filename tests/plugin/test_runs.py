"""Runs in the real window: it answers all the while, a run can be cancelled, and nothing is left behind."""

from __future__ import annotations

import gc
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import restonnx

Models = Callable[..., str]
Drive = Callable[[Any], Any]
SLOW = {"channels": 1, "convs": 30, "halo": 3, "preferred": 64}
"""A model that takes some 30 ms for each of many tiles."""


@pytest.fixture
def slow(models: Models) -> str:
    return models("tiny-slow", **SLOW)


@pytest.fixture
def large() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 60000, (900, 900), dtype=np.uint16)


def bars() -> int:
    """How many progress bars there are in the activity dock."""
    from napari.utils.progress import progress

    return len(progress._all_instances)


def test_a_run_that_is_cancelled_in_the_middle_leaves_nothing(
    shown: Any, drive: Drive, slow: str, large: np.ndarray
) -> None:
    layer = shown.add_image(large, name="large")
    driver = drive(shown)
    driver.choose(layer, slow)
    panel = driver.widget.panel
    panel.restore.click()
    driver.wait(lambda: panel.bar.value() > 2 and panel.bar.isVisible())
    assert "tiles" in panel.status.text()
    assert "left" in panel.status.text()
    assert bars() == 1
    assert not panel.restore.isEnabled()
    started = time.perf_counter()
    panel.cancel.click()
    assert panel.cancel.text() == "Cancelling..."
    driver.settle()
    assert time.perf_counter() - started < 3
    assert panel.status.text() == "cancelled"
    assert driver.names() == ["large"]
    assert bars() == 0
    small = shown.add_image(large[:64, :64], name="small")
    driver.choose(small)
    assert driver.restore().name == "small tiny-slow"
    assert not driver.said()


def test_what_is_begun_while_a_run_is_made_waits_for_its_end(display: None, qtbot: Any) -> None:
    from qtpy.QtCore import QObject

    from restonnx.plugin.view.run import Run
    from restonnx.plugin.view.runs import PREPARE, PREVIEW, RESTORE, Runs

    parent = QObject()
    told: list[tuple[str, Any]] = []

    def make(kind: str) -> Run:
        if kind != PREPARE:
            runs.begin(PREPARE)  # as a timer does, while napari handles events
        return Run(parent, lambda progress, stop: f"result of {kind}")

    runs = Runs(parent, make)
    runs.done.connect(lambda kind, result: told.append((kind, result)))
    for kind in (RESTORE, PREVIEW):
        told.clear()
        runs.begin(kind)
        qtbot.waitUntil(lambda: not runs.kind, timeout=10000)
        assert told[0] == (kind, f"result of {kind}")
        assert all(result == f"result of {of}" for of, result in told)


@pytest.mark.parametrize("first", ["preview", "prepare"])
def test_a_restoration_that_waits_is_not_forgotten_for_a_preview(display: None, qtbot: Any, first: str) -> None:
    from qtpy.QtCore import QObject

    from restonnx.plugin.view.run import Run
    from restonnx.plugin.view.runs import PREPARE, PREVIEW, RESTORE, Runs

    parent, told, go = QObject(), [], threading.Event()
    runs = Runs(parent, lambda kind: Run(parent, lambda progress, stop: go.wait(10)))
    runs.done.connect(lambda kind, result: told.append(kind))
    for kind in (first, RESTORE, PREVIEW, PREPARE):
        runs.begin(kind)
    go.set()
    qtbot.waitUntil(lambda: not runs.kind, timeout=10000)
    assert told[-1] == RESTORE


def test_the_activity_dock_cancels_a_run(viewer: Any, drive: Drive, slow: str, large: np.ndarray) -> None:
    from napari.utils.progress import progress

    layer = viewer.add_image(large)
    driver = drive(viewer)
    driver.choose(layer, slow)
    driver.widget.panel.restore.click()
    bar = next(iter(progress._all_instances))
    driver.wait(lambda: bar.n > 1)
    assert bar.total > 100
    bar.cancel()
    driver.settle()
    assert len(viewer.layers) == 1


def waited() -> float:
    """Seconds that this thread was ready and the system let others run, where it says so; not those of a lock."""
    try:
        return int(Path(f"/proc/self/task/{threading.get_native_id()}/schedstat").read_text().split()[1]) * 1e-9
    except OSError:
        return 0.0


def test_the_window_answers_within_a_tenth_of_a_second_during_a_run(
    shown: Any, drive: Drive, slow: str, large: np.ndarray
) -> None:
    from qtpy.QtCore import QTimer

    driver = drive(shown)
    driver.choose(shown.add_image(large), slow)
    bar = driver.widget.panel.bar
    worst: list[float] = []
    # A machine that others use stands still at times, and no clock of ours tells; a window that our code holds up is
    # held up in every round.
    while min(worst, default=1.0) >= 0.1 and len(worst) < 12:
        answers: list[float] = []
        timer = QTimer()
        timer.setInterval(5)
        timer.timeout.connect(lambda answers=answers: answers.append(time.perf_counter() - waited()))
        driver.widget.panel.restore.click()
        driver.wait(lambda: bar.value() > 0)
        before = bar.value()
        timer.start()
        driver.wait(lambda before=before: bar.value() > before)  # at least one tile comes in meanwhile
        driver.qtbot.wait(500)
        timer.stop()
        driver.widget.cancel()
        driver.settle()
        worst.append(float(np.diff(answers).max()) if len(answers) > 20 else 1.0)
    assert min(worst) < 0.1, worst


def test_closing_the_viewer_ends_its_run(make_viewer: Any, drive: Drive, slow: str, large: np.ndarray) -> None:
    from napari.qt.threading import WorkerBase

    viewer = make_viewer(show=True)
    layer = viewer.add_image(large)
    driver = drive(viewer)
    driver.choose(layer, slow)
    driver.widget.panel.restore.click()
    driver.wait(lambda: driver.widget.panel.bar.value() > 1)
    viewer.close()
    driver.wait(lambda: not WorkerBase._worker_set, 10)
    assert bars() == 0


def test_closing_the_widget_ends_its_run_and_leaves_a_viewer_that_works(
    viewer: Any, drive: Drive, slow: str, large: np.ndarray, models: Models
) -> None:
    from napari.qt.threading import WorkerBase

    layer = viewer.add_image(large)
    driver = drive(viewer)
    driver.choose(layer, slow)
    driver.widget.panel.restore.click()
    driver.wait(lambda: driver.widget.panel.bar.value() > 1)
    viewer.window.remove_dock_widget(driver.widget)
    driver.widget.deleteLater()
    driver.wait(lambda: not WorkerBase._worker_set, 10)
    driver.qtbot.wait(50)
    assert bars() == 0
    viewer.add_image(large)
    viewer.dims.ndisplay = 3
    models("tiny-later")
    assert len(viewer.layers) == 2


def test_an_image_larger_than_the_memory_goes_through_the_disk(
    viewer: Any, drive: Drive, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restonnx.arrays.SAMPLED_VALUES", 100_000)  # of an image of any size
    da = pytest.importorskip("dask.array")
    zarr = pytest.importorskip("zarr")
    frugal = {"channels": 1, "preferred": 256, "metadata": {"measured": {"bytes_per_pixel": 20}}}
    blocks = da.random.default_rng(0).integers(0, 60000, (72, 200, 200), dtype=np.uint16, chunks=(1, 100, 200))
    layer = viewer.add_image(blocks, name="big", contrast_limits=(0, 60000))
    driver = drive(viewer)
    driver.choose(layer, models("tiny-gray", **frugal), memory=0.002)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    result = driver.restore()
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert blocks.nbytes > 2e6
    assert peak < blocks.nbytes
    assert isinstance(result.data, zarr.Array)
    folder = Path(str(result.data.store.root))
    assert folder.exists()
    part = restonnx.restore(blocks[5:6].compute(), "tiny-gray", axes="ZYX", seed=1)
    assert result.data[5:6].shape == part.shape
    assert np.abs(result.data[5, 100:110, 100:110].astype(int) - part[0, 100:110, 100:110]).max() < 6000
    driver.widget.form.strength.value = 0.0
    driver.qtbot.wait(100)
    assert np.array_equal(np.asarray(result.data[3]), blocks[3].compute())


def test_a_preview_shows_at_full_resolution_what_the_whole_result_will_show(
    shown: Any, drive: Drive, models: Models
) -> None:
    stack = np.random.default_rng(0).integers(0, 60000, (3, 300, 400), dtype=np.uint16)
    layer = shown.add_image(stack, name="stack", scale=(2, 0.5, 0.5), translate=(0, 10, 20))
    driver = drive(shown)
    driver.choose(layer, models("tiny-gray", channels=1, preferred=256))
    shown.dims.set_current_step(0, 2)
    shown.scene.camera.zoom = 12
    shown.scene.camera.center = (4, 10 + 0.5 * 100, 20 + 0.5 * 250)
    driver.widget.panel.preview.click()
    driver.settle()
    preview = shown.layers["stack preview"]
    height, width = preview.data.shape[1:]
    assert height < 300
    assert width < 400
    row, col = (round((t - o) / 0.5) for t, o in zip(preview.translate[1:], (10, 20), strict=True))
    assert abs(row + height / 2 - 100) < 2
    assert abs(col + width / 2 - 250) < 2
    whole = restonnx.restore(stack, "tiny-gray", axes="ZYX").astype(int)
    assert np.abs(preview.data[0] - whole[2, row : row + height, col : col + width]).max() <= 1
    offered = [driver.widget.form.image.itemText(n) for n in range(driver.widget.form.image.count())]
    assert offered == ["stack"]
    assert driver.restore().name == "stack tiny-gray"
    assert "stack preview" not in driver.names()


def test_a_preview_follows_the_view_and_a_drawn_rectangle(viewer: Any, drive: Drive, models: Models) -> None:
    image = np.random.default_rng(0).integers(0, 60000, (300, 400), dtype=np.uint16)
    layer = viewer.add_image(image, name="image")
    viewer.add_shapes([[(20, 30), (20, 69), (59, 69), (59, 30)]], shape_type="rectangle")
    driver = drive(viewer)
    driver.choose(layer, models("tiny-gray", channels=1, preferred=256))
    panel = driver.widget.panel
    panel.region.setCurrentIndex(panel.region.findData("shape"))
    panel.follow.setChecked(True)
    driver.wait(lambda: "image preview" in driver.names())
    assert np.allclose(viewer.layers["image preview"].translate, (20, 30))
    assert viewer.layers["image preview"].data.shape == (40, 40)
    shown, first = viewer.layers["image preview"].unique_id, viewer.layers["image preview"].data
    driver.widget.form.seed.setValue(7)
    driver.wait(lambda: not np.array_equal(viewer.layers["image preview"].data, first))
    panel.region.setCurrentIndex(panel.region.findData("view"))
    viewer.scene.camera.center = (0, 200, 300)
    viewer.scene.camera.zoom = 30
    driver.wait(lambda: viewer.layers["image preview"].translate[0] > 150)
    layer.gamma = 0.5
    panel.preview.click()
    driver.settle()
    assert viewer.layers["image preview"].gamma == 0.5
    preview, made = viewer.layers["image preview"], driver.widget._preview.outcome
    assert preview.unique_id == shown, "a new layer would stop the window for half a second"
    driver.widget.form.strength.value = 0.0
    driver.wait(lambda: np.array_equal(preview.data, made.original))
    driver.qtbot.wait(300)
    assert driver.widget._preview.outcome is made, "the strength runs no model"


def test_the_strength_is_mixed_without_a_run(
    viewer: Any, drive: Drive, models: Models, photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = viewer.add_image(photograph, name="photo", rgb=True)
    driver = drive(viewer)
    driver.choose(layer, models("tiny"))
    result = driver.restore()
    full = restonnx.restore(photograph, "tiny")

    def no_run(*_: Any) -> None:
        raise AssertionError("the model ran")

    monkeypatch.setattr("restonnx.session.Session.run", no_run)
    driver.widget.form.strength.value = 0.4
    driver.wait(lambda: result.metadata["restonnx"]["strength"] == 0.4)
    wanted = 0.6 * photograph + 0.4 * full
    assert np.abs(result.data - wanted).max() <= 0.51
    driver.widget.form.strength.value = 0.0
    driver.wait(lambda: np.array_equal(result.data, photograph))


def test_an_error_is_one_sentence_and_the_next_run_works(viewer: Any, drive: Drive, models: Models) -> None:
    image = np.ones((64, 64), np.float32)
    image[5, 6] = np.nan
    bad = viewer.add_image(image, name="bad", contrast_limits=(0, 1))
    good = viewer.add_image(np.random.default_rng(0).random((64, 64)).astype(np.float32), name="good")
    driver = drive(viewer)
    driver.choose(bad, models("tiny-gray", channels=1))
    driver.widget.panel.restore.click()
    driver.settle()
    assert len(driver.said()) == 1
    assert driver.said()[0].startswith("The image holds nan at Y=5, X=6")
    assert "\n" not in driver.said()[0]
    assert driver.widget.panel.status.text() == "failed"
    assert driver.widget.panel.restore.isEnabled()
    assert bars() == 0
    driver.choose(good)
    assert driver.restore() is not None


def test_a_graphics_card_that_is_not_there_is_named_and_the_cpu_is_used(
    viewer: Any, drive: Drive, models: Models, photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restonnx.session.cuda_problem", lambda index=0: "the driver is gone: install it")
    layer = viewer.add_image(photograph, rgb=True)
    driver = drive(viewer)
    driver.choose(layer, models("tiny"), device="auto")
    assert driver.widget.panel.runs_on.text() == "runs on CPUExecutionProvider: the driver is gone: install it"
    assert driver.restore() is not None
    driver.choose(device="cuda")
    assert driver.widget.panel.runs_on.text() == "Cannot run on cuda: the driver is gone: install it"
    driver.widget.panel.restore.click()
    driver.settle()
    assert driver.said() == ["Cannot run on cuda: the driver is gone: install it"]
