"""One run in a thread of its own, with its progress in napari's activity dock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from napari.qt.threading import create_worker
from napari.utils import cancelable_progress
from qtpy.QtCore import QObject, QTimer, Signal

from restonnx.errors import Cancelled
from restonnx.plugin.words import Meter
from restonnx.restore import Progress

POLL_MILLISECONDS = 200
"""Where OpenGL is computed on the CPU, whatever changes in the window takes it some 25 ms to draw."""
Work = Callable[[Progress, "Stop"], Any]
"""(progress, cancel) -> what comes out; called in the run's thread, and knows of no viewer."""


class Stop:
    """Set by the window, by napari's activity dock, and by napari when the viewer closes."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.worker: Any = None

    def set(self) -> None:
        self._event.set()

    def is_set(self) -> bool:
        return self._event.is_set() or (self.worker is not None and bool(self.worker.abort_requested))


class Run(QObject):
    """A piece of work that was started. One of `done`, `failed` and `stopped` is emitted at its end, once."""

    advanced = Signal(int, int, float)
    """Done, in all, seconds since the start."""
    done = Signal(object)
    failed = Signal(object)
    stopped = Signal()

    def __init__(self, parent: QObject, work: Work, description: str = "") -> None:
        """description: of the bar in the activity dock; without one there is no bar."""
        super().__init__(parent)
        self._meter, self._stop = Meter(), Stop()
        self._started = time.perf_counter()
        self._bar = cancelable_progress(total=0, desc=description) if description else None
        task = _Task(work, self._meter, self._stop, f"restonnx {description}".strip())
        self._worker = create_worker(task, _start_thread=False)
        self._stop.worker = self._worker
        self._worker.returned.connect(self._on_returned)
        self._worker.finished.connect(self._on_finished)
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_MILLISECONDS)
        self._timer.timeout.connect(self._poll)
        # A window that is closed takes its run with it.
        self.destroyed.connect(partial(_abandon, self._stop, self._bar))
        self._result: Any = Cancelled("the run was cancelled")
        self.running = True

    def start(self) -> None:
        self._timer.start()
        self._worker.start()

    def cancel(self) -> None:
        """Ends within a second or so; `stopped` tells when."""
        self._stop.set()

    @property
    def cancelled(self) -> bool:
        return self._stop.is_set()

    def _poll(self) -> None:
        done, total = self._meter.done, self._meter.total
        self.advanced.emit(done, total, time.perf_counter() - self._started)
        if (bar := self._bar) is None or bar.disable:
            return
        if bar.is_canceled:
            self._stop.set()
        if total and bar.total != total:
            bar.total = total
        if done > bar.n:
            bar.update(done - bar.n)  # handles events, the end of this run perhaps among them

    def _on_returned(self, result: Any) -> None:
        self._result = result[0]

    def _on_finished(self) -> None:
        """Comes in any case, whatever the work did."""
        if not self.running:
            return
        self.running = False
        self._timer.stop()
        if self._bar is not None:
            self._bar.close()
        if isinstance(self._result, Cancelled) or self.cancelled:
            self.stopped.emit()
        elif isinstance(self._result, Exception):
            self.failed.emit(self._result)
        else:
            self.done.emit(self._result)
        self.deleteLater()


def _abandon(stop: Stop, bar: Any, _: Any = None) -> None:
    stop.set()
    if bar is not None:
        bar.close()  # a second time does nothing


@dataclass(frozen=True)
class _Task:
    """What the run's thread calls. An error is handed over as a value: napari would show one that is raised with a
    traceback."""

    work: Work
    meter: Meter
    stop: Stop
    name: str

    def __str__(self) -> str:
        """How napari names it when it asks whether to close the window nevertheless."""
        return self.name

    def __call__(self) -> list[Any]:
        try:
            return [self.work(self.meter, self.stop)]
        except Exception as error:
            return [error]
