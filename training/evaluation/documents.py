"""The tables of a report of `zoo.measure_zoo`, as Markdown, between two marks of a document."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from restonnx import files, library
from restonnx.training.evaluation.measures import LOW_SIGMA

Report = dict[str, Any]
BEGIN, END = "<!-- zoo:begin -->", "<!-- zoo:end -->"
MARKED = re.compile(f"({BEGIN}\n).*?({END})", re.DOTALL)
RESULTS = Path("benchmarks/results/zoo.json")
"""In a clone."""
CARD = (
    "Mean PSNR in dB / SSIM, by `{command}` (`{results}`), {version}. Settings of classical methods were chosen on "
    'training photographs; those with "told" know the noise level. Published numbers are PSNR alone.'
)
SHIFT = (
    "mean absolute difference of restored and true image after a Gaussian blur of "
    f"{LOW_SIGMA:g} pixels, in 1/255; classical is the best such method by PSNR"
)
SPREAD = (
    "Over 8 seeds: PSNR over all channels of one sample and of their mean, Spearman's rank correlation of their "
    "standard deviation with the absolute error of the mean, and the share of true values inside the 90 % interval"
)
THREE = ("input", "classical", "model")


def render(root: Path, report: Report) -> dict[Path, str]:
    """What the documents of a clone should say: README.md, benchmarks/README.md, and the cards of the shipped models
    that were measured; of all these, those that have the two marks."""
    contents = {root / "README.md": overview(report), root / "benchmarks" / "README.md": everything(report)}
    zoo = root / "src" / "restonnx" / "zoo"
    contents |= {zoo / f"{name}.md": card(report, name) for name, model in report["models"].items() if model["shipped"]}
    texts = {path: path.read_text(encoding="utf-8") for path in contents if path.is_file()}
    return {path: replaced(text, contents[path]) for path, text in texts.items() if MARKED.search(text)}


def write(root: Path, report: Report) -> list[Path]:
    """Write those documents that say something else. -> which"""
    changed = []
    for path, text in render(root, report).items():
        if path.read_text(encoding="utf-8") != text:
            with files.replaced(path, overwrite=True) as temporary:
                temporary.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


def replaced(text: str, content: str) -> str:
    """The document with this content between its marks."""
    return MARKED.sub(lambda match: f"{match[1]}{content.strip()}\n{match[2]}", text, count=1)


def overview(report: Report) -> str:
    """One line a shipped model: its first test, beside the input and the best classical method."""
    rows = []
    for entry in library.models():
        if not entry.shipped:
            continue
        measured = report["models"].get(entry.name)
        link = f"[{entry.name}](src/restonnx/zoo/{entry.name}.md)"
        what = entry.metadata.description.partition(". ")[0].rstrip(".")
        rows.append([link, what, *(_first_line(measured, entry.name) if measured else ["see its card", "", "", ""])])
    return table(("model", "for", "measured on", "input", "best classical method", "model, dB"), rows)


def card(report: Report, name: str) -> str:
    """Every method on every test of one model; models of the same task stand beside it."""
    model = report["models"][name]
    parts = [CARD.format(command=model["command"], results=RESULTS, version=_version(model))]
    for suite in model["suites"]:
        parts += [f"{suite['title']}{_images(suite['tests'])}:", _methods(report, name, suite)]
    parts += [text for text in (_below(model), _colours(model), _spreads(model)) if text]
    return "\n\n".join(parts)


def everything(report: Report) -> str:
    """All models: quality, colour, and what the spread of stochastic ones is worth."""
    quality, colour, spread = [], [], []
    for name, suite, test in _tests(report):
        own, before, best = _rows(test, "model")[0], _input(test), _best(test)
        published = max(_published(test), key=_psnr, default=None)
        where = [f"`{name}`", f"{suite['title']}, {test['name']}", _count(test)]
        shown = [(before, _both(before)), (best, _named(best)), (own, _both(own))]
        highest = max(_psnr(row) for row, _ in shown if row)
        cells = [f"**{cell}**" if row and _psnr(row) == highest else cell for row, cell in shown]
        quality.append([*where, *cells, _named(published)])
        if "ciede2000" in own:
            colour.append([*where, *_three("ciede2000", test, 2), *_three("low_frequency_shift", test, 2)])
        if "spread" in test:
            spread.append([*where[:2], *_spread(test["spread"]).values()])
    objectives = {name: model["objective"] for name, model in report["models"].items() if model["objective"]}
    parts = [
        "PSNR in dB / SSIM of the input, the best classical method of each test, and the model; the highest is bold.",
        table(("model", "test", "images", "input", "best classical method", "model", "best published"), quality),
    ]
    if colour:
        parts += [
            f"Colour: mean CIEDE2000, and the shift: {SHIFT}.",
            table(("model", "test", "images", *_colour_heads()), colour),
        ]
    if spread:
        parts += ["Spread over seeds of stochastic models:", table(("model", "test", *_spread_heads()), spread)]
    if objectives:
        parts += ["Trained: " + ", ".join(f"`{n}` {kind.replace('_', '-')}" for n, kind in objectives.items()) + "."]
    return "\n\n".join(parts)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _first_line(model: Report, name: str) -> list[str]:
    """Of the first suite's tests that belong together, such as the noise levels: one number each."""
    suite = model["suites"][0]
    tests = suite["tests"]
    before = [_input(test) for test in tests]
    best = [_best(test) for test in tests]
    methods = list(dict.fromkeys(row["method"] for row in best if row))
    label = f"{suite['title']}: {_together([test['name'] for test in tests])}{_images(tests)}"
    classical = f"{_numbers(best)} ({', '.join(methods)})" if methods else ""
    return [label, _numbers(before), classical, _own(tests)]


