"""`restonnx export`: freezes a checkpoint and its sampler into one .onnx file. Needs torch and onnx."""

from pathlib import Path
from typing import Annotated

import typer

from restonnx.cli.extras import need
from restonnx.errors import InputError

CHECKPOINT = typer.Argument(metavar="CHECKPOINT", help="What `restonnx train` wrote.", show_default=False)
OUTPUT = typer.Option("--output", "-o", metavar="FILE.onnx", help="The model to write.", show_default=False)
STEPS = typer.Option(min=1, help="Cut the sampler after so many steps.", show_default="all")
NAME = typer.Option(help="The model's name in the library.", show_default="the recipe's")
PRECISION = typer.Option(help="How weights are stored: float16 or float32.")
OVERWRITE = typer.Option("--overwrite", help="Replace FILE.onnx if it exists.")


def export(
    checkpoint: Annotated[Path, CHECKPOINT],
    output: Annotated[Path, OUTPUT],
    steps: Annotated[int | None, STEPS] = None,
    name: Annotated[str | None, NAME] = None,
    precision: Annotated[str, PRECISION] = "float16",
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """Freeze a checkpoint into one .onnx file that restonnx runs without torch."""
    if output.suffix.lower() != ".onnx":
        raise InputError(f"{output}: a model's file name ends in .onnx")
    if output.exists() and not overwrite:
        raise InputError(f"{output} exists: pass --overwrite to replace it")
    need("torch", "onnx", "onnxscript", "safetensors")
    from restonnx.onnx_export.export import export_checkpoint

    output.parent.mkdir(parents=True, exist_ok=True)
    done = export_checkpoint(checkpoint, output, steps=steps, name=name, precision=precision)
    typer.echo(f"largest difference from torch: {max(done.errors):.1e}")
    typer.echo(f"{done.metadata.name}: {done.path} ({done.path.stat().st_size / 1e6:.1f} MB)")
