"""`restonnx train`: trains a model from a recipe. Needs torch."""

from pathlib import Path
from typing import Annotated, Any

import typer

from restonnx.cli.console import fail, say
from restonnx.cli.extras import need
from restonnx.cli.interrupt import run_cancellable
from restonnx.errors import Cancelled

RECIPE = typer.Argument(metavar="RECIPE", help="A shipped recipe's name or a .toml file.", show_default=False)
DATA = typer.Option(help="Folder of clean photographs, which are degraded as the recipe says.", show_default=False)
PAIRS = typer.Option(
    metavar="DIR", help="Instead of --data: your own images in DIR/input and DIR/gt, equally named.", show_default=False
)
OUT = typer.Option(help="Folder of the run: checkpoint and log.", show_default="runs/RECIPE")
RESUME = typer.Option("--resume/--no-resume", help="Go on from the checkpoint in the run's folder.")
MINUTES = typer.Option(min=0, help="Stop after this time; the run can go on later.", show_default="no limit")
SET = typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the recipe; may be repeated.")
FROM = typer.Option("--from", metavar="MODEL", help="Start from this checkpoint or model.", show_default=False)
DEVICE = typer.Option(help="auto, cpu, cuda or cuda:N.")


def train(
    recipe: Annotated[str, RECIPE],
    data: Annotated[Path | None, DATA] = None,
    pairs: Annotated[Path | None, PAIRS] = None,
    out: Annotated[Path | None, OUT] = None,
    resume: Annotated[bool, RESUME] = True,
    minutes: Annotated[float | None, MINUTES] = None,
    settings: Annotated[list[str] | None, SET] = None,
    init: Annotated[Path | None, FROM] = None,
    device: Annotated[str, DEVICE] = "auto",
) -> None:
    """Train a model from a recipe; stopped with Ctrl-C and started again, it goes on where it was.

    On several processes: torchrun --nproc-per-node N -m restonnx train ...
    """
    for setting in settings or []:
        if "=" not in setting:
            fail(f"--set takes KEY=VALUE, such as training.batch=8, not {setting!r}", code=2)
    if (data is None) == (pairs is None):
        fail("give either --data, a folder of clean photographs, or --pairs", code=2)
    need("torch", "safetensors", "tensorboard")
    from restonnx.training.loop import train as run

    options: dict[str, Any] = {
        "data": data,
        "pairs": pairs,
        "out": out or Path("runs") / Path(recipe).stem,
        "resume": resume,
        "minutes": minutes,
        "overrides": settings or [],
        "init": init,
        "device": device,
    }
    try:
        checkpoint = run_cancellable(lambda cancel: run(recipe, cancel=cancel, **options))
    except Cancelled as stopped:  # unlike other commands, it has kept what was done
        say(str(stopped))
        raise typer.Exit(130) from None
    typer.echo(f"checkpoint: {checkpoint}")