def _own(tests: Sequence[Report]) -> str:
    """What the model came to, bold where nothing else did better; of a stochastic one the mean of its samples too."""

    def shown(kind: str) -> str:
        numbers = _numbers([_rows(test, kind)[0] for test in tests])
        return numbers if any(_behind(test, kind, of) for test in tests for of in (_input, _best)) else f"**{numbers}**"

    if not all(_rows(test, "mean") for test in tests):
        return shown("model")
    return f"{shown('model')} (one sample), {shown('mean')} (mean of 8)"


def _together(names: Sequence[str]) -> str:
    """ "sigma 15 / 25 / 50" """
    first = names[0].partition(" ")[0]
    shorter = [name.removeprefix(f"{first} ") for name in names[1:]]
    return " / ".join([names[0], *(shorter if all(name.startswith(f"{first} ") for name in names) else names[1:])])


def _methods(report: Report, name: str, suite: Report) -> str:
    """Rows of methods, columns of tests."""
    tests = suite["tests"]
    kinds = ("model", "mean", "input", "classical", "published")
    rows: dict[tuple[str, str], list[str]] = {}
    for n, test in enumerate(tests):
        siblings = [row for other in _siblings(report, name, suite, test) for row in _rows(other, "model")]
        measured = [row for row in test["rows"] if row["kind"] != "published"]
        for row in measured + siblings + _published(test):
            label = f"{row['method']}, published" if row["kind"] == "published" else row["method"]
            label = f"**{label}**" if row["method"] == name and row["kind"] == "model" else label
            shown = f"{_psnr(row):.2f}" if row["kind"] == "published" else _both(row)
            rows.setdefault((row["kind"], label), ["" for _ in tests])[n] = shown
    ordered = sorted(rows.items(), key=lambda item: (kinds.index(item[0][0]), not item[0][1].startswith("**")))
    return table(("", *(test["name"] for test in tests)), [[label, *cells] for (_, label), cells in ordered])


def _siblings(report: Report, name: str, suite: Report, test: Report) -> Iterator[Report]:
    """The same test of other shipped models, on the same images."""
    for other, other_suite, other_test in _tests(report):
        if other != name and _is_same(suite, test, other_suite, other_test) and report["models"][other]["shipped"]:
            yield other_test


def _is_same(suite: Report, test: Report, other_suite: Report, other_test: Report) -> bool:
    """Whether both are one test on the same images."""
    suites = all(suite[key] == other_suite[key] for key in ("title", "purpose"))
    return suites and all(test[key] == other_test[key] for key in ("name", "data", "images"))


def _below(model: Report) -> str:
    """Where the model is worse than what it was given, or than a classical method."""
    tests = [(f"{suite['title']}, {test['name']}", test) for suite in model["suites"] for test in suite["tests"]]
    sampled = any(_rows(test, "mean") for _, test in tests)
    lines = []
    for kind, subject in (("model", "One sample is below" if sampled else "Below"), ("mean", "The mean of 8 is below")):
        for label, other in (("its input", _input), ("the best classical method", _best)):
            behind = [f"{title} (-{gap:.2f} dB)" for title, test in tests if (gap := _behind(test, kind, other))]
            lines += [f"{subject} {label}: {'; '.join(behind)}."] if behind else []
    return "\n".join(lines)


