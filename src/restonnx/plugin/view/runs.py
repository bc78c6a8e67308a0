"""One run at a time: what comes next waits until the one before has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, Signal

from restonnx.plugin.view.run import Run

PREPARE, PREVIEW, RESTORE = "prepare", "preview", "restore"


class Runs(QObject):
    """Starts runs of three kinds. A preview gives way to whatever is asked for next, a restoration to nothing, not
    even while it waits for its turn."""

    started = Signal(str)
    done = Signal(str, object)
    failed = Signal(str, object)
    stopped = Signal(str)

    def __init__(self, parent: QObject, make: Callable[[str], Run | None]) -> None:
        """make: a new run of some kind with what is chosen when it is its turn; None where nothing can be done."""
        super().__init__(parent)
        self._make = make
        self._run: Run | None = None
        self._next = ""
        self.kind = ""
        """Of what runs, "" for nothing."""

    def begin(self, kind: str) -> None:
        """Start now, or when what runs has ended."""
        if self.kind == RESTORE:
            return
        if self.kind:
            if self._next != RESTORE:
                self._next = kind
            if self._run is not None and self.kind == PREVIEW:
                self._run.cancel()
            return
        # First of all, as napari handles events while it makes a progress bar: another `begin` may come from there.
        self.kind = kind
        run = self._make(kind)
        if run is None:
            self._end(None)
            return
        self._run = run
        run.done.connect(lambda result: self._end(self.done, result))
        run.failed.connect(lambda error: self._end(self.failed, error))
        run.stopped.connect(lambda: self._end(self.stopped))
        self.started.emit(kind)
        run.start()

    def cancel(self) -> None:
        """Ends what runs within a second or so, and forgets what waits."""
        self._next = ""
        if self._run is not None:
            self._run.cancel()

    def _end(self, signal: Any, *content: object) -> None:
        kind, self.kind, self._run = self.kind, "", None
        if signal is not None:
            signal.emit(kind, *content)
        following, self._next = self._next, ""
        if following and not self.kind:
            self.begin(following)
