"""`restonnx models`: which models there are; show, add, remove and verify them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restonnx.cli.console import report
from restonnx.errors import RestonnxError

if TYPE_CHECKING:
    from restonnx.model import Metadata

models = typer.Typer(help="List, show, add, remove and verify models.", invoke_without_command=True)

NAME = typer.Argument(metavar="NAME", help="A model's name, or the path of an .onnx file.", show_default=False)
OWN = typer.Argument(metavar="NAME", help="The name of a model of yours.", show_default=False)
FILE = typer.Argument(metavar="FILE", help="A model made for restonnx.", show_default=False)
NAMES = typer.Argument(metavar="NAME", help="Models' names; all without one.", show_default=False)
OVERWRITE = typer.Option("--overwrite", help="Replace a model of yours that has the same name.")


@models.callback()
def default(context: typer.Context) -> None:
    """List, show, add, remove and verify models."""
    if context.invoked_subcommand is None:
        list_models()


@models.command("list")
def list_models() -> None:
    """List the models that ship with restonnx and your own."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from restonnx import library

    entries = library.models()
    if not entries:
        typer.echo("no models yet: `restonnx models add FILE` adds one")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("name", no_wrap=True)
    for heading in ("what it does", "task", "steps", "size", "from"):
        table.add_column(heading, overflow="fold")
    for entry in entries:
        origin = "restonnx" if entry.shipped else "you"
        if entry.problem:
            problem = Text(f"cannot be used: {entry.problem}", style="red")
            table.add_row(Text(entry.name), problem, "", "", "", origin)
            continue
        size = f"{entry.path.stat().st_size / 1e6:.1f} MB"
        steps = str(entry.metadata.sampler.steps)
        table.add_row(Text(entry.name), Text(entry.title), Text(entry.task), steps, size, origin)
    Console(highlight=False).print(table)


@models.command()
def show(name: Annotated[str, NAME]) -> None:
    """Show what a model says of itself, and its card."""
    from restonnx import library

    model = library.find(name)
    for label, value in _facts(model.metadata).items():
        typer.echo(f"{label + ':':14} {value}")
    typer.echo(f"{'file:':14} {model.path} ({model.size_bytes / 1e6:.1f} MB)")
    typer.echo(f"{'sha256:':14} {model.sha256}")
    card = model.path.with_suffix(".md")
    if card.is_file():
        typer.echo("\n" + card.read_text(encoding="utf-8").rstrip())


@models.command()
def add(file: Annotated[Path, FILE], overwrite: Annotated[bool, OVERWRITE] = False) -> None:
    """Check a model file and copy it into your library."""
    from restonnx import library

    entry = library.add(file, overwrite=overwrite)
    typer.echo(f"added {entry.name}: {entry.path}")


@models.command()
def remove(name: Annotated[str, OWN]) -> None:
    """Delete a model of yours from the library."""
    from restonnx import library

    library.remove(name)
    typer.echo(f"removed {name}")


@models.command()
def verify(names: Annotated[list[str] | None, NAMES] = None) -> None:
    """Check models: the file is whole, its metadata is right, and it runs."""
    from restonnx import library

    failed = False
    for name in names or [entry.name for entry in library.models()]:
        try:
            typer.echo(f"{name}: {library.verify(name)}")
        except RestonnxError as error:
            report(f"{name}: {error}" if name not in str(error) else error)
            failed = True
    if failed:
        raise typer.Exit(1)


def _asked(metadata: Metadata) -> list[str]:
    """What the user must give besides the image."""
    return [spec.role for spec in metadata.inputs if spec.role not in ("image", "noise")]


def _facts(metadata: Metadata) -> dict[str, str]:
    """The metadata as label and text, in the order in which a reader asks for them."""
    sampler = metadata.sampler
    facts = {
        "name": f"{metadata.name} {metadata.version}",
        "title": metadata.title,
        "task": metadata.task,
        "about": metadata.description,
        "sampler": f"{sampler.family}, {sampler.steps} steps, {sampler.draws} noise draws",
        "images": f"{metadata.domain}, {metadata.channels} channels, range {metadata.range}",
        "also needs": ", ".join(f"--{role.replace('_', '-')}" for role in _asked(metadata)),
        "scale": str(metadata.scale),
        "precision": metadata.precision,
        "licence": metadata.licence,
        "authors": ", ".join(metadata.authors),
        "trained on": ", ".join(f"{source.name} ({source.licence})" for source in metadata.training_data),
        "recipe": f"{metadata.recipe} {metadata.recipe_hash[:12]}".rstrip(),
        "measured": ", ".join(f"{name} {value:g}" for name, value in metadata.measured.items()),
    }
    return {label: text for label, text in facts.items() if text}
