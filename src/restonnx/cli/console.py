"""What the commands say: results on stdout, everything about how it went on stderr, one line each."""

from typing import NoReturn

import typer
from rich.console import Console


def stderr() -> Console:
    """A rich console on the present stderr; made anew each time, so that a redirected stderr is honoured."""
    return Console(stderr=True, highlight=False)


def say(line: str, console: Console | None = None) -> None:
    """Print one line to stderr, never wrapped or styled; through `console` while a bar is shown there."""
    (console or stderr()).print(line, markup=False, highlight=False, soft_wrap=True)


def report(error: BaseException | str, console: Console | None = None) -> None:
    """Print one `error: ...` line to stderr."""
    say(f"error: {one_line(error)}", console)


def fail(error: BaseException | str, code: int = 1) -> NoReturn:
    """Report the error and leave with this exit code."""
    report(error)
    raise typer.Exit(code)


def one_line(error: BaseException | str) -> str:
    """The message of an error without line breaks; its type where it has no message; a system's with the file's name
    in place of its number."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__
