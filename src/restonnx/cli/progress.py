"""The progress bar of a run over many images."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Bar:
    """One bar for all images that moves with every tile; beside it the file, tiles, their rate, the time."""

    def __init__(self, progress: Progress, files: int) -> None:
        self._progress = progress
        self._files = files
        self._number = 0
        self._earlier_tiles = 0
        self._tiles = 0
        self._started = time.monotonic()
        self._task = progress.add_task("", total=files, file=f"0/{files}", tiles="")

    @property
    def console(self) -> Console:
        """Where lines can be printed while the bar is shown."""
        return self._progress.console

    def start_file(self, number: int, name: str) -> None:
        """Image `number` (from 0) begins."""
        self._number = number
        self._earlier_tiles += self._tiles
        self._tiles = 0
        self._progress.update(
            self._task, description=name, completed=number, file=f"{number + 1}/{self._files}", tiles=""
        )

    def register(self, done: int, total: int) -> None:
        """So much of the present image's reference is on its place; the bar stands still meanwhile."""
        self._progress.update(self._task, tiles=f"registering the reference: {100 * done // total} %")

    def advance(self, done: int, total: int) -> None:
        """`done` of the present image's `total` tiles are ready."""
        self._tiles = done
        rate = (self._earlier_tiles + done) / max(time.monotonic() - self._started, 1e-6)
        self._progress.update(
            self._task,
            completed=self._number + done / max(total, 1),
            tiles=f"tile {done}/{total}  {rate:.1f} tiles/s",
        )


@contextmanager
def bar(files: int, console: Console) -> Iterator[Bar]:
    """A bar on the console while inside; nothing is drawn where the console is not a terminal."""
    columns = (
        TextColumn("file {task.fields[file]}  {task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[tiles]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    # stdout may be a pipe whose reader wants the results alone, so neither stream is redirected into the bar.
    with Progress(
        *columns,
        console=console,
        disable=not console.is_terminal,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as progress:
        yield Bar(progress, files)
