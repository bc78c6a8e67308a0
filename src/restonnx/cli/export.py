"""`restonnx export`: freezes a checkpoint and its sampler into one .onnx file. Needs torch and onnx."""

from pathlib import Path
from typing import Annotated, Any

import typer

from restonnx.cli.console import stderr
from restonnx.cli.extras import need
from restonnx.errors import InputError

CHECKPOINT = typer.Argument(
    metavar="CHECKPOINT", help="What `restonnx train` wrote, or the name of a model here.", show_default=False
)
OUTPUT = typer.Option("--output", "-o", metavar="FILE.onnx", help="The model to write.", show_default=False)
FROM = typer.Option(
    "--from", metavar="FILE", help="In place of CHECKPOINT: a published .pth, .pt or .safetensors.", show_default=False
)
AS = typer.Option(
    "--as", metavar="KIND", help="What FILE is: resshift, rddm, adm, consistency; or dcdp.", show_default=False
)
STEPS = typer.Option(
    min=1, help="Cut the sampler of CHECKPOINT; of RDDM and with --as, the number of steps.", show_default="all"
)
ORDER = typer.Option(
    help="Of an RDDM CHECKPOINT: together, residual_first or noise_first.", show_default="the recipe's"
)
SET = typer.Option(
    "--set", metavar="NAME=VALUE", help="What the weights do not show, such as kappa=2; may be repeated."
)
AUTOENCODER = typer.Option(metavar="FILE", help="The VQ autoencoder of a latent ResShift.", show_default=False)
OPERATOR = typer.Option(help="Of dcdp: blur, inpaint, superresolve or denoise.", show_default=False)
SCALE = typer.Option(min=2, max=16, help="Of superresolve, or of a published network.", show_default="4, or as seen")
NAME = typer.Option(help="The model's name in the library.", show_default="the recipe's or the file's")
TITLE = typer.Option(help="The model's title, with --as.", show_default="its name")
LICENCE = typer.Option("--licence", help="The licence of FILE's weights as published.", show_default="unknown")
PRECISION = typer.Option(
    help="How weights are stored: float16, float32, int8-weights (of large convolutions) or all-int8-weights; "
    "or int8, what CHECKPOINT computes in."
)
CALIBRATE = typer.Option(metavar="FOLDER", help="Of int8: clean photographs that show the ranges.", show_default=False)
TUNE = typer.Option(
    metavar="ITERATIONS", min=1, help="Of int8: weights learn to live with rounding first; 2000 take 20 minutes."
)
PRECISIONS = ("float16", "float32", "int8-weights", "all-int8-weights", "int8")
OVERWRITE = typer.Option("--overwrite", help="Replace FILE.onnx if it exists.")


