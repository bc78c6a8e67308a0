"""Before and after: a wipe, a switch, and the difference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari.utils.notifications import show_error
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QGroupBox, QHBoxLayout, QPushButton, QSlider, QVBoxLayout

from restonnx.plugin.view import layers
from restonnx.plugin.view.layers import Shown

STEPS = 1000


class Compare(QGroupBox):
    """Compares what `current` gives; it takes away its own layers, and touches neither input nor result."""

    changed = Signal()
    """After its own layer came or went."""

    def __init__(self, viewer: Any, current: Callable[[], Shown | None], strength: Callable[[], float]) -> None:
        super().__init__("Compare")
        self._viewer, self._current, self._strength = viewer, current, strength
        self.before: str | None = None
        """The layer that shows the input left of the wipe."""
        self._drawn: Shown | None = None
        """Of which result."""
        self._seen: Shown | None = None
        """The result that was looked at last."""
        self._hidden: str | None = None
        """The layer that the switch has hidden."""
        self.toggle = QPushButton("Show before")
        self.toggle.setCheckable(True)
        self.toggle.setToolTip("Hide the result, so that the input is seen")
        self.wipe = QCheckBox("Wipe")
        self.wipe.setToolTip("Left of the line the input, right of it the result")
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, STEPS)
        self.slider.setValue(STEPS // 2)
        self.slider.setEnabled(False)
        self.difference = QPushButton("Difference layer")
        self.difference.setToolTip("Result minus input, as a layer of its own")
        self.toggle.toggled.connect(self._on_toggle)
        self.wipe.toggled.connect(self._on_wipe)
        self.slider.valueChanged.connect(self._draw)
        self.difference.clicked.connect(self._on_difference)
        self._arrange()
        self.refresh()

    def refresh(self) -> None:
        """After results came or went."""
        shown = self._current()
        there = shown is not None and layers.find(self._viewer, shown.layer) is not None
        self.setEnabled(there)
        if not there:
            self.toggle.setChecked(False)
            self.wipe.setChecked(False)
            self._seen = self._drawn = None
            return
        if shown is not self._seen:  # what was hidden is shown again, and so is the switch
            self._seen = shown
            self.toggle.setChecked(False)
        if self.before is not None and shown is not self._drawn:
            if shown is None or self._drawn is None or shown.source != self._drawn.source:
                self._remove()
            self._draw()

    def _arrange(self) -> None:
        first, second = QHBoxLayout(), QHBoxLayout()
        first.addWidget(self.wipe)
        first.addWidget(self.slider, 1)
        second.addWidget(self.toggle)
        second.addWidget(self.difference)
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 4, 8, 8)
        for row in (first, second):
            column.addLayout(row)

    def _on_toggle(self, before: bool) -> None:
        self.toggle.setText("Show after" if before else "Show before")
        shown = self._current()
        self._hidden = shown.layer if before and shown is not None else self._hidden
        if (layer := layers.find(self._viewer, self._hidden)) is not None:
            layer.visible = not before

    def _on_wipe(self, on: bool) -> None:
        self.slider.setEnabled(on)
        if on:
            self._draw()
        else:
            self._remove()

    def _on_difference(self) -> None:
        shown = self._current()
        if shown is None:
            return
        try:
            layers.add_difference(self._viewer, shown, self._strength())
        except Exception as error:
            show_error(f"The difference could not be computed: {error}")

    def _draw(self) -> None:
        """Show the left part of the input above the result: a view of it, so that it costs no memory."""
        shown = self._current()
        if not self.wipe.isChecked() or shown is None:
            return
        source, original = shown.outcome.job.source, shown.outcome.original
        across = source.rows_and_columns[1]
        width = round(int(original.shape[across]) * self.slider.value() / STEPS)
        left = [slice(None)] * original.ndim
        left[across] = slice(0, max(width, 1))
        layer = layers.find(self._viewer, self.before) if self.before else None
        if layer is None:
            layer = self._add(shown, original[tuple(left)])
        else:
            layer.data = original[tuple(left)]
            if shown is not self._drawn:
                layers.adjust(layer, source.placed(shown.outcome.job.region, 1).arguments())
                self._drawn = shown
        layer.visible = width > 0

    def _add(self, shown: Shown, data: Any) -> Any:
        source = shown.outcome.job.source
        active = self._viewer.layers.selection.active
        self._drawn = shown
        layer = self._viewer.add_image(
            data,
            name=f"{source.name} before",
            rgb=source.rgb,
            multiscale=False,
            **source.look,
            **source.placed(shown.outcome.job.region, 1).arguments(),
        )
        result = layers.find(self._viewer, shown.layer)
        if result is not None:
            index = self._viewer.layers.index(result) + 1
            now = self._viewer.layers.index(layer)
            if now != index:
                self._viewer.layers.move(now, index)
        if active is not None:
            self._viewer.layers.selection.active = active
        self.before = str(layer.unique_id)
        self.changed.emit()
        return layer

    def _remove(self) -> None:
        layer = layers.find(self._viewer, self.before)
        self.before = None
        if layer is not None:
            self._viewer.layers.remove(layer)
