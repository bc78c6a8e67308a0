"""Work in a thread that the stop signals cancel."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from restonnx.cli.interrupt import run_cancellable
from restonnx.errors import Cancelled


@pytest.fixture(autouse=True)
def stop_signals() -> Iterator[None]:
    """As in a terminal: a job in a shell's background begins with Ctrl-C ignored, which `run_cancellable` respects."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def work(cancel: threading.Event) -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        return cancel.wait(timeout=0.3)

    assert run_cancellable(work) is False


def test_the_result_of_the_work_comes_back() -> None:
    assert run_cancellable(lambda cancel: cancel.is_set()) is False


def test_the_error_of_the_work_comes_back() -> None:
    def work(cancel: threading.Event) -> None:
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        run_cancellable(work)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_signal_cancels_the_work_and_waits_for_its_end(number: int) -> None:
    tidied = []

    def work(cancel: threading.Event) -> None:
        os.kill(os.getpid(), number)
        assert cancel.wait(timeout=10)
        tidied.append(True)
        raise Cancelled("cancelled")

    with pytest.raises(Cancelled):
        run_cancellable(work)
    assert tidied == [True]


def test_work_that_does_not_look_at_cancel_is_cancelled_at_its_end() -> None:
    def work(cancel: threading.Event) -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        return cancel.wait(timeout=10)

    with pytest.raises(Cancelled):
        run_cancellable(work)


def test_the_signal_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run_cancellable(lambda cancel: None)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_it_also_works_outside_the_main_thread() -> None:
    results = []
    thread = threading.Thread(target=lambda: results.append(run_cancellable(lambda cancel: 7)))
    thread.start()
    thread.join()
    assert results == [7]
