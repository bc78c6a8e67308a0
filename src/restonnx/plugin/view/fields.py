"""The parts of the form: a choice of a layer, a noise level, a model's card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QDialog, QDoubleSpinBox, QHBoxLayout, QSlider, QTextBrowser, QVBoxLayout, QWidget

HINT = Qt.ItemDataRole.ToolTipRole


class LayerChoice(QComboBox):
    """The viewer's layers of some kinds, by name; a choice outlives the renaming of its layer."""

    def __init__(self, viewer: Any, kinds: tuple[type, ...], *, nothing: str = "") -> None:
        """kinds: classes of layers.  nothing: what stands there without a choice."""
        super().__init__()
        self._viewer, self._kinds, self._nothing = viewer, kinds, nothing
        self.setMinimumContentsLength(12)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.refresh()

    def refresh(self, without: Sequence[str] = ()) -> None:
        """After layers came, went, or got another name. without: `unique_id`s of layers that are not offered."""
        fitting: list[Any] = [layer for layer in self._viewer.layers if isinstance(layer, self._kinds)]
        offered = [(str(one.name), str(one.unique_id)) for one in fitting if str(one.unique_id) not in without]
        if self._nothing:
            offered.insert(0, (self._nothing, ""))
        chosen = self.uid
        blocked = self.blockSignals(True)
        self.clear()
        for name, uid in offered:
            self.addItem(name, uid)
        self.setCurrentIndex(max(0, self.findData(chosen)) if offered else -1)
        self.blockSignals(blocked)
        if self.uid != chosen:
            self.currentIndexChanged.emit(self.currentIndex())

    @property
    def uid(self) -> str:
        """The `unique_id` of the chosen layer, "" without one."""
        return str(self.currentData() or "")

    @property
    def layer(self) -> Any:
        return next((layer for layer in self._viewer.layers if str(layer.unique_id) == self.uid), None)

    def choose(self, uid: str) -> bool:
        """-> whether that layer is offered."""
        place = int(self.findData(uid))
        if place >= 0:
            self.setCurrentIndex(place)
        return place >= 0


class NoiseLevel(QWidget):
    """A number in the image's values, or "estimate"."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.how = QComboBox()
        self.how.addItems(["estimate", "value"])
        self.number = QDoubleSpinBox()
        self.number.setRange(0, 1e6)
        self.number.setDecimals(4)
        self.number.setValue(10)
        self.number.setEnabled(False)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.how)
        row.addWidget(self.number, 1)
        self.how.currentIndexChanged.connect(self._on_how)
        self.number.valueChanged.connect(lambda _: self.changed.emit())

    @property
    def value(self) -> float | Literal["estimate"]:
        return float(self.number.value()) if self.how.currentText() == "value" else "estimate"

    @value.setter
    def value(self, level: float | Literal["estimate"]) -> None:
        if isinstance(level, str):
            self.how.setCurrentText("estimate")
        else:
            self.number.setValue(level)
            self.how.setCurrentText("value")

    def _on_how(self) -> None:
        self.number.setEnabled(self.how.currentText() == "value")
        self.changed.emit()


class Strength(QWidget):
    """A slider from 0 to 1 and its number."""

    changed = Signal(float)

    def __init__(self) -> None:
        super().__init__()
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, 100)
        self.number = QDoubleSpinBox()
        self.number.setRange(0, 1)
        self.number.setSingleStep(0.05)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.slider, 1)
        row.addWidget(self.number)
        self.slider.valueChanged.connect(lambda value: self.number.setValue(value / 100))
        self.number.valueChanged.connect(self._on_number)
        self.value = 1.0

    @property
    def value(self) -> float:
        return float(self.number.value())

    @value.setter
    def value(self, strength: float) -> None:
        self.number.setValue(strength)

    def _on_number(self, value: float) -> None:
        blocked = self.slider.blockSignals(True)
        self.slider.setValue(round(value * 100))
        self.slider.blockSignals(blocked)
        self.changed.emit(value)


def show_card(parent: QWidget, title: str, text: str) -> QDialog:
    """Open a model's card in a window that does not block the others."""
    window = QDialog(parent)
    window.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    window.setWindowTitle(title)
    browser = QTextBrowser()
    browser.setOpenExternalLinks(True)
    browser.setMarkdown(text)
    QVBoxLayout(window).addWidget(browser)
    window.resize(620, 560)
    window.show()
    return window
