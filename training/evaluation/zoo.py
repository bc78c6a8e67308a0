"""Measure models on the tests of their task, and keep what came out, model by model, in one JSON file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from restonnx import library
from restonnx.errors import Cancelled, InputError, RestonnxError
from restonnx.files import write_json
from restonnx.onnx_file import parse
from restonnx.restore import Restorer
from restonnx.training.checkpoint import RECIPE_KEY
from restonnx.training.evaluation.classical.every import classical
from restonnx.training.evaluation.measures import LOW_SIGMA, PERCENTILES, Quality, mean, quality, rounded
from restonnx.training.evaluation.run_model import restored
from restonnx.training.evaluation.samples import Floats, Sample
from restonnx.training.evaluation.settings import settings
from restonnx.training.evaluation.table import ELSEWHERE, Suite, Test, limited, suites
from restonnx.training.evaluation.uncertainty import SAMPLES, spread
from restonnx.training.machine import facts

Report = dict[str, Any]
Rows = list[dict[str, Any]]
Say = Callable[[str], object]
SPREAD_IMAGES = 8
"""At most; evenly taken from those of the test. Eight samples of an image take eight times as long as one."""
PROTOCOL = {
    "images": "All images of a set, or every k-th: `images` of `of` were used. Damage is seeded by the image's number.",
    "files": "Degraded images are clipped and rounded to 8 bit, but for Gaussian noise and few photons, which are not.",
    "psnr": "In dB over all channels after clipping and rounding to 8 bit; the mean over the images.",
    "ssim": "Gaussian window of Wang et al. 2004, sigma 1.5; the mean over channels and images.",
    "psnr_y, ssim_y": "Of Y (ITU-R BT.601, 16 to 235) without a border of `luma_border` pixels.",
    "ciede2000": "Mean colour difference (Sharma et al. 2005) over the pixels.",
    "low_frequency_shift": "Mean absolute difference between restored and true image after a Gaussian blur of "
    f"{LOW_SIGMA:g} pixels, in 1/255.",
    "free_scale": f"Gain and offset of the restored image are fitted; the true one's percentiles {PERCENTILES} are "
    "black and white.",
    "classical": "`settings` were chosen on photographs of the training set (benchmarks/classical_settings.py).",
    "spread": f"Over {SAMPLES} seeds, on at most {SPREAD_IMAGES} images: training/evaluation/uncertainty.py. Where "
    "those are all, a row of kind mean has the mean of the seeds; the model's own is of one.",
}


def measure_zoo(
    data: str | Path,
    out: str | Path,
    *,
    models: Sequence[str] = (),
    limit: int | None = None,
    keep_baselines: bool = False,
    say: Say = print,
) -> Report:
    """Measure models and write what came out to `out`, a JSON file; each model replaces what is there under its name.

    data:   the folder of the test sets.  models: names or .onnx files; all that ship without one.
    limit:  at most so many images of each set, every k-th.
    keep_baselines: take inputs and classical methods from `out` where they stand there for the same images.
    Returns the whole report. A model that cannot be run is named, and the rest measured.
    Raises InputError if there is nothing to measure, or for a model that has no tests.
    """
    data, out = Path(data), Path(out)
    if not data.is_dir():
        raise InputError(f"{data} is no folder: give the test sets' with --data")
    chosen = {name: suites(*_names(name)) for name in models} if models else _shipped(say)
    for name, found in chosen.items():
        if not found:
            raise InputError(f"there are no tests for {name}; training/evaluation/table.py lists those that have some")
    report = read_report(out)
    known = _baselines(report) if keep_baselines else {}
    failed = []
    for name, found in chosen.items():
        try:
            restorer = Restorer(name)
            measured = _measure(restorer, found, data, limit, known, say)
        except Cancelled:
            raise
        except RestonnxError as error:
            failed.append(name)
            say(f"{name}: {error}")
            continue
        if not measured:
            say(f"{name}: none of its sets is there")
            continue
        entry = _about(restorer, limit) | {"suites": measured}
        # Read anew: another run may have measured another model meanwhile.
        all_models = read_report(out)["models"] | {restorer.metadata.name: entry}
        report = {"protocol": PROTOCOL, "models": dict(sorted(all_models.items()))}
        write_report(out, report)
    if failed:
        raise InputError(f"{len(failed)} not measured: {', '.join(failed)}")
    return report


def read_report(path: Path) -> Report:
    """An empty one where there is no file. Raises InputError for a file that is none of these."""
    if not path.exists():
        return {"protocol": PROTOCOL, "models": {}}
    try:
        report: Report = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(report["models"], dict):
            raise KeyError("models")
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path} was not written by `restonnx evaluate --all`: give another with --json") from None
    return report


def write_report(path: Path, report: Report) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, report)


def _shipped(say: Say) -> dict[str, tuple[Suite, ...]]:
    chosen = {}
    for entry in library.models():
        if not entry.shipped:
            continue
        if entry.name in ELSEWHERE:
            say(f"{entry.name}: {ELSEWHERE[entry.name]}")
            continue
        chosen[entry.name] = suites(*_names(entry.name))
        if not chosen[entry.name]:
            say(f"{chosen.popitem()[0]}: training/evaluation/table.py has no tests for it")
    return chosen


def _names(model: str) -> tuple[str, str]:
    """Its name and its recipe's."""
    meta = library.find(model).metadata
    return meta.name, meta.recipe


