"""Tiles through the graph: some of them at once, image by image, and in smaller ones where memory runs out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from restonnx import tiles
from restonnx.blend import Blend
from restonnx.errors import OutOfMemory
from restonnx.session import check_cancelled
from restonnx.threads import side_by_side

if TYPE_CHECKING:
    from restonnx.model import Metadata
    from restonnx.session import Cancel, Session

Floats = np.ndarray[Any, np.dtype[np.float32]]
Item = TypeVar("Item")


class Runner:
    """A session for tiles of one model."""

    def __init__(self, session: Session, meta: Metadata) -> None:
        self._session, self._meta = session, meta
        self._turn, self._inside = threading.Condition(), 0
        self._crowded = False
        """Whether the memory did not suffice for several at once."""
        self._failed: int | None = None
        """Pixels of the tile for which the memory did not suffice."""
        self.computed = 0
        """Pixels of all tiles so far."""

    def each(
        self, jobs: Iterable[tuple[Item, Mapping[str, Floats]]], total: int, cancel: Cancel | None
    ) -> Generator[tuple[Item, Floats], None, None]:
        """The results of `total` tiles, each with what came with its inputs, in their order; as many tiles at once as
        the device does best."""
        lanes = min(self._session.lanes, total)
        paired = total - total % lanes if lanes > 1 else 0

        def run(job: tuple[int, tuple[Item, Mapping[str, Floats]]]) -> tuple[Item, Floats]:
            number, (item, feeds) = job
            check_cancelled(cancel)
            if number >= paired:  # nothing is left to run beside it
                return item, self.run(feeds, cancel, last=number + 1 == total)
            return item, self.run(feeds, cancel, lane=number % lanes, last=number >= paired - lanes)

        with closing(side_by_side(run, enumerate(jobs), lanes)) as results:
            for result in results:
                check_cancelled(cancel)
                yield result

    def run(
        self, feeds: Mapping[str, Floats], cancel: Cancel | None, *, lane: int | None = None, last: bool = False
    ) -> Floats:
        """One image of the batch after the other: the tile's size is for the memory that one takes.

        lane, last: as in `Session.run`.
        """
        count, _, height, width = feeds["image"].shape
        with self._turn:
            self.computed += height * width
        if count == 1:
            return self._run_one(feeds, cancel, lane, last)
        single = ({name: v[n : n + 1] if len(v) == count else v for name, v in feeds.items()} for n in range(count))
        return np.concatenate([self._run_one(of_one, cancel, lane, last) for of_one in single])

    def _run_one(self, feeds: Mapping[str, Floats], cancel: Cancel | None, lane: int | None, last: bool) -> Floats:
        """Tiles for which the memory does not suffice together are run one by one from then on."""
        if lane is not None and not self._crowded:
            try:
                with self._entered():
                    return self._session.run(feeds, cancel, lane=lane, last=last, smaller=True)
            except OutOfMemory:
                self._crowded = True
        with self._entered():
            if self._crowded:
                self._session.leave_lanes()
            return self._run_alone(feeds, cancel, last)

    def _run_alone(self, feeds: Mapping[str, Floats], cancel: Cancel | None, last: bool) -> Floats:
        """Once memory ran out tiles as large as that one are halved, one time; if that does not suffice either it is
        an error, or the session goes on elsewhere."""
        height, width = feeds["image"].shape[-2:]
        side = half(self._meta, height, width)
        if side is None or self._failed is None or height * width < self._failed:
            try:
                return self._session.run(feeds, cancel, last=last, smaller=side is not None)
            except OutOfMemory:
                if side is None:
                    raise
                self._failed = height * width
        return in_pieces(lambda piece: self._session.run(piece, cancel, last=True), feeds, self._meta, side)

    @contextmanager
    def _entered(self) -> Iterator[None]:
        """While inside, a run may have others beside it, unless the memory did not suffice for that."""
        with self._turn:
            self._turn.wait_for(lambda: self._inside == 0 or not self._crowded)
            self._inside += 1
        try:
            yield
        finally:
            with self._turn:
                self._inside -= 1
                self._turn.notify_all()


def half(meta: Metadata, height: int, width: int) -> int | None:
    """The side of tiles of at most a quarter of that size; None where they would be too small, or the network has to
    see its tiles whole."""
    side = int((height * width) ** 0.5) // 2 // meta.tile.multiple * meta.tile.multiple
    enough = side >= tiles.smallest_tile(meta.tile.halo, meta.tile.multiple)
    return side if enough and meta.tile.mode == "halo" else None


def in_pieces(
    run: Callable[[Mapping[str, Floats]], Floats], feeds: Mapping[str, Floats], meta: Metadata, side: int
) -> Floats:
    """What `run` would give of these inputs at once, (1, C, H, W), by tiles of that side."""
    height, width = feeds["image"].shape[-2:]
    plan = tiles.plan(height, width, tile=side, halo=meta.tile.halo, multiple=meta.tile.multiple)
    blend = Blend(plan, (height, width), fade=0, scale=meta.scale)
    pieces = []
    for number, tile in enumerate(plan):
        piece = run({name: _window(meta, name, values, tile) for name, values in feeds.items()})
        pieces.append(blend.add(number, piece.reshape(-1, *piece.shape[2:])))
    out = np.empty((len(pieces[0][1]), height * meta.scale, width * meta.scale), np.float32)
    for (rows, cols), values in pieces:
        out[:, rows, cols] = values
    return out[None]


def _window(meta: Metadata, name: str, values: Floats, tile: tiles.Tile) -> Floats:
    """Of an input by the pixel what belongs to the tile; others, such as a noise level and a kernel, as they are."""
    role = next(spec.role for spec in meta.inputs if spec.name == name)
    rows, cols, scale = tile.rows, tile.cols, meta.scale
    if role == "noise":
        rows, cols = meta.noise_window(rows, cols)
    elif role == "reference":
        rows, cols = slice(rows.start * scale, rows.stop * scale), slice(cols.start * scale, cols.stop * scale)
    elif role not in ("image", "mask"):
        return values
    return np.ascontiguousarray(values[..., rows, cols])
