"""Writes the tables of benchmarks/README.md anew from the files in results/.

    python benchmarks/tables.py

A table stands between the lines  <!-- NAME:begin -->  and  <!-- NAME:end -->,  NAME being that of results/NAME.json.
The zoo's own are written by zoo.py.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
README = FOLDER / "README.md"
PLACE = re.compile(r"(<!-- (?P<name>[a-z0-9_]+):begin -->\n).*?(<!-- (?P=name):end -->)", re.DOTALL)


def main() -> None:
    README.write_text(rendered(README.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"written: {README}")


def rendered(text: str) -> str:
    """The text with every table between its marks made anew."""

    def again(match: re.Match[str]) -> str:
        if match["name"] not in TABLES:
            return match[0]
        name = match["name"]
        path = FOLDER / "results" / f"{name}.json"
        made = TABLES[name](json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else "Unmeasured."
        return f"{match[1]}{made.strip()}\n{match[3]}"

    return PLACE.sub(again, text)


def engines(content: dict[str, Any]) -> str:
    """Of engines.py, whatever --name was."""
    work = f"`{content['model']}`, {content['gmac_per_megapixel']:g} GMAC per megapixel"
    where = machine(content) if content["device"] == "cpu" else f"{content['device']}; {machine(content)}"
    parts = [f"{work}; {where}; threads: {content['threads']}, rounds: {content['rounds']}."]
    for side in dict.fromkeys(row["side"] for row in content["rows"]):
        of_size = [row for row in content["rows"] if row["side"] == side]
        measured = [row for row in of_size if "seconds_per_megapixel" in row]
        rows = [
            [
                f"`{row['engine']}`",
                f"{row['seconds_per_megapixel']:.3f}",
                f"{row['fastest']:.3f} - {row['slowest']:.3f}",
                f"{row['times_base']:.2f}" if "times_base" in row else "",
                f"{row['fraction_of_peak']:.0%}" if "fraction_of_peak" in row else "",
                _mb(row.get("device_memory_mb", row["peak_memory_mb"])),
                f"{row['build_seconds'] + row['first_run_seconds']:.1f}",
                f"{row['largest_difference']:.0e}" if "largest_difference" in row else "",
            ]
            for row in sorted(measured, key=lambda row: float(row["seconds_per_megapixel"]))
        ]
        heads = [
            f"{side} x {side}",
            "s/megapixel",
            "from - to",
            f"times {content['base']}",
            "of the peak",
            "peak memory",
            "s to start",
        ]
        parts.append(table([*heads, "differs by"], rows))
        peaks = [f"{row['engine']} {row['gmac_per_second']:.1f}" for row in of_size if "best_gmac_per_second" in row]
        if peaks:
            parts.append(f"The machine's peak, GMAC/s: {', '.join(peaks)}.")
        if left_out := [f"{row['engine']} ({row['unmeasured']})" for row in of_size if "unmeasured" in row]:
            parts.append(f"Unmeasured: {', '.join(left_out)}.")
    return "\n\n".join(parts)


def megapixels(content: dict[str, Any]) -> str:
    """Of megapixels.py."""
    rows = [
        [
            f"{row['megapixels']:g}",
            f"{row['seconds_per_megapixel']:.3f}",
            f"{row['graph_seconds_per_megapixel']:.3f}",
            f"{row['outside_the_graph']:.1%}",
            f"{row['grid'][0]} x {row['grid'][1]} of {row['tile'][0]} x {row['tile'][1]}" if "grid" in row else "",
            f"{row['computed'] - 1:+.0%}" if "computed" in row else "",
            _mb(row.get("peak_mb")),
            _mb(row["arrays_mb"]),
        ]
        for row in content["sizes"]
    ]
    heads = ["megapixels", "s/megapixel", "in the graph", "outside", "tiles", "computed", "peak memory", "of it images"]
    return f"`{content['model']}`; {machine(content)}.\n\n{table(heads, rows)}"


def steps(content: dict[str, Any]) -> str:
    """Of steps.py."""
    levels = list(content["cuts"][0]["psnr"])
    rows = [
        [str(cut["steps"]), f"{cut['seconds_per_megapixel']:.3f}", f"{cut['ratio_to_one']:.2f}"]
        + [f"{cut['psnr'][level]:.2f}" for level in levels]
        for cut in content["cuts"]
    ]
    heads = ["steps", "s/megapixel", "times one step", *(f"dB at sigma {level}" for level in levels)]
    return f"`{content['model']}`, tiles of {content['side']}; {machine(content)}.\n\n{table(heads, rows)}"


def int8(content: dict[str, Any]) -> str:
    """Of int8.py."""
    levels = list(content["variants"][0]["psnr"])
    rows = [
        [
            f"`{row['model']}`",
            f"{row['seconds_per_megapixel']:.3f}",
            f"{row['fastest']:.3f} - {row['slowest']:.3f}",
            f"{row['times_as_fast']:.2f}",
            *(f"{row['psnr'][level]:.2f}" for level in levels),
            f"{row['megabytes']:.1f}",
        ]
        for row in content["variants"]
    ]
    heads = ["model", "s/megapixel", "from - to", "times as fast", *(f"dB at sigma {x}" for x in levels), "MB"]
    return f"{content['data']}, every {content['every']}th image; {machine(content)}.\n\n{table(heads, rows)}"


def data_consistency(content: dict[str, Any]) -> str:
    """Of data_consistency.py: what each variant costs and ends with; then its errors, step by step."""
    where: dict[str, list[str]] = {}
    ends, curves = [], []
    for task, found in content["tasks"].items():
        begun = f"from `{found['begun_from']}`" if found["begun_from"] else "from nothing"
        trained = f"{found['minutes']:g} minutes each {begun} on {found['photographs']}"
        data = f"{trained}; {found['images']} images of {found['data']}"
        how = f"threads: {found['threads']}, trained at once: {found['at_once']}"
        where.setdefault(f"{data}; {machine(found)}, {how}", []).append(f"`{task}`")
        ends.append([f"`{task}`", "the input", "", "", "", *_fidelity(found["input"])])
        for name, variant in found["variants"].items():
            cost = [
                str(variant["iterations"]),
                f"{variant['processor_seconds_per_iteration']:.3f}",
                f"{variant['peak_memory_mb']} ({variant['kept_for_backward_mb']:.0f})",
            ]
            ends.append(["", name, *cost, *_fidelity(variant["quality"])])
            errors = {
                kind: [f"{step[f'{kind}_psnr']:.2f}" for step in variant["steps"]] for kind in ("modular", "cumulative")
            }
            first = f"`{task}`" if name == next(iter(found["variants"])) else ""
            curves.append([first, name, *(" / ".join(errors[kind]) for kind in errors)])
    parts = [f"{', '.join(tasks)}: {what}." for what, tasks in where.items()]
    heads = ["task", "trained", "iterations", "processor s/iteration", "peak MB (of it for the gradient)"]
    parts.append(table([*heads, "PSNR, dB / SSIM", "CIEDE2000", "low-frequency shift"], ends))
    parts.append("The error of the clean estimate after each step, in dB:")
    parts.append(table(["task", "trained", "modular: given x_t of the truth", "cumulative: given its own"], curves))
    return "\n\n".join(parts)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "data_consistency": data_consistency,
    "engines": engines,
    "engines_4096": engines,
    "engines_cuda": engines,
    "int8": int8,
    "megapixels": megapixels,
    "steps": steps,
}


def machine(content: dict[str, Any]) -> str:
    """What the numbers were measured on, in a few words."""
    facts = content["machine"]
    named = [name for name in ("onnxruntime-gpu", "onnxruntime", "torch", "openvino") if name in facts["packages"]]
    versions = ", ".join(f"{name} {facts['packages'][name]}" for name in named)
    return f"{facts['processor']}, {facts['cores']} core{'s' * (facts['cores'] != 1)}, {versions}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _fidelity(quality: dict[str, float]) -> list[str]:
    """PSNR and SSIM, colour difference, and low-frequency shift."""
    both = f"{quality['psnr']:.2f} / {quality['ssim']:.3f}"
    return [both, f"{quality['ciede2000']:.2f}", f"{quality['low_frequency_shift']:.2f}"]


def _mb(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} MB"


if __name__ == "__main__":
    main()
