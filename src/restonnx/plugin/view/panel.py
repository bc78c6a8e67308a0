"""The buttons below the form, and what is said about a run."""

from __future__ import annotations

from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from restonnx.plugin.view.runs import RESTORE


class Panel(QWidget):
    """Shows whether something runs; what the buttons do is connected by the widget."""

    def __init__(self) -> None:
        super().__init__()
        self.region = QComboBox()
        self.region.addItem("what is visible", "view")
        self.region.addItem("a drawn rectangle", "shape")
        self.region.setToolTip("What Preview restores, at full resolution: its middle where it is large")
        self.follow = QCheckBox("follow")
        self.follow.setToolTip("Preview again when the view or a setting changes")
        self.preview, self.restore = QPushButton("Preview"), QPushButton("Restore")
        self.cancel, self.again = QPushButton("Cancel"), QPushButton("Again as the selected result")
        self.again.setToolTip("Restore again with the settings that the selected result was made with")
        self.bar, self.status, self.runs_on = QProgressBar(), QLabel(), QLabel()
        for label in (self.status, self.runs_on):
            label.setWordWrap(True)
        self._arrange()
        self.show_idle()

    def show_running(self, kind: str) -> None:
        self.bar.setRange(0, 0)
        self.bar.setVisible(True)
        self.cancel.setEnabled(True)
        for button in (self.restore, self.preview, self.again):
            button.setEnabled(kind != RESTORE)

    def show_cancelling(self) -> None:
        self.cancel.setText("Cancelling...")
        self.cancel.setEnabled(False)

    def show_idle(self, status: str = "") -> None:
        self.bar.setVisible(False)
        self.cancel.setText("Cancel")
        self.cancel.setEnabled(False)
        self.status.setText(status)
        for button in (self.restore, self.preview, self.again):
            button.setEnabled(True)

    def advance(self, done: int, total: int, text: str) -> None:
        self.bar.setRange(0, total)
        self.bar.setValue(done)
        self.status.setText(text)

    def _arrange(self) -> None:
        where, buttons = QHBoxLayout(), QGridLayout()
        where.addWidget(QLabel("Preview"))
        where.addWidget(self.region, 1)
        where.addWidget(self.follow)
        for number, button in enumerate((self.preview, self.restore, self.cancel)):
            buttons.addWidget(button, 0, number)
        buttons.addWidget(self.again, 1, 0, 1, 3)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.runs_on)
        column.addLayout(where)
        column.addLayout(buttons)
        column.addWidget(self.bar)
        column.addWidget(self.status)
