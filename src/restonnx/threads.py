"""Work in threads of its own, in the order in which it comes: what is needed next, and what is done side by side."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """The same items, the next one being made in a second thread while the caller works on this one."""
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="restonnx-ahead") as second:
        following: Future[Any] = second.submit(next, items, end)
        while (item := following.result()) is not end:
            following = second.submit(next, items, end)
            yield item


def side_by_side(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Generator[Result, None, None]:
    """What `function` makes of the items, in their order: so many at once, by workers that take turns, each in its own
    thread, while the caller works on the results. One more item waits for its worker, so that none stands still.

    What `function` raises is raised in the item's turn, what making an item raises at once; the rest is not begun.
    """
    pools = [ThreadPoolExecutor(1, thread_name_prefix="restonnx-tile") for _ in range(workers)]
    running = deque[Future[Result]]()
    try:
        for number, item in enumerate(items):
            running.append(pools[number % workers].submit(function, item))
            if len(running) > workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        for future in running:
            future.cancel()
        for pool in pools:
            pool.shutdown()


class Stopwatch:
    """Counts the seconds during which one thread or more was inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside, self._since = 0, 0.0
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        with self._lock:
            if self._inside == 0:
                self._since = time.perf_counter()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self.seconds += time.perf_counter() - self._since