def export(
    output: Annotated[Path, OUTPUT],
    checkpoint: Annotated[str | None, CHECKPOINT] = None,
    published: Annotated[Path | None, FROM] = None,
    kind: Annotated[str | None, AS] = None,
    steps: Annotated[int | None, STEPS] = None,
    order: Annotated[str | None, ORDER] = None,
    settings: Annotated[list[str] | None, SET] = None,
    autoencoder: Annotated[Path | None, AUTOENCODER] = None,
    operator: Annotated[str | None, OPERATOR] = None,
    scale: Annotated[int | None, SCALE] = None,
    name: Annotated[str | None, NAME] = None,
    title: Annotated[str | None, TITLE] = None,
    licence: Annotated[str | None, LICENCE] = None,
    precision: Annotated[str, PRECISION] = "float16",
    calibrate: Annotated[Path | None, CALIBRATE] = None,
    tune: Annotated[int | None, TUNE] = None,
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """Freeze a checkpoint into one .onnx file that restonnx runs without torch.

    restonnx export runs/mine/checkpoint.safetensors -o mine.onnx

    restonnx export --from resshift.pth --as resshift --autoencoder vq.pth -o published.onnx

    restonnx export prior --as dcdp --operator blur -o deblur.onnx

    restonnx export denoise --precision int8 --calibrate photographs --tune 2000 -o denoise-int8.onnx
    """
    _check_together(
        checkpoint,
        published,
        kind,
        {"--autoencoder": autoencoder, "--licence": licence},
        {"--operator": operator},
        {"--set": settings, "--scale": scale, "--title": title},
    )
    if kind is not None and order is not None:
        raise InputError("--order is of a trained CHECKPOINT; with --as rddm it is --set order=residual_first")
    if precision not in PRECISIONS:
        raise InputError(f"--precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    if (precision == "int8") != (calibrate is not None) or (precision == "int8" and kind is not None):
        raise InputError("--precision int8 and --calibrate FOLDER go together, and with a CHECKPOINT or a model alone")
    if tune is not None and calibrate is None:
        raise InputError("--tune is of --precision int8 alone")
    if output.suffix.lower() != ".onnx":
        raise InputError(f"{output}: a model's file name ends in .onnx")
    if output.exists() and not overwrite:
        raise InputError(f"{output} exists: pass --overwrite to replace it")
    need("torch", "onnx", "onnxscript", "safetensors")
    output.parent.mkdir(parents=True, exist_ok=True)
    common: dict[str, Any] = {"name": name, "precision": precision}
    chosen = [*(settings or []), *([f"scale={scale}"] if scale else [])]
    with stderr().status("tracing, freezing, comparing with torch: half a minute to minutes") as status:
        if published is not None:
            from restonnx.onnx_export.published import export_published

            chosen += [f"steps={steps}"] if steps else []
            common |= {"title": title, "licence": licence, "autoencoder": autoencoder}
            done = export_published(published, str(kind), output, settings=chosen, **common)
        elif kind is not None:
            from restonnx.onnx_export.dcdp_export import export_dcdp
            from restonnx.onnx_export.options import parse

            chosen += [f"operator={operator}", *([f"rounds={steps}"] if steps else [])]
            done = export_dcdp(str(checkpoint), output, title=title, **parse("dcdp", chosen)[0].model_dump(), **common)
        elif calibrate is not None:
            from restonnx.onnx_export.int8 import export_int8

            def tuned(done: int, total: int, loss: float) -> None:
                status.update(f"tuning: {done} of {total}, rounding adds {loss:.1%} to the error")

            source = _source(str(checkpoint))
            chosen_steps: dict[str, Any] = {"steps": steps, "order": order, "name": name}
            done = export_int8(source, output, calibrate=calibrate, tune=tune or 0, report=tuned, **chosen_steps)
        else:
            from restonnx.onnx_export.export import export_checkpoint

            done = export_checkpoint(_source(str(checkpoint)), output, steps=steps, order=order, **common)
    whole = "torch" if calibrate is None else "the float graph"
    typer.echo(f"largest difference from {whole}: {max(done.errors):.1e}")
    typer.echo(f"{done.metadata.name}: {done.path} ({done.path.stat().st_size / 1e6:.1f} MB)")


def _source(checkpoint: str) -> Path:
    """A checkpoint's file, or that of a model in the library."""
    from restonnx import library

    path = Path(checkpoint)
    return path if path.suffix or path.exists() else library.find(checkpoint).path


def _check_together(
    checkpoint: str | None,
    published: Path | None,
    kind: str | None,
    for_published: dict[str, Any],
    for_dcdp: dict[str, Any],
    for_both: dict[str, Any],
) -> None:
    """Refuse options that do not go with each other."""
    if (checkpoint is None) == (published is None):
        raise InputError("give either CHECKPOINT, or --from FILE with --as KIND")
    if published is not None and kind in (None, "dcdp"):
        raise InputError("--from FILE goes with --as KIND: resshift, rddm, adm or consistency")
    if checkpoint is not None and kind not in (None, "dcdp"):
        raise InputError(f"--as {kind} is of published weights: pass their file with --from")
    if kind == "dcdp" and for_dcdp["--operator"] is None:
        raise InputError("--as dcdp needs --operator: blur, inpaint, superresolve or denoise")
    wrong = {
        "--from": for_published if published is None else {},
        "--as dcdp": for_dcdp if kind != "dcdp" else {},
        "--as": for_both if kind is None else {},
    }
    for needed, options in wrong.items():
        if given := [option for option, value in options.items() if value is not None]:
            raise InputError(f"{' and '.join(given)}: only together with {needed}")