def _behind(test: Report, kind: str, other: Callable[[Report], Report | None]) -> float:
    """By how many dB the rows of this kind are below the other row; 0 where they are not, or one is missing."""
    own, row = _rows(test, kind), other(test)
    return max(_psnr(row) - _psnr(own[0]), 0.0) if own and row else 0.0


def _colours(model: Report) -> str:
    rows = [
        [f"{suite['title']}, {test['name']}", *_three("ciede2000", test, 2), *_three("low_frequency_shift", test, 2)]
        for suite in model["suites"]
        for test in suite["tests"]
        if "ciede2000" in _rows(test, "model")[0]
    ]
    if not rows:
        return ""
    return f"Colour: mean CIEDE2000, and the shift: {SHIFT}.\n\n{table(('colour', *_colour_heads()), rows)}"


def _colour_heads() -> list[str]:
    return [f"{measure}: {of}" for measure in ("CIEDE2000", "shift") for of in THREE]


def _spreads(model: Report) -> str:
    """Of a stochastic model; "" for others."""
    tests = [(suite, test) for suite in model["suites"] for test in suite["tests"] if "spread" in test]
    if not tests:
        return ""
    rows = [[f"{suite['title']}, {test['name']}", *_spread(test["spread"]).values()] for suite, test in tests]
    return f"{SPREAD}:\n\n{table(('spread', *_spread_heads()), rows)}"


def _spread(spread: Report) -> dict[str, str]:
    return {
        "images": str(spread["images"]),
        "one sample": f"{spread['psnr_one']:.2f}",
        "mean of 8": f"{spread['psnr_mean']:.2f}",
        "correlation by 8 x 8 block": f"{spread['rank_correlation_blocks']:.2f}",
        "by pixel": f"{spread['rank_correlation_pixels']:.2f}",
        "inside the 90 % interval": f"{spread['coverage_of_90']:.0%}".replace("%", " %"),
    }


def _spread_heads() -> list[str]:
    measures = ("psnr_one", "psnr_mean", "rank_correlation_blocks", "rank_correlation_pixels", "coverage_of_90")
    return list(_spread({"images": 0} | dict.fromkeys(measures, 0.0)))


def _tests(report: Report) -> Iterator[tuple[str, Report, Report]]:
    for name, model in report["models"].items():
        for suite in model["suites"]:
            for test in suite["tests"]:
                yield name, suite, test


def _rows(test: Report, kind: str) -> list[Report]:
    return [row for row in test["rows"] if row["kind"] == kind]


def _published(test: Report) -> list[Report]:
    """What others printed of the whole set, which a part of it cannot be compared with."""
    return _rows(test, "published") if test["images"] == test["of"] else []


def _input(test: Report) -> Report | None:
    return next(iter(_rows(test, "input")), None)


def _best(test: Report) -> Report | None:
    """The classical method with the highest PSNR in this very test."""
    return max(_rows(test, "classical"), key=_psnr, default=None)


def _psnr(row: Report) -> float:
    """Of luma where it was measured."""
    return float(row["psnr_y"] if "psnr_y" in row else row["psnr"])


def _both(row: Report | None) -> str:
    if row is None:
        return ""
    ssim = row.get("ssim_y", row.get("ssim"))
    return f"{_psnr(row):.2f} / {ssim:.3f}"


def _named(row: Report | None) -> str:
    if row is None:
        return ""
    shown = f"{_psnr(row):.2f}" if row["kind"] == "published" else _both(row)
    return f"{shown} ({row['method']})"


def _three(measure: str, test: Report, places: int) -> list[str]:
    rows = (_input(test), _best(test), _rows(test, "model")[0])
    return ["" if row is None or measure not in row else f"{row[measure]:.{places}f}" for row in rows]


def _numbers(rows: Sequence[Report | None]) -> str:
    return " / ".join(f"{_psnr(row):.2f}" for row in rows if row is not None)


def _count(test: Report) -> str:
    return f"{test['images']} of {test['of']}" if test["images"] < test["of"] else str(test["of"])


def _images(tests: Sequence[Report]) -> str:
    """How many images the means are over."""
    counts = list(dict.fromkeys(_count(test) for test in tests))
    return f" ({' / '.join(counts)} image{'s' * (counts != ['1'])})"


def _version(model: Report) -> str:
    return f"version {model['version']}, {model['machine']['processor']}, onnxruntime {_runtime(model)}"


def _runtime(model: Report) -> str:
    packages = model["machine"]["packages"]
    return str(packages.get("onnxruntime-gpu", packages.get("onnxruntime", "?")))
