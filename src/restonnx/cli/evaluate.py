"""`restonnx evaluate`: measures models on a folder of clean images, or every model on the tests of its task."""

from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from restonnx.cli.console import say
from restonnx.cli.extras import need
from restonnx.cli.outputs import check_report

MODELS = typer.Argument(metavar="MODEL", help="Names or .onnx files.", show_default=False)
DATA = typer.Option(help="Folder of clean images; with --all, the one of all test sets.", show_default="../shared/data")
SIGMA = typer.Option(metavar="S...", help="Noise levels on the scale of 0 to 255.", show_default="15 25 50")
JSON = typer.Option("--json", metavar="FILE", help="Also write the numbers here.", show_default=False)
BASELINES = typer.Option("--baselines", help="Also measure scikit-image's non-local means and wavelets.")
EVERY = typer.Option(min=1, metavar="N", help="Use every N-th image of the folder only.")
ALL = typer.Option(
    "--all", help="Every shipped model on the tests of its task, into the file of results and the tables."
)
MODEL = typer.Option("--model", metavar="NAME...", help="With --all: only these names or .onnx files.")
LIMIT = typer.Option(min=1, metavar="N", help="With --all: at most N images of each set, every k-th.")
OVERWRITE = typer.Option("--overwrite", help="Replace FILE if it exists; with --all it is always brought up to date.")
KEEP = typer.Option("--keep-baselines", help="With --all: take classical methods from the file where it has them.")
ALL_DATA = Path("../shared/data")


class SeveralValues(TyperCommand):
    """Reads `--sigma 15 25 50` and `--model A B` as several values; the parser alone would take all but the first for
    models."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Spell every value as an option of its own, then parse as usual."""
        for option, belongs in (("--sigma", _is_number), ("--model", _is_word)):
            if option in args:
                first = args.index(option) + 1
                values = list(takewhile(belongs, args[first:]))
                if values:
                    repeated = [word for value in values for word in (option, value)]
                    args = [*args[: first - 1], *repeated, *args[first + len(values) :]]
        return super().parse_args(ctx, args)


def evaluate(
    models: Annotated[list[str] | None, MODELS] = None,
    data: Annotated[Path | None, DATA] = None,
    sigma: Annotated[list[float] | None, SIGMA] = None,
    json: Annotated[Path | None, JSON] = None,
    baselines: Annotated[bool, BASELINES] = False,
    every: Annotated[int, EVERY] = 1,
    everything: Annotated[bool, ALL] = False,
    model: Annotated[list[str] | None, MODEL] = None,
    limit: Annotated[int | None, LIMIT] = None,
    keep_baselines: Annotated[bool, KEEP] = False,
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """Measure PSNR and SSIM on clean images with added noise; with --all, every model on the tests of its task."""
    if everything:
        if models or sigma or baselines or every != 1:
            raise typer.BadParameter("--all takes no MODEL, --sigma, --baselines or --every: name models with --model")
        _all(model or [], data or ALL_DATA, json, limit, keep_baselines)
        return
    if model or limit or keep_baselines:
        raise typer.BadParameter("--model, --limit and --keep-baselines belong to --all")
    if not models or data is None:
        raise typer.BadParameter("give models and --data FOLDER, or --all")
    check_report(json, [".json"], overwrite=overwrite, data=data)
    need("torch", "pywt")
    from restonnx.training.evaluate import evaluate as run

    levels = sigma or [15.0, 25.0, 50.0]
    run(models, data=data, sigma=levels, json=json, baselines=baselines, every=every)


def _all(models: list[str], data: Path, json: Path | None, limit: int | None, keep_baselines: bool) -> None:
    """The numbers, then in a clone, unless they went elsewhere, the tables made of them."""
    need("torch", "onnx", "pywt")
    from restonnx.training.evaluation.documents import RESULTS, write
    from restonnx.training.evaluation.zoo import measure_zoo

    out = json or RESULTS
    if json is None and not RESULTS.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {RESULTS.parent} here: run it in a clone, or give --json FILE")
    report = measure_zoo(data, out, models=models, limit=limit, keep_baselines=keep_baselines, say=say)
    for path in write(Path(), report) if json is None else ():
        say(f"written: {path}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_word(text: str) -> bool:
    return not text.startswith("-")
