"""Fixtures for the plugin: a display where there is none, a viewer, the widget in it, and tiny models to run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tiny_model import tiny_model

if TYPE_CHECKING:
    from restonnx.plugin.view.widget import RestoreWidget

ROOT = Path(__file__).parents[2]
SCREEN = "1400x1000x24"


@pytest.fixture(scope="session")
def display() -> Iterator[None]:
    """A display to draw on, for a real window: Qt's offscreen platform has no OpenGL."""
    for package in ("napari", "PySide6", "pytestqt"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install restonnx[napari,dev]")
    before = dict(os.environ)
    os.environ["NAPARI_CONFIG"] = str(Path(tempfile.mkdtemp(prefix="restonnx-napari-")) / "settings.yaml")
    os.environ.pop("QT_QPA_PLATFORM", None)
    if sys.platform == "linux" and not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        os.environ["DISPLAY"] = _start_xvfb()
    yield
    shutil.rmtree(Path(os.environ["NAPARI_CONFIG"]).parent, ignore_errors=True)
    if "NAPARI_CONFIG" in before:
        os.environ["NAPARI_CONFIG"] = before["NAPARI_CONFIG"]


def _start_xvfb() -> str:
    """Its number. It ends by itself with its last client, which is this process: Qt would not outlive its display."""
    if shutil.which("Xvfb") is None:
        pytest.skip("there is no display and no Xvfb: install the Debian package xvfb")
    reading, writing = os.pipe()
    options = f"-displayfd {writing} -screen 0 {SCREEN} -nolisten tcp -terminate"
    # Through a shell, so that Python does not wait for it.
    subprocess.run(f"exec Xvfb {options} >/dev/null 2>&1 &", shell=True, pass_fds=[writing], check=True)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        number = pipe.readline().strip()
    if not number:
        pytest.skip("Xvfb did not start")
    return f":{number}"


@pytest.fixture(scope="session")
def qapp_args(display: None) -> list[str]:
    """pytest-qt makes its application with these: not before there is a display."""
    return ["restonnx tests"]


@pytest.fixture(autouse=True)
def settings_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the settings of the last runs are kept: no test sees or touches the user's own."""
    monkeypatch.setattr("platformdirs.user_config_dir", lambda *_, **__: str(tmp_path / "settings"))
    return tmp_path / "settings"


@pytest.fixture
def make_viewer(display: None, make_napari_viewer_proxy: Any, manager: Any) -> Callable[..., Any]:
    """Makes viewers as plugins see them: no private attributes, no changes outside the main thread."""

    def make(**options: Any) -> Any:
        made = make_napari_viewer_proxy(strict_qt="raise", **options)
        assert os.environ["NAPARI_ENSURE_PLUGIN_MAIN_THREAD"], "no plugin may change the viewer from another thread"
        return made

    return make


@pytest.fixture
def manager() -> Any:
    """npe2 with our manifest, installed or not."""
    from npe2 import PluginManager, PluginManifest

    found = PluginManager.instance()
    if "restonnx" not in found:
        found.register(PluginManifest.from_file(ROOT / "napari.yaml"))
    return found


@pytest.fixture
def viewer(make_viewer: Callable[..., Any]) -> Any:
    """A window that is not shown, which spares half of the time."""
    return make_viewer(show=False)


@pytest.fixture
def shown(make_viewer: Callable[..., Any]) -> Any:
    """A window on the screen."""
    return make_viewer(show=True)


@pytest.fixture
def models(user_models: Path, tmp_path: Path) -> Callable[..., str]:
    """Adds a tiny model to the user's library and gives its name; the arguments are those of `tiny_model`."""
    from restonnx.plugin import catalogue

    def add(name: str, **options: Any) -> str:
        path = tiny_model(tmp_path / f"made-{name}.onnx", name=name, **options)
        return catalogue.add(path, overwrite=True).name

    return add


class Driver:
    """The widget of a viewer, and what a user does with it."""

    def __init__(self, viewer: Any, qtbot: Any) -> None:
        from restonnx.plugin.view.open import opened

        self.viewer, self.qtbot = viewer, qtbot
        self.widget: RestoreWidget = opened(viewer)
        self.settle()

    def wait(self, until: Callable[[], Any], seconds: float = 30) -> None:
        self.qtbot.waitUntil(lambda: bool(until()), timeout=round(seconds * 1000))

    def settle(self) -> None:
        """Until nothing runs and nothing waits."""
        self.qtbot.wait(20)
        self.wait(lambda: not self.widget.runs.kind)

    def choose(self, layer: Any = None, model: str = "", **settings: Any) -> None:
        from dataclasses import replace

        if layer is not None:
            assert self.widget.form.image.choose(str(layer.unique_id))
        if model:
            assert self.widget.form.choose_model(model)
        self.widget.form.choose(replace(self.widget.form.settings(), **settings))
        self.settle()

    def restore(self) -> Any:
        """Press the button and wait for the new layer."""
        before = set(self.names())
        self.widget.panel.restore.click()
        assert self.widget.busy
        self.settle()
        added = [name for name in self.names() if name not in before]
        return self.viewer.layers[added[0]] if added else None

    def names(self) -> list[str]:
        return [layer.name for layer in self.viewer.layers]

    def said(self) -> list[str]:
        """The messages that napari has shown."""
        from napari.utils.notifications import notification_manager

        return [str(record.message) for record in notification_manager.records]


@pytest.fixture
def drive(qtbot: Any) -> Callable[[Any], Driver]:
    from napari.utils.notifications import notification_manager

    notification_manager.records.clear()
    return lambda viewer: Driver(viewer, qtbot)


@pytest.fixture
def photograph() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (90, 120, 3), dtype=np.uint8)
