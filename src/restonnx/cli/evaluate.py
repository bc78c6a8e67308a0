"""`restonnx evaluate`: measures models on a folder of clean images."""

from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

MODELS = typer.Argument(metavar="MODEL", help="Names or .onnx files.", show_default=False)
DATA = typer.Option(help="Folder of clean images.", show_default=False)
SIGMA = typer.Option(metavar="S...", help="Noise levels on the scale of 0 to 255.", show_default="15 25 50")
JSON = typer.Option("--json", metavar="FILE", help="Also write the numbers here.", show_default=False)
BASELINES = typer.Option("--baselines", help="Also measure scikit-image's non-local means and wavelets.")
EVERY = typer.Option(min=1, metavar="N", help="Use every N-th image of the folder only.")


class SeveralSigmas(TyperCommand):
    """Reads `--sigma 15 25 50` as three levels; the option parser alone would take 25 and 50 for models."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Spell every level as an option of its own, then parse as usual."""
        if "--sigma" in args:
            first = args.index("--sigma") + 1
            levels = list(takewhile(_is_number, args[first:]))
            if levels:
                repeated = [word for level in levels for word in ("--sigma", level)]
                args = [*args[: first - 1], *repeated, *args[first + len(levels) :]]
        return super().parse_args(ctx, args)


def evaluate(
    models: Annotated[list[str], MODELS],
    data: Annotated[Path, DATA],
    sigma: Annotated[list[float] | None, SIGMA] = None,
    json: Annotated[Path | None, JSON] = None,
    baselines: Annotated[bool, BASELINES] = False,
    every: Annotated[int, EVERY] = 1,
) -> None:
    """Measure PSNR and SSIM on clean images with added noise."""
    from restonnx.training.evaluate import evaluate as run

    levels = sigma or [15.0, 25.0, 50.0]
    run(models, data=data, sigma=levels, json=json, baselines=baselines, every=every)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
