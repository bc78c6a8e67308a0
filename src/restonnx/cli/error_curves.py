"""`restonnx error-curves`: modular and cumulative error of samplers at every step. Needs torch."""

from pathlib import Path
from typing import Annotated

import typer

from restonnx.cli.extras import need
from restonnx.cli.outputs import check_report

MODELS = typer.Argument(metavar="MODEL", help="Names, .onnx files, or what `restonnx train` wrote.", show_default=False)
DATA = typer.Option(help="Folder of clean images.", show_default=False)
OUTPUT = typer.Option("--output", "-o", metavar="FILE", help="Also draw the curves of all here.", show_default=False)
JSON = typer.Option("--json", metavar="FILE", help="Also write the numbers here.", show_default=False)
LIMIT = typer.Option(min=1, metavar="N", help="At most N images of the folder, every k-th.", show_default=False)
OVERWRITE = typer.Option("--overwrite", help="Replace the files that exist.")
PICTURES = [".png", ".webp", ".jpg", ".pdf", ".svg"]
SET = typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the recipe; may be repeated.")


def error_curves(
    models: Annotated[list[str], MODELS],
    data: Annotated[Path, DATA],
    output: Annotated[Path | None, OUTPUT] = None,
    json: Annotated[Path | None, JSON] = None,
    limit: Annotated[int | None, LIMIT] = None,
    settings: Annotated[list[str] | None, SET] = None,
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """Show whether errors add up along the samplers' steps; one panel a task."""
    check_report(output, PICTURES, overwrite=overwrite, data=data)
    check_report(json, [".json"], overwrite=overwrite, data=data)
    need("torch", "safetensors", "onnx", *(["matplotlib"] if output else []))
    from restonnx.training.error_curves import compare

    compare(models, data=data, output=output, json=json, overrides=settings or [], limit=limit)
