"""Measuring a model: what ran, how it was cut, what the times say; in this process and in one of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_model import tiny_model

from restonnx.errors import InputError, ModelError
from restonnx.machine import peak_mb
from restonnx.speed import Speed, measure, measure_apart


def speed(runs: tuple[float, ...], graph: tuple[float, ...]) -> Speed:
    return Speed(
        model="x",
        size=(1000, 2000),
        provider="CPUExecutionProvider",
        device="cpu",
        fallback=None,
        load=0.1,
        first=9.0,
        runs=runs,
        graph=graph,
        grid=(1, 2),
        tile=(1000, 1064),
        computed=1.064,
        loaded_mb=80,
        peak_mb=300,
    )


def test_the_median_and_the_spread_are_per_megapixel_and_leave_the_first_run_out() -> None:
    measured = speed((4.0, 2.0, 3.0), (3.0, 1.5, 2.5))
    assert measured.megapixels == 2.0
    assert measured.per_megapixel == 1.5
    assert measured.spread == (1.0, 2.0)


def test_the_share_outside_the_graph_is_that_of_all_runs_together() -> None:
    assert speed((4.0, 2.0), (3.0, 1.5)).outside == pytest.approx(0.25)


def test_a_measurement_says_what_ran_and_how_the_image_was_cut(tmp_path: Path) -> None:
    found = measure(tiny_model(tmp_path, halo=8, multiple=4), (60, 100), runs=2, device="cpu", tile=64)
    assert (found.model, found.provider, found.device, found.fallback) == ("tiny", "CPUExecutionProvider", "cpu", None)
    assert (found.grid, found.tile) == ((1, 2), (60, 60))
    assert found.computed == pytest.approx(2 * 60 * 60 / (60 * 100))
    assert len(found.runs) == len(found.graph) == 2
    assert all(0 < inside < whole for inside, whole in zip(found.graph, found.runs, strict=True))
    assert 0 < found.outside < 1


@pytest.mark.parametrize(
    "options",
    [
        {"extra": ("noise_level", "mask", "kernel", "reference"), "scale": 2},
        {"channels": 1},
        {"channels": 4, "domain": "cfa", "extra": ("noise_level",)},
    ],
    ids=["further inputs", "grey", "packed mosaic"],
)
def test_models_of_every_kind_can_be_measured(tmp_path: Path, options: dict[str, object]) -> None:
    found = measure(tiny_model(tmp_path, **options), (40, 32), runs=1, device="cpu")  # type: ignore[arg-type]
    assert found.megapixels == 40 * 32 / 1e6
    assert found.tile == ((20, 16) if options.get("domain") == "cfa" else (40, 32))


def test_a_process_of_its_own_gives_the_same_facts_and_its_own_memory(tiny: Path) -> None:
    apart, here = measure_apart(tiny, (40, 32), runs=1, device="cpu"), measure(tiny, (40, 32), runs=1, device="cpu")
    for name in ("model", "size", "provider", "grid", "tile", "computed"):
        assert getattr(apart, name) == getattr(here, name)
    if peak_mb() is not None:
        assert apart.peak_mb is not None
        assert apart.loaded_mb is not None
        assert 0 < apart.loaded_mb <= apart.peak_mb


def test_what_a_process_of_its_own_refuses_comes_back_as_the_same_error() -> None:
    with pytest.raises(ModelError, match="no-such-model"):
        measure_apart("no-such-model", (40, 32))


@pytest.mark.parametrize(("runs", "size"), [(0, (40, 32)), (1, (1, 32))])
def test_nothing_to_measure_is_refused(tiny: Path, runs: int, size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="at least 1 run and sides of 2 pixels"):
        measure(tiny, size, runs=runs)
