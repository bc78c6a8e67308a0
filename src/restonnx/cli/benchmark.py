"""`restonnx benchmark`: how fast the models run on this machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restonnx.cli.console import say, stderr
from restonnx.cli.outputs import check_report
from restonnx.errors import InputError

if TYPE_CHECKING:
    from restonnx.speed import Speed

MODELS = typer.Argument(metavar="MODEL", help="Models' names or .onnx files.", show_default="denoise")
SIZE = typer.Option(
    "--size", metavar="N|ROWSxCOLUMNS", help="Of the image in pixels; may be repeated.", show_default="1024 and 4096"
)
RUNS = typer.Option(min=1, help="Timed runs of each, after one that warms up.")
DEVICE = typer.Option(help="auto, cpu, cuda or cuda:N.")
TILE = typer.Option(min=1, help="Side of a tile in pixels.", show_default="chosen by memory")
THREADS = typer.Option(min=1, help="Of the CPU.", show_default="one for each core")
JSON = typer.Option("--json", metavar="FILE", help="Also write the numbers, with machine and versions.")
OVERWRITE = typer.Option("--overwrite", help="Replace FILE if it exists.")


def benchmark(
    models: Annotated[list[str] | None, MODELS] = None,
    size: Annotated[list[str] | None, SIZE] = None,
    runs: Annotated[int, RUNS] = 3,
    device: Annotated[str, DEVICE] = "auto",
    tile: Annotated[int | None, TILE] = None,
    threads: Annotated[int | None, THREADS] = None,
    json: Annotated[Path | None, JSON] = None,
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """Measure seconds per megapixel and peak memory of models on this machine.

    The whole path is timed, from the array to the array, each model and size in a process of its own. Times compare
    only within one run of this command on a machine that does nothing else.

    memory: the most that the process had; on a GPU, its own memory is not counted. outside: the share of the time
    outside the network. tiles: how many, and how many more pixels are computed than the image has.
    """
    from rich.console import Console

    from restonnx.restore import load_model
    from restonnx.speed import measure_apart

    check_report(json, [".json"], overwrite=overwrite)
    names, sizes = models or ["denoise"], [parse_size(text) for text in size or ["1024", "4096"]]
    for name in names:
        load_model(name)  # a wrong name is said before minutes have passed
    rows: list[Speed] = []
    told = {"runs": runs, "device": device, "tile": tile, "threads": threads}
    with stderr().status("") as status:
        for name in names:
            for height, width in sizes:
                status.update(f"{name}, {height} x {width} pixels, {len(rows) + 1} of {len(names) * len(sizes)}")
                rows.append(measure_apart(name, (height, width), **told))
    Console(highlight=False).print(_table(rows))
    for reason in sorted({row.fallback for row in rows if row.fallback and device == "auto"}):
        say(f"on the CPU: {reason}")
    if json is not None:
        _write(json, rows, overwrite)
        typer.echo(f"written: {json}")


def parse_size(text: str) -> tuple[int, int]:
    """Rows and columns of "1024" or "4000x6000"."""
    match = re.fullmatch(r"(\d{1,6})(?:x(\d{1,6}))?", text)
    rows, columns = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if min(rows, columns) < 2:
        raise InputError(f"--size must be such as 1024 or 4000x6000, in pixels, not {text!r}")
    return rows, columns


def _table(rows: list[Speed]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", "image", "on", "s/megapixel", "spread", "memory", "outside", "tiles"):
        table.add_column(heading, justify="left" if heading in ("model", "on", "tiles") else "right", no_wrap=True)
    for row in rows:
        fastest, slowest = row.spread
        table.add_row(
            row.model,
            "x".join(map(str, row.size)),
            row.device,
            f"{row.per_megapixel:.3f}",
            f"±{(slowest - fastest) / 2 / row.per_megapixel:.0%}",
            "unknown" if row.peak_mb is None else f"{row.peak_mb} MB",
            f"{row.outside:.1%}",
            f"{row.grid[0]}x{row.grid[1]} {row.computed - 1:+.0%}",
        )
    return table


def _write(path: Path, rows: list[Speed], overwrite: bool) -> None:
    from restonnx.files import write_json
    from restonnx.training.machine import facts

    write_json(path, {"machine": facts(), "measured": [row.summary() for row in rows]}, overwrite=overwrite)
