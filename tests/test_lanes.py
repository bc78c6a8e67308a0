"""Tiles side by side on the CPU: the same result, two at once, and none without its share of the threads."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_model import tiny_model

from restonnx.errors import Cancelled, ModelError
from restonnx.model import read
from restonnx.restore import Restorer
from restonnx.session import LANES, Session

IMAGE = np.random.default_rng(0).integers(0, 255, (100, 120, 3), dtype=np.uint8)


class Watched:
    """In the place of a session's run: notes what it was asked for and how many ran at once."""

    def __init__(self, session: Session) -> None:
        self.own, self.lock, self.inside, self.most = session.run, threading.Lock(), 0, 0
        self.asked: list[tuple[int | None, bool]] = []

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.asked.append((options.get("lane"), options["last"]))
        time.sleep(0.01)
        try:
            return self.own(*arguments, **options)
        finally:
            with self.lock:
                self.inside -= 1


def watched(restorer: Restorer) -> Watched:
    found = Watched(restorer._session)
    restorer._session.run = found  # type: ignore[method-assign, assignment]
    return found


def test_two_threads_are_for_two_tiles_and_one_for_one(tiny: Path) -> None:
    assert Session(read(tiny), device="cpu", threads=2).lanes == LANES == 2
    assert Session(read(tiny), device="cpu", threads=1).lanes == 1


@pytest.mark.parametrize("threads", [2, 3])
def test_tiles_side_by_side_give_what_tiles_one_by_one_give(tiny: Path, threads: int) -> None:
    alone, beside = (Restorer(tiny, device="cpu", threads=number, tile=40) for number in (1, threads))
    seen = watched(beside)
    for one, other in zip(
        alone(IMAGE, samples=3, return_std=True, seed=5), beside(IMAGE, samples=3, return_std=True, seed=5), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert seen.most == 2
    assert beside.computed == alone.computed
    batch = np.random.default_rng(1).random((2, 3, 80, 64), np.float32)
    np.testing.assert_array_equal(alone.run(batch, seed=1), beside.run(batch, seed=1))


@pytest.mark.parametrize(("planes", "single"), [(1, 1), (4, 0), (5, 1)])
def test_a_tile_that_nothing_runs_beside_has_all_threads(tiny: Path, planes: int, single: int) -> None:
    restorer = Restorer(tiny, device="cpu", threads=2)
    seen = watched(restorer)
    restorer(np.stack([IMAGE[:48, :48]] * planes), axes="ZYXC")
    assert [lane for lane, _ in seen.asked].count(None) == single
    # Each lane gives its memory back with its last tile, and so does a tile without one.
    assert [seen.asked.count((lane, True)) for lane in (0, 1, None)] == [min(planes // 2, 1)] * 2 + [single]


def test_models_with_large_weights_hold_them_once(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(read(tiny), device="cpu", threads=2)
    monkeypatch.setattr("restonnx.session.LARGEST_IN_LANES", 100)
    assert session.lanes == 1


class Crowded:
    """Stands for onnxruntime.InferenceSessions that share a memory, in pixels of tiles."""

    def __init__(self, session: Any, room: int) -> None:
        self.session, self.room, self.used, self.lock, self.failed = session, room, 0, threading.Lock(), 0

    def run(self, names: Any, feeds: Any, options: Any) -> Any:
        pixels = feeds["image"].shape[-2] * feeds["image"].shape[-1]
        with self.lock:
            if self.used + pixels > self.room:
                self.failed += 1
                raise RuntimeError("std::bad_alloc")
            self.used += pixels
        time.sleep(0.05)
        try:
            return self.session.run(names, feeds)
        finally:
            with self.lock:
                self.used -= pixels


def test_memory_for_one_tile_but_not_for_two_at_once_suffices(tiny: Path) -> None:
    alone, beside = (Restorer(tiny, device="cpu", threads=number, tile=64) for number in (1, 2))
    session = beside._session
    crowded = Crowded(session._session, int(1.2 * 64 * 64))
    session._session, session._lanes = crowded, {0: crowded, 1: crowded}
    stack = np.stack([IMAGE[:64, :64]] * 5)
    np.testing.assert_array_equal(beside(stack, axes="ZYXC"), alone(stack, axes="ZYXC"))
    assert 1 <= crowded.failed <= 2
    assert session.lanes == 1, "one at a time from then on"
    assert beside._runner._failed is None, "and as wholes"


@pytest.mark.parametrize("change", ["gone", "another"])
def test_a_model_whose_file_is_gone_or_another_goes_on_as_it_was_loaded(tmp_path: Path, change: str) -> None:
    path = tiny_model(tmp_path / "kept.onnx", name="kept", draws=0)
    expected = Restorer(path, device="cpu", threads=1, tile=40)(IMAGE)
    restorer = Restorer(path, device="cpu", threads=2, tile=40)
    path.unlink()
    if change == "another":
        tiny_model(path, name="kept", draws=0, blur=False)
    np.testing.assert_array_equal(restorer(IMAGE), expected)


def test_a_cancel_ends_both(tmp_path: Path) -> None:
    slow = tiny_model(tmp_path / "slow.onnx", name="slow", convs=60)
    restorer, cancel = Restorer(slow, device="cpu", threads=2), threading.Event()
    stack = np.random.default_rng(0).integers(0, 255, (4, 512, 512, 3), dtype=np.uint8)
    timer = threading.Timer(0.3, cancel.set)
    timer.start()
    started = time.perf_counter()
    with pytest.raises(Cancelled):
        restorer(stack, axes="ZYXC", cancel=cancel)
    assert time.perf_counter() - started < 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("restonnx")]


def test_a_tile_that_fails_ends_the_run(tiny: Path) -> None:
    restorer = Restorer(tiny, device="cpu", threads=2, tile=40)

    def fails(*_: Any, **__: Any) -> None:
        raise ModelError("tiny failed to run")

    restorer._session.run = fails  # type: ignore[method-assign, assignment]
    with pytest.raises(ModelError, match="tiny failed to run"):
        restorer(IMAGE)


def test_time_in_the_graph_is_counted_once(tiny: Path) -> None:
    restorer = Restorer(tiny, device="cpu", threads=2, tile=64)
    session = restorer._session
    slow = Crowded(session._session, 10**9)
    session._lanes = {0: slow, 1: slow}
    restorer(np.stack([IMAGE[:64, :64]] * 8), axes="ZYXC")  # 50 ms and more each
    assert 4 * 0.05 <= restorer.graph_seconds < 7 * 0.05
