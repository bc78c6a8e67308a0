"""One run without a viewer: what comes out, where large results go, strength and difference."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_model import tiny_model
from tiny_source import source

import restonnx
from restonnx import Cancelled, InputError, photograph
from restonnx.plugin.engine import Engine, Job, blended, difference, without_colour
from restonnx.plugin.settings import Settings
from restonnx.plugin.source import Source


@pytest.fixture
def tiny_source() -> Callable[..., Source]:
    from dataclasses import replace

    def make(data: np.ndarray, *, rgb: bool = False) -> Source:
        return replace(source(data.shape, rgb=rgb), data=data)

    return make


@pytest.fixture
def stack() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 60000, (4, 60, 70), dtype=np.uint16)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    made = tmp_path / "temporary"
    made.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(made))
    return made


def test_a_run_gives_what_restore_gives(tiny_gray: Path, tiny_source: Callable[..., Source], stack: np.ndarray) -> None:
    job = Job(tiny_source(stack), Settings(model=str(tiny_gray), seed=4, samples=2, uncertainty=True))
    outcome = Engine().run(job)
    mean, std = restonnx.restore(stack, tiny_gray, axes="ZYX", seed=4, samples=2, return_std=True)
    assert np.array_equal(outcome.restored, mean)
    assert np.array_equal(outcome.std, std)
    assert outcome.original is stack
    assert (outcome.provider, outcome.device) == ("CPUExecutionProvider", "cpu")
    assert 2 * stack.size <= outcome.computed < 4 * stack.size, "two samples, and halos"


def test_a_preview_is_what_the_whole_run_has_there(
    tiny_gray: Path, tiny_source: Callable[..., Source], stack: np.ndarray
) -> None:
    where = tiny_source(stack)
    region = where.region(slice(10, 40), slice(20, 60))
    outcome = Engine().run(Job(where, Settings(model=str(tiny_gray)), region, preview=True))
    whole = restonnx.restore(stack, tiny_gray, axes="ZYX").astype(int)
    assert np.abs(outcome.restored - whole[region]).max() <= 1
    assert np.array_equal(outcome.original, stack[region])


def test_a_reference_of_another_size_is_registered_once_for_many_previews(
    tmp_path: Path, tiny_source: Callable[..., Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    from restonnx import registration

    scene = photograph.clean()[:256, :320]
    wide, tele = scene[::2, ::2].copy(), scene[40:220, 50:300].copy()
    asked, aligned = [], registration.aligned
    monkeypatch.setattr(registration, "aligned", lambda *given, **more: asked.append(1) or aligned(*given, **more))
    model = tiny_model(tmp_path / "two.onnx", name="two", scale=2, draws=0, extra=("reference",))
    engine, where, given = Engine(), tiny_source(wide, rgb=True), {"reference": tele}
    region = where.region(slice(20, 60), slice(30, 90))
    for _ in range(2):
        preview = engine.run(Job(where, Settings(model=str(model)), region, given, preview=True))
    assert len(asked) == 1
    whole = engine.run(Job(where, Settings(model=str(model)), given=given))
    expected, found = aligned(wide, tele, scale=2)
    assert np.array_equal(whole.restored, restonnx.restore(wide, model, reference=expected))
    assert np.abs(preview.restored - whole.restored[40:120, 60:180].astype(int)).max() <= 1
    assert str(whole.registration) == str(found)
    on_place = engine.run(Job(where, Settings(model=str(model)), given={"reference": expected}))
    assert np.array_equal(on_place.restored, whole.restored)
    assert on_place.registration is None
    with pytest.raises(InputError, match="the reference is too small"):
        engine.run(Job(where, Settings(model=str(model)), given={"reference": tele[:20]}))


def test_many_previews_look_at_the_whole_image_once(
    tiny_gray: Path, tiny_source: Callable[..., Source], stack: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    from restonnx import arrays

    looks = []
    look = arrays.value_range
    monkeypatch.setattr("restonnx.arrays.value_range", lambda *given: looks.append(1) or look(*given))
    engine, where = Engine(), tiny_source(stack)
    settings = Settings(model=str(tiny_gray))
    for seed in range(3):
        engine.run(Job(where, settings, where.region(slice(0, 9 + seed), slice(0, 9)), preview=True))
    assert len(looks) == 1
    engine.run(Job(where, settings))  # its values may have been painted over since
    assert len(looks) == 2


def test_a_model_is_loaded_once_until_it_or_its_device_changes(tmp_path: Path) -> None:
    first = tiny_model(tmp_path / "first.onnx")
    engine = Engine()
    loaded = engine.load(Settings(model=str(first)))
    assert engine.load(Settings(model=str(first), seed=3)) is loaded
    assert engine.load(Settings(model=str(first), device="cpu")) is not loaded
    loaded = engine.load(Settings(model=str(first)))
    engine.release()
    assert engine.load(Settings(model=str(first))) is not loaded


def test_less_memory_means_smaller_tiles(tmp_path: Path) -> None:
    path = str(tiny_model(tmp_path / "first.onnx", preferred=512))
    tiles = [Engine().load(Settings(model=path, memory=memory)).tile for memory in (4.0, 0.02, 1e-6)]
    assert tiles[0] == 512
    assert 100 < tiles[1] < 300
    assert tiles[2] == 20  # the smallest that the model can do with


def test_a_large_result_lies_on_the_disk_for_as_long_as_it_is_used(
    tiny_gray: Path, tiny_source: Callable[..., Source], stack: np.ndarray, folder: Path
) -> None:
    zarr = pytest.importorskip("zarr")
    settings = Settings(model=str(tiny_gray), samples=2, uncertainty=True, memory=1e-5)
    outcome = Engine().run(Job(tiny_source(stack), settings))
    assert isinstance(outcome.restored, zarr.Array)
    assert outcome.restored.chunks == (1, 60, 70)
    mean, std = restonnx.restore(stack, tiny_gray, axes="ZYX", samples=2, return_std=True)
    assert np.array_equal(outcome.restored[:], mean)
    assert np.array_equal(np.asarray(outcome.std), std)
    half = blended(outcome.original, outcome.restored, 0.5)
    assert np.abs(np.asarray(half) - (0.5 * stack + 0.5 * mean)).max() <= 0.5
    assert len(list(folder.iterdir())) == 1
    del outcome
    gc.collect()
    assert len(list(folder.iterdir())) == 1  # the blend still reads from it
    del half
    gc.collect()
    assert not list(folder.iterdir())


def test_a_run_that_ends_early_leaves_nothing_on_the_disk(
    tiny_gray: Path, tiny_source: Callable[..., Source], stack: np.ndarray, folder: Path
) -> None:
    pytest.importorskip("zarr")
    import threading

    cancel = threading.Event()
    job = Job(tiny_source(stack), Settings(model=str(tiny_gray), memory=1e-5))
    with pytest.raises(Cancelled):
        Engine().run(job, progress=lambda done, total: done > 1 and cancel.set(), cancel=cancel)
    assert not list(folder.iterdir())


def test_a_disk_that_is_too_small_is_said_before_the_run(
    tiny_gray: Path,
    tiny_source: Callable[..., Source],
    stack: np.ndarray,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from types import SimpleNamespace

    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=5))
    with pytest.raises(InputError, match="more than is free in"):
        Engine().run(Job(tiny_source(stack), Settings(model=str(tiny_gray), memory=1e-5)))
    assert not list(folder.iterdir())


def test_the_blend_is_what_restore_gives_at_that_strength(tiny: Path) -> None:
    image = np.random.default_rng(0).random((40, 50, 3)).astype(np.float32)
    full = restonnx.restore(image, tiny)
    for strength in (0.0, 0.3, 1.0):
        wanted = restonnx.restore(image, tiny, strength=strength)
        assert np.allclose(blended(image, full, strength), wanted, atol=1e-6)
    assert blended(image, full, 1.0) is full


def test_a_large_blend_and_difference_are_computed_as_they_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    da = pytest.importorskip("dask.array")
    before = np.random.default_rng(0).integers(0, 255, (3, 20, 30), dtype=np.uint8)
    after = before[::-1].copy()
    eager = blended(before, after, 0.25), difference(before, after, rgb=False, scale=1, axes=(1, 2))
    monkeypatch.setattr("restonnx.plugin.engine.is_small", lambda array: False)
    lazy = blended(before, after, 0.25), difference(before, after, rgb=False, scale=1, axes=(1, 2))
    for one, other in zip(eager, lazy, strict=True):
        assert isinstance(other, da.Array)
        assert one.dtype == other.dtype
        assert np.array_equal(one, other.compute())


def test_differences_and_deviations_of_colours_are_one_image() -> None:
    before, after = np.full((4, 5, 4), 10, np.uint8), np.full((8, 10, 4), 7, np.uint8)
    off = difference(before, after, rgb=True, scale=2, axes=(0, 1))
    assert off.shape == (8, 10)
    assert np.all(off == -3)
    std = np.zeros((4, 5, 4), np.float32)
    std[..., :3] = (1, 2, 3)
    assert np.allclose(without_colour(std, rgb=True), np.sqrt(14 / 3))
