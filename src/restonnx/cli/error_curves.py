"""`restonnx error-curves`: modular and cumulative error of a sampler at every step. Needs torch."""

from pathlib import Path
from typing import Annotated

import typer

from restonnx.cli.extras import need

CHECKPOINT = typer.Argument(metavar="CHECKPOINT", help="What `restonnx train` wrote.", show_default=False)
DATA = typer.Option(help="Folder of clean images.", show_default=False)
JSON = typer.Option("--json", metavar="FILE", help="Also write the numbers here.", show_default=False)
PLOT = typer.Option("--plot", metavar="FILE", help="Also draw the curves here.", show_default=False)
SET = typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the recipe; may be repeated.")


def error_curves(
    checkpoint: Annotated[Path, CHECKPOINT],
    data: Annotated[Path, DATA],
    json: Annotated[Path | None, JSON] = None,
    plot: Annotated[Path | None, PLOT] = None,
    settings: Annotated[list[str] | None, SET] = None,
) -> None:
    """Show whether errors add up along the sampler's steps."""
    need("torch", "safetensors", *(["matplotlib"] if plot else []))
    from restonnx.training.error_curves import error_curves as run

    run(checkpoint, data=data, json=json, plot=plot, overrides=settings or [])
