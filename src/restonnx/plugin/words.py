"""What the widget says: how far a run is and how fast, on what it runs, what went wrong."""

from __future__ import annotations

from dataclasses import dataclass

from restonnx.errors import RestonnxError


@dataclass
class Meter:
    """What a run says of itself: written by its thread, read by the window's."""

    done: int = 0
    total: int = 0

    def __call__(self, done: int, total: int) -> None:
        self.done, self.total = done, total


def describe(done: int, total: int, *, planes: int, pixels: float, seconds: float) -> str:
    """Such as "12 of 40 tiles, plane 2 of 5, 1.3 MP/s, 25 s left".

    total: in tiles times samples, of all `planes`.  pixels: of all planes times samples.  seconds: since the start.
    """
    if total == 0:
        return "loading the model"
    parts = [f"{done} of {total} tiles"]
    if planes > 1:
        parts.append(f"plane {min(planes, done * planes // total + 1)} of {planes}")
    if done and seconds > 0:
        share = done / total
        parts.append(f"{pixels * share / seconds / 1e6:.2g} MP/s")
        parts.append(f"{duration(seconds / share - seconds)} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Such as "8 s", "3 min" or "2 h 10 min"."""
    if seconds < 99.5:
        return f"{max(0, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def sentence(error: Exception) -> str:
    """What went wrong, in one line that begins as a sentence does."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        text = "the memory of this computer ran out: choose less memory for tiles, or the current plane alone"
    elif not isinstance(error, RestonnxError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text[:1].upper() + text[1:]


def where(provider: str, device: str, fallback: str | None) -> str:
    """On what a model really runs, and why that is not the GPU where one was wished for."""
    name = f"runs on {provider}" + (f" ({device})" if device.startswith("cuda") else "")
    return f"{name}: {fallback}" if fallback else name
