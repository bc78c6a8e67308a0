"""Where memory runs out: smaller tiles once, with the same result; then another device or an error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_model import tiny_model

from restonnx.errors import OutOfMemory
from restonnx.model import read
from restonnx.pieces import Runner, half, in_pieces
from restonnx.providers import CPU, CUDA
from restonnx.restore import Restorer
from restonnx.session import Session

Array = np.ndarray[Any, Any]


def feeds_of(runner_model: Any, side: tuple[int, int] = (56, 72)) -> dict[str, Array]:
    """One image and all else that a model takes, drawn."""
    meta, rng = runner_model.metadata, np.random.default_rng(0)
    draws, (rows, cols) = meta.sampler.draws, meta.noise_window(slice(0, side[0]), slice(0, side[1]))
    shapes: dict[str, tuple[int, ...]] = {
        "image": (1, meta.channels, *side),
        "noise": (1, draws, meta.noise_channels, rows.stop, cols.stop),
        "mask": (1, 1, *side),
        "reference": (1, meta.channels, side[0] * meta.scale, side[1] * meta.scale),
        "noise_level": (1, 1, 1, 1),
        "kernel": (1, 1, 5, 5),
    }
    return {spec.name: rng.random(shapes[spec.role], np.float32) for spec in meta.inputs}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"draws": 0, "channels": 1},
        {"scale": 2, "extra": ("reference",)},
        {"extra": ("mask", "noise_level", "kernel")},
        {"noise_channels": 4, "noise_stride": 2},
    ],
)
def test_pieces_give_what_the_whole_gives(tmp_path: Path, options: dict[str, Any]) -> None:
    model = read(tiny_model(tmp_path, **options))
    session, feeds, sides = Session(model, device="cpu"), feeds_of(model), []

    def run(piece: Any) -> Array:
        sides.append(piece["image"].shape[-2:])
        return session.run(piece)

    side = half(model.metadata, 56, 72)
    assert side == 28
    whole, cut = session.run(feeds), in_pieces(run, feeds, model.metadata, side)
    assert len(sides) >= 4
    assert max(h * w for h, w in sides) <= 56 * 72 / 4
    np.testing.assert_allclose(cut, whole, atol=1e-6)


def test_tiles_that_are_small_or_must_be_whole_are_not_cut(tmp_path: Path) -> None:
    meta = read(tiny_model(tmp_path, name="cut")).metadata  # 20 pixels at least
    assert half(meta, 40, 40) == 20
    assert half(meta, 39, 39) is None
    whole = read(tiny_model(tmp_path, name="whole", whole=True)).metadata
    assert half(whole, 256, 256) is None


SCRIPT = """
import resource, sys
import numpy as np
from restonnx.restore import Restorer

image = np.random.default_rng(0).integers(0, 255, (512, 512, 3), dtype=np.uint8)
restorer = Restorer(sys.argv[1], device="cpu", threads=1, tile=512)
restorer(image[:64, :64])
with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + int(sys.argv[2]) * 2**20,) * 2)
np.save(sys.argv[3], restorer(image))
print(restorer._runner._failed)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits its own memory as Linux does")
def test_memory_that_does_not_suffice_for_a_tile_suffices_for_its_pieces(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, draws=0, convs=2)

    def run(megabytes: int) -> tuple[str, Array]:
        out = tmp_path / f"{megabytes}.npy"
        command = [sys.executable, "-c", SCRIPT, str(model), str(megabytes), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip(), np.load(out)

    (enough, expected), (short, restored) = run(4000), run(50)
    assert (enough, short) == ("None", str(512 * 512))
    np.testing.assert_array_equal(restored, expected)


HELD = """
import resource, sys
import numpy as np
from restonnx.restore import Restorer

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20

restorer = Restorer(sys.argv[1], device="cpu", threads=1, tile=1024)
image = np.zeros((1024, 1024, 3), np.uint8)
restorer(image[:64, :64])
before = held()
restorer(image)
print(held() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads its own memory as Linux tells it")
def test_after_a_run_the_memory_of_its_tiles_is_given_back(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, draws=0, convs=2)  # 128 MB for each convolution
    command = [sys.executable, "-c", HELD, str(model)]
    grown = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert grown < 150  # MB; 531 where it was kept


class Failing:
    """Stands for an onnxruntime.InferenceSession on CUDA that has too little memory for larger tiles."""

    def __init__(self, session: Any, most: int) -> None:
        self.session, self.most, self.sides = session, most, list[int]()

    def run(self, names: Any, feeds: Any, options: Any) -> Any:
        side = max(feeds["image"].shape[-2:])
        self.sides.append(side)
        if side > self.most:
            raise RuntimeError("CUDA failure 2: out of memory ; GPU=0")
        return self.session.run(names, feeds)


@pytest.mark.parametrize(("most", "provider"), [(40, CUDA), (8, CPU)])
def test_cuda_is_left_only_when_smaller_tiles_do_not_fit_either(tmp_path: Path, most: int, provider: str) -> None:
    model = read(tiny_model(tmp_path, draws=0))
    expected, feeds = Session(model, device="cpu").run(feeds_of(model, (64, 64))), feeds_of(model, (64, 64))
    session = Session(model, device="auto")
    failing = Failing(session._session, most)
    session.provider, session.device, session._session, session._on_cpu = CUDA, "cuda:0", failing, None
    runner = Runner(session, model.metadata)
    for _ in range(2):
        np.testing.assert_allclose(runner.run(feeds, None, last=False), expected, atol=1e-6)
    assert session.provider == provider
    assert failing.sides.count(64) == 1  # once is enough to know
    if provider == CPU:
        assert session.fallback is not None
        assert "out of memory on cuda:0 with a tile of 32 x 32 pixels" in session.fallback


def test_large_tiles_are_not_cut_to_what_a_small_one_once_needed(tmp_path: Path) -> None:
    model = read(tiny_model(tmp_path, draws=0))
    session = Session(model, device="cpu")
    session._session = failing = Failing(session._session, 30)
    runner = Runner(session, model.metadata)
    runner.run(feeds_of(model, (40, 40)), None, last=False)
    failing.most, failing.sides = 10_000, []
    runner.run(feeds_of(model, (128, 128)), None, last=False)
    assert len(failing.sides) < 12
    assert 40 < max(failing.sides) < 128
    runner.run(feeds_of(model, (36, 36)), None, last=False)
    assert failing.sides[-1] == 36


def test_models_that_see_tiles_whole_tell_that_the_memory_is_short(tmp_path: Path) -> None:
    model = read(tiny_model(tmp_path, draws=0, whole=True))
    session = Session(model, device="cpu")
    session._session = Failing(session._session, 8)
    with pytest.raises(OutOfMemory, match="out of memory on cpu with a tile of 64 x 64 pixels: pass a smaller tile"):
        Runner(session, model.metadata).run(feeds_of(model, (64, 64)), None, last=True)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_restorer_goes_on_in_pieces(tmp_path: Path, threads: int) -> None:
    path = tiny_model(tmp_path)
    image = np.random.default_rng(0).integers(0, 255, (3, 90, 120), dtype=np.uint8)
    expected = Restorer(path, device="cpu", tile=64)(image)
    restorer = Restorer(path, device="cpu", tile=64, threads=threads)
    session = restorer._session
    session._session = failing = Failing(session._session, 47)
    session._lanes = {0: failing, 1: failing}
    np.testing.assert_array_equal(restorer(image), expected)
    assert restorer._runner._failed is not None
