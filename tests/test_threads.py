"""Work in threads: its order, how much of it goes on at once, and what happens when it fails."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from restonnx.errors import InputError
from restonnx.threads import Stopwatch, ahead, side_by_side


class Counted:
    """A function that takes a while, the longer the smaller the item, and knows how often it was called at once."""

    def __init__(self) -> None:
        self.lock, self.inside, self.most, self.begun = threading.Lock(), 0, 0, list[int]()

    def __call__(self, item: int) -> int:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.begun.append(item)
        time.sleep(0.02 / (1 + item % 3))
        with self.lock:
            self.inside -= 1
        if item == 7:
            raise InputError("no seven")
        return item**2


def test_reading_ahead_keeps_order_and_is_one_item_ahead() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            yield number

    for number in ahead(items()):
        time.sleep(0.01)
        assert made[-1] == min(number + 1, 4)


def test_an_error_while_reading_ahead_reaches_the_caller() -> None:
    def items() -> Any:
        yield 1
        raise InputError("no second item")

    reading = ahead(items())
    assert next(reading) == 1
    with pytest.raises(InputError, match="no second item"):
        next(reading)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_the_order_of_their_items_and_so_many_at_once(workers: int) -> None:
    function = Counted()
    assert list(side_by_side(function, range(7), workers)) == [n**2 for n in range(7)]
    assert function.most == workers


def test_no_more_is_taken_than_is_needed_next() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    for done, _ in enumerate(side_by_side(lambda item: item, items(), 2)):
        assert len(taken) <= done + 3


def test_what_fails_is_raised_in_its_turn_and_what_waits_is_not_begun() -> None:
    function, results = Counted(), list[int]()
    with pytest.raises(InputError, match="no seven"):
        results.extend(side_by_side(function, range(20), 2))
    assert results == [n**2 for n in range(7)]
    assert max(function.begun) < 12
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("restonnx-tile")]


def test_a_stopwatch_counts_what_is_shared_once() -> None:
    watch = Stopwatch()

    def work() -> None:
        with watch.running():
            time.sleep(0.2)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.2 <= watch.seconds < 0.4
    with pytest.raises(InputError), watch.running():
        raise InputError("inside")
    work()
    assert 0.4 <= watch.seconds < 0.8