def _about(restorer: Restorer, limit: int | None) -> Report:
    meta, name = restorer.metadata, restorer.metadata.name
    shipped = restorer.model.path.parent == library.SHIPPED
    asked = name if shipped else f"{name}.onnx"
    return {
        "title": meta.title,
        "version": meta.version,
        "sha256": restorer.model.sha256,
        "graph_sha256": graph_sha256(restorer.model.path),
        "shipped": shipped,
        "objective": _objective(restorer.model.path),
        "command": f"restonnx evaluate --all --model {asked}" + ("" if limit is None else f" --limit {limit}"),
        "provider": restorer.provider,
        "machine": facts(),
    }


def graph_sha256(path: Path) -> str:
    """Of a model's graph and weights: what its metadata says changes no number."""
    import onnx

    return hashlib.sha256(onnx.load(path).graph.SerializeToString(deterministic=True)).hexdigest()


def _objective(path: Path) -> str:
    """What it was trained with, such as "data_consistent"; "" where its file does not say."""
    recipe = json.loads(parse(path).metadata.get(RECIPE_KEY, "{}"))
    return str(recipe.get("objective", {}).get("kind", ""))


def _measure(
    restorer: Restorer, found: Sequence[Suite], data: Path, limit: int | None, known: dict[Any, Rows], say: Say
) -> list[Report]:
    """The suites whose sets are there, with the tests whose sets are there."""
    measured = []
    for suite in found:
        tests = []
        for test in suite.tests:
            names = test.source.names(data)
            if not names:
                say(f"{restorer.metadata.name}: no {data / test.source.folder}, so no {test.name}")
                continue
            tests.append(_test(restorer, suite, test, data, limited(len(names), limit), len(names), known, say))
        if tests:
            measured.append({"title": suite.title, "purpose": suite.purpose, "real": suite.real, "tests": tests})
    return measured


