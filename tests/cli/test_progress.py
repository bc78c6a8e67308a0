"""The progress bar of a run."""

from __future__ import annotations

import io

from rich.console import Console

from restonnx.cli.progress import bar


def drawn(terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=150)
    with bar(3, console) as shown:
        shown.start_file(0, "first.png")
        shown.advance(4, 4)
        shown.start_file(1, "second [red].png")
        shown.advance(2, 8)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_shows_the_file_its_tiles_their_rate_and_the_remaining_time() -> None:
    text = drawn(terminal=True)
    for part in ("file 2/3", "second [red].png", "tile 2/8", "tiles/s", "left"):
        assert part in text


def test_nothing_is_drawn_where_there_is_no_terminal() -> None:
    assert drawn(terminal=False) == ""
