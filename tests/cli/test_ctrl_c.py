"""Ctrl-C in a real process: it ends soon, says so, and leaves nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_model import tiny_model

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send SIGINT to one process")

SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture(autouse=True)
def _interrupts_are_not_ignored() -> Iterator[None]:
    """A test run in the background of a shell would hand its ignored SIGINT down to the command."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes about a second for each tile of 256 pixels."""
    return tiny_model(tmp_path_factory.mktemp("slow") / "slow.onnx", name="slow", convs=50)


def photograph(path: Path, size: int) -> Path:
    Image.fromarray(np.zeros((size, size, 3), np.uint8)).save(path)
    return path


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "restonnx", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def interrupt_after(process: subprocess.Popen[str], word: str, number: int = signal.SIGINT) -> tuple[float, str]:
    """Signal the process once this word is on its stderr. -> seconds until it ended, the rest of stderr."""
    assert process.stderr is not None
    for line in process.stderr:
        if word in line:
            break
    time.sleep(0.4)  # well into the first tile
    started = time.monotonic()
    process.send_signal(number)
    rest = process.communicate(timeout=30)[1]
    return time.monotonic() - started, rest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_signal_ends_the_run_soon_and_leaves_no_file(tmp_path: Path, slow: Path, number: int) -> None:
    image = photograph(tmp_path / "a.png", 1400)
    out = tmp_path / "out"
    process = start("restore", image, "-o", out, "--model", slow, "--device", "cpu", "--tile", 256)
    seconds, rest = interrupt_after(process, "CPUExecutionProvider", number)
    assert process.returncode == 130
    assert rest == "cancelled\n"
    assert seconds < 3
    assert list(out.iterdir()) == []


def test_what_was_finished_before_ctrl_c_stays_whole(tmp_path: Path, slow: Path) -> None:
    small, large = photograph(tmp_path / "a.png", 64), photograph(tmp_path / "b.png", 1400)
    out = tmp_path / "out"
    process = start("restore", small, large, "-o", out, "--model", slow, "--device", "cpu", "--tile", 256)
    _, rest = interrupt_after(process, f"-> {out / 'a.png'}")
    assert process.returncode == 130
    assert "cancelled" in rest
    assert [path.name for path in out.iterdir()] == ["a.png"]
    with Image.open(out / "a.png") as image:
        image.load()
        assert image.size == (64, 64)
