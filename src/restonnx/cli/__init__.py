"""The command `restonnx`, one file per command: the public functions with files, bars and exit codes.

Exit codes: 0 done, 1 something failed, 2 the command was used wrongly, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from restonnx.cli import (
    benchmark,
    degrade,
    demo,
    develop,
    doctor,
    error_curves,
    evaluate,
    export,
    models,
    noise_profile,
    restore,
    train,
)
from restonnx.cli.console import fail, say
from restonnx.errors import Cancelled, RestonnxError

__all__ = ["app", "main"]


class _Commands(TyperGroup):
    """Turns every foreseen error of any command into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (Cancelled, KeyboardInterrupt):
            say("cancelled")
            raise typer.Exit(130) from None
        except BrokenPipeError:
            raise
        except (RestonnxError, OSError) as error:
            fail(error)


app = typer.Typer(
    name="restonnx",
    help="Restore photographs, micrographs and RAW files with few-step diffusion models.",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        import restonnx

        typer.echo(f"restonnx {restonnx.__version__}")
        raise typer.Exit


VERSION = typer.Option("--version", help="Print the version and leave.", callback=_print_version, is_eager=True)


@app.callback()
def options(version: Annotated[bool, VERSION] = False) -> None:
    """Restore photographs, micrographs and RAW files with few-step diffusion models."""


app.command()(restore.restore)
app.command()(develop.develop)
app.command("noise-profile")(noise_profile.noise_profile)
app.command()(demo.demo)
app.add_typer(models.models, name="models")
app.command()(doctor.doctor)
app.command()(benchmark.benchmark)
app.command()(train.train)
app.command()(degrade.degrade)
app.command(cls=evaluate.SeveralValues)(evaluate.evaluate)
app.command("error-curves")(error_curves.error_curves)
app.command()(export.export)


def main() -> None:
    """The entry point of the console script and of `python -m restonnx`."""
    app()