def _test(
    restorer: Restorer,
    suite: Suite,
    test: Test,
    data: Path,
    indices: Sequence[int],
    total: int,
    known: dict[Any, Rows],
    say: Say,
) -> Report:
    def compared(image: Floats, sample: Sample) -> Quality:
        how: dict[str, Any] = {"luma_border": test.luma_border, "free_scale": test.free_scale}
        return quality(image, sample.truth, gray=sample.gray, **how)

    chosen = {method: settings(suite.purpose, method) for method in test.classical}
    name, key = restorer.metadata.name, _key(suite.title, suite.purpose, test.name, len(indices), total, chosen)
    methods: dict[tuple[str, str], Callable[[Sample], Floats]] = {(name, "model"): lambda s: restored(restorer, s)}
    if key not in known:
        methods |= _baseline_methods(chosen)
    stochastic = name.endswith("-detail")
    spread_of = set(limited(len(indices), SPREAD_IMAGES)) if stochastic and not suite.real else set()
    qualities: dict[tuple[str, str], list[Quality]] = {}
    spreads, of_means = [], []
    for n, index in enumerate(_shown(indices, f"{name}, {test.name}")):
        sample = test.source.sample(data, index, suite.channels)
        for method, run in methods.items():
            if method[1] == "input" and sample.scale > 1:
                continue
            qualities.setdefault(method, []).append(compared(run(sample), sample))
        if n in spread_of:
            measures, together = spread(restorer, sample)
            spreads.append(measures)
            of_means.append(compared(together, sample))
    rows: Rows = [
        {"method": m, "kind": kind} | rounded(mean(values)) | ({"settings": chosen[m]} if kind == "classical" else {})
        for (m, kind), values in qualities.items()
    ]
    own, others = rows[:1], rows[1:]
    if len(of_means) == len(indices):  # of the same images as all else
        own.append({"method": f"{name}, mean of {SAMPLES}", "kind": "mean"} | rounded(mean(of_means)))
    known.setdefault(key, others)
    published = [
        {"method": p.method, "kind": "published", "psnr" if test.luma_border is None else "psnr_y": p.psnr}
        | {"source": p.source}
        for p in test.published
    ]
    say(f"{name}, {suite.title}, {test.name}: {_summary(own + known[key])}")
    found: Report = {
        "name": test.name,
        "data": test.source.folder,
        "images": len(indices),
        "of": total,
        "luma_border": test.luma_border,
        "free_scale": test.free_scale,
        "rows": own + known[key] + published,
    }
    if spreads:
        means = {measure: round(float(np.mean([row[measure] for row in spreads])), 4) for measure in spreads[0]}
        found["spread"] = {"samples": SAMPLES, "images": len(spreads)} | means
    return found


def _shown(indices: Sequence[int], what: str) -> Iterable[int]:
    """With a bar where somebody looks on."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(indices, what, console=console, transient=True, disable=not console.is_terminal)


def _baseline_methods(chosen: dict[str, dict[str, Any]]) -> dict[tuple[str, str], Callable[[Sample], Floats]]:
    """What every model of a suite is compared with; chosen: classical methods and their settings."""

    def run(method: str) -> Callable[[Sample], Floats]:
        return lambda sample: classical(method, sample, chosen[method])

    inputs = {("input", "input"): lambda sample: sample.unit}
    return inputs | {(method, "classical"): run(method) for method in chosen}


def _key(
    title: str, purpose: str, test: str, images: int, total: int, chosen: dict[str, dict[str, Any]]
) -> tuple[object, ...]:
    """What must be equal for two measurements of the classical methods to be the same."""
    return (title, purpose, test, images, total, json.dumps(chosen))


def _baselines(report: Report) -> dict[Any, Rows]:
    """Inputs and classical methods that a report holds, by `_key`."""
    return {
        _key(
            suite["title"],
            suite["purpose"],
            test["name"],
            test["images"],
            test["of"],
            {row["method"]: row["settings"] for row in _of_kind(test, "classical")},
        ): _of_kind(test, "input", "classical")
        for model in report["models"].values()
        for suite in model["suites"]
        for test in suite["tests"]
    }


def _of_kind(test: Report, *kinds: str) -> Rows:
    return [row for row in test["rows"] if row["kind"] in kinds]


def _summary(rows: Rows) -> str:
    return ", ".join(f"{row['method']} {row.get('psnr_y', row['psnr']):.2f}" for row in rows) + " dB"
