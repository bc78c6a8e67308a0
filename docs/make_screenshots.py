"""The pictures of docs/napari.md, from a real window: python docs/make_screenshots.py

Needs napari, a Qt and a display; without one, run it as
    xvfb-run --auto-servernum --server-args="-screen 0 1500x1000x24" python docs/make_screenshots.py
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

IMAGES = Path(__file__).parent / "images"
SIZE = (1180, 780)
QUALITY = 72
"""Of the pictures' compression: the widget's text stays sharp, and the files stay small."""


def main() -> None:
    scratch = Path(tempfile.mkdtemp())
    os.environ["NAPARI_CONFIG"] = str(scratch / "settings.yaml")
    import napari
    from npe2 import PluginManager, PluginManifest

    from restonnx.plugin import last

    last.path = lambda: scratch / "last.json"  # not the user's own
    manager = PluginManager.instance()
    if "restonnx" not in manager:
        manager.register(PluginManifest.from_file(Path(__file__).parents[1] / "napari.yaml"))
    for name, draw in (("photograph", photograph), ("raw", raw), ("micrograph", micrograph)):
        viewer = napari.Viewer(show_welcome_screen=False)
        viewer.window.resize(*SIZE)
        viewer.open_sample("restonnx", name)
        _, widget = viewer.window.add_plugin_dock_widget("restonnx", "Restore")
        wait(lambda widget=widget: not widget.runs.kind and widget.panel.runs_on.text())
        draw(viewer, widget)
        viewer.close()


def photograph(viewer: Any, widget: Any) -> None:
    """The widget with its result, and the wipe."""
    look_at(viewer, 1.6)
    widget.start_restore()
    settle(widget)
    save(viewer, "napari-widget.webp")
    widget.compare.wipe.setChecked(True)
    save(viewer, "napari-wipe.webp")


def raw(viewer: Any, widget: Any) -> None:
    """A RAW file before and after its mosaic was restored."""
    look_at(viewer, 1.6)
    widget.start_restore()
    settle(widget)
    widget.compare.wipe.setChecked(True)
    save(viewer, "napari-raw.webp")


def micrograph(viewer: Any, widget: Any) -> None:
    """A stack that is being restored, and where several samples differ."""
    look_at(viewer, 1.25)
    widget.form.choose_model("denoise-micrographs")
    settle(widget)
    widget.start_restore()
    wait(lambda: widget.panel.bar.value() >= 3)
    dock = activity_of(viewer)
    dock.show()
    save(viewer, "napari-progress.webp")
    dock.hide()
    widget.cancel()
    settle(widget)
    widget.form.choose_model("denoise-detail")
    widget.form.planes.setCurrentIndex(widget.form.planes.findData("current"))
    widget.form.samples.setValue(6)
    widget.form.uncertainty.setChecked(True)
    settle(widget)
    widget.start_restore()
    settle(widget)
    for layer in viewer.layers:
        layer.visible = layer.name.endswith("uncertainty")
    viewer.layers[-1].blending = "opaque"
    viewer.layers.selection.active = viewer.layers[-1]
    save(viewer, "napari-uncertainty.webp")


def look_at(viewer: Any, times: float) -> None:
    """The middle of the image, that many times as large as all of it."""
    viewer.reset_view()
    spin(0.5)
    viewer.scene.camera.zoom *= times


def activity_of(viewer: Any) -> Any:
    """napari's activity dock, which nothing public opens."""
    return viewer.window._qt_viewer.window()._activity_dialog


def save(viewer: Any, name: str) -> None:
    from PIL import Image

    spin(0.8)
    shot = Image.fromarray(viewer.window.screenshot(canvas_only=False, flash=False)).convert("RGB")
    IMAGES.mkdir(exist_ok=True)
    shot.save(IMAGES / name, quality=QUALITY, method=6)


def settle(widget: Any) -> None:
    spin(0.05)
    wait(lambda: not widget.runs.kind)


def spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end)


def wait(until: Callable[[], Any], seconds: float = 300) -> None:
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while not until():
        QApplication.processEvents()
        time.sleep(0.01)
        if time.monotonic() > end:
            raise TimeoutError("the window did not do in time what it should")


if __name__ == "__main__":
    main()
