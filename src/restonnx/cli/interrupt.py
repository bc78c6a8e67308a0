"""Work that Ctrl-C stops cleanly: it runs in a thread while the main thread waits for it or a signal."""

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from restonnx.errors import Cancelled

Result = TypeVar("Result")


def run_cancellable(work: Callable[[threading.Event], Result]) -> Result:
    """Run `work(cancel)` in a thread and give back its result, or raise what it raised.

    Ctrl-C (and SIGTERM) sets `cancel`; the work is then expected to raise `Cancelled` soon. It is always
    waited for, so that it can remove what it had half written. Raises Cancelled also where it ran to its end.
    """
    cancel = threading.Event()
    outcome: Future[Result] = Future()

    def run() -> None:
        try:
            outcome.set_result(work(cancel))
        except BaseException as error:
            outcome.set_exception(error)

    with _signals_set(cancel):
        worker = threading.Thread(target=run, name="restonnx-worker")
        worker.start()
        while worker.is_alive():
            # Windows cannot interrupt a wait without a time limit.
            worker.join(timeout=0.1)
    result = outcome.result()
    if cancel.is_set():  # too late for the work to notice, not for what would come after it
        raise Cancelled("cancelled")
    return result


@contextmanager
def _signals_set(cancel: threading.Event) -> Iterator[None]:
    """While inside, the stop signals set `cancel` and do not end the process; ignored ones stay ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous: dict[int, Any] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, lambda *_: cancel.set())
        yield
    finally:
        for changed, handler in previous.items():
            signal.signal(changed, handler)
