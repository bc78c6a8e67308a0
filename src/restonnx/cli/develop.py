"""`restonnx develop`: camera RAW files in, restored pictures or DNGs out."""

from __future__ import annotations

import threading
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restonnx.cli import outputs
from restonnx.cli.console import one_line, report, say, stderr
from restonnx.cli.interrupt import run_cancellable
from restonnx.cli.progress import Bar, bar
from restonnx.cli.restore import running_on
from restonnx.errors import Cancelled

if TYPE_CHECKING:
    from restonnx.isp import RestorationStage

SUFFIX_OF = {"tiff": ".tif", "png": ".png", "dng": ".dng"}
WRITABLE = (".tif", ".tiff", ".png", ".dng")


class To(StrEnum):
    tiff = "tiff"
    png = "png"
    dng = "dng"


class Place(StrEnum):
    auto = "auto"
    cfa = "cfa"
    camera_rgb = "camera_rgb"
    linear_rgb = "linear_rgb"
    display_rgb = "display_rgb"


class Space(StrEnum):
    srgb = "srgb"
    display_p3 = "display-p3"
    rec2020 = "rec2020"
    prophoto = "prophoto"


class Demosaic(StrEnum):
    AHD = "AHD"
    LINEAR = "LINEAR"
    VNG = "VNG"
    PPG = "PPG"
    DCB = "DCB"
    DHT = "DHT"
    AAHD = "AAHD"


DEFAULT = "raw-denoise"
"""The model for Bayer mosaics, in whose stead others restore files of other kinds."""

INPUTS = typer.Argument(metavar="IN", help="RAW files, or folders of them.", show_default=False, readable=False)
OUTPUT = typer.Option("--output", "-o", metavar="OUT", help="A folder, or a file name for one RAW file.")
MODEL = typer.Option("--model", "-m", help='A model\'s name, the path of an .onnx file, or "none".')
TO = typer.Option(help="The format of the files in a folder; a file name says it itself.", show_default="tiff")
PLACE = typer.Option("--at", help="Where the model stands: on the mosaic, on linear colours, on the picture.")
SPACE = typer.Option("--color-space", help="Of a TIFF or PNG.")
EXPOSURE = typer.Option(min=-10, max=10, help="In stops; it brightens or darkens the picture.")
DEMOSAIC = typer.Option(help="LibRaw's algorithm.")
STRENGTH = typer.Option(min=0, max=1, help="0 develops the file as it is, 1 restores it, between them a blend.")
SEED = typer.Option(min=0, max=2**63 - 1, metavar="N", help="The same seed gives the same result.")
NOISE = typer.Option(
    metavar="A,B", help="The noise profile: variance A x + B, saturation 1.", show_default="the file's, or estimated"
)
TABLE = typer.Option(
    "--noise-table",
    metavar="FILE",
    help="CSV with iso,a,b for frames without a profile, where none can be estimated.",
    show_default=False,
)
UNCOMPRESSED = typer.Option("--uncompressed", help="Write DNGs without compression.")
DEVICE = typer.Option(help="auto, cpu, cuda or cuda:N.")
TILE = typer.Option(min=1, help="Side of a tile in pixels; smaller needs less memory.", show_default="the model's")
OVERWRITE = typer.Option("--overwrite", help="Replace outputs that exist. An input is never replaced.")
RESUME = typer.Option("--resume", help="Pass over inputs whose output exists: go on with a batch that was stopped.")
RECURSIVE = typer.Option("--recursive", "-r", help="Look into the folders inside folders too.")


def develop(
    inputs: Annotated[list[Path], INPUTS],
    output: Annotated[str, OUTPUT],
    model: Annotated[str, MODEL] = DEFAULT,
    to: Annotated[To | None, TO] = None,
    place: Annotated[Place, PLACE] = Place.auto,
    color_space: Annotated[Space, SPACE] = Space.srgb,
    exposure: Annotated[float, EXPOSURE] = 0.0,
    demosaic: Annotated[Demosaic, DEMOSAIC] = Demosaic.AHD,
    strength: Annotated[float, STRENGTH] = 1.0,
    seed: Annotated[int, SEED] = 0,
    noise: Annotated[str | None, NOISE] = None,
    noise_table: Annotated[Path | None, TABLE] = None,
    uncompressed: Annotated[bool, UNCOMPRESSED] = False,
    device: Annotated[str, DEVICE] = "auto",
    tile: Annotated[int | None, TILE] = None,
    overwrite: Annotated[bool, OVERWRITE] = False,
    resume: Annotated[bool, RESUME] = False,
    recursive: Annotated[bool, RECURSIVE] = False,
) -> None:
    """Develop camera RAW files with restoration on the way, to TIFF, PNG or DNG.

    Exit code 0: all is done; 1: something failed (the other files are done); 130: stopped by Ctrl-C.
    """
    profile = _profile(noise)
    plan = outputs.plan(
        inputs,
        output,
        readable=outputs.RAW_SUFFIXES,
        writable=[SUFFIX_OF[to]] + ([".tiff"] if to == To.tiff else []) if to else WRITABLE,
        overwrite=overwrite,
        recursive=recursive,
        suffix=SUFFIX_OF[to or "tiff"],
        resume=resume,
    )
    for problem in plan.problems:
        report(problem)
    if not plan.jobs:
        say(f"0 developed, {len(plan.problems)} failed, {plan.finished} were there already")
        raise typer.Exit(1 if plan.problems else 0)
    started = time.perf_counter()
    from restonnx.isp import Rendering
    from restonnx.isp.noise_profiles import read_table
    from restonnx.isp.restoration import FOR_RAW

    rendering = Rendering(color_space.value, exposure, demosaic.value)
    settings: dict[str, Any] = {"device": device, "tile": tile, "noise": profile}
    settings |= {"noise_table": read_table(noise_table) if noise_table else None}
    settings |= {"domain": None if place == Place.auto else place.value}
    others = FOR_RAW[1:] if model == DEFAULT and place == Place.auto else ()
    settings |= {"otherwise": others}
    stage = None if model == "none" else run_cancellable(lambda _: _stage(model, settings))
    outputs.make_folders(plan.jobs)
    instead = f"; files without a Bayer mosaic by {' or '.join(others)}" if others else ""
    say(f"{running_on(stage.restorer)}{instead}" if stage else "no model: the files are developed as they are")
    options: dict[str, Any] = {"rendering": rendering, "strength": strength, "seed": seed, "overwrite": overwrite}
    options |= {"compression": "none" if uncompressed else "lossless-jpeg"}
    with bar(len(plan.jobs), stderr()) as shown:
        done = run_cancellable(lambda cancel: _develop_all(plan.jobs, stage, options, shown, cancel))
    failed = len(plan.problems) + len(plan.jobs) - done
    parts = [f"{done} developed"] + [f"{failed} failed"] * bool(failed)
    parts += [f"{plan.finished} were there already"] * bool(plan.finished)
    say(", ".join([*parts, f"{time.perf_counter() - started:.1f} s"]))
    if failed:
        raise typer.Exit(1)


def _stage(model: str, settings: dict[str, Any]) -> RestorationStage:
    from restonnx.isp import RestorationStage

    return RestorationStage(model, **settings)


def _develop_all(
    jobs: tuple[outputs.Job, ...],
    stage: RestorationStage | None,
    options: dict[str, Any],
    shown: Bar,
    cancel: threading.Event,
) -> int:
    """Do the files one after the other and print a line for each. -> how many succeeded. Raises Cancelled."""
    from restonnx import isp

    done, stages = 0, [stage] if stage else []
    for number, job in enumerate(jobs):
        shown.start_file(number, job.source.name)
        started = time.perf_counter()
        try:
            isp.develop(job.source, stages, job.target, progress=shown.advance, cancel=cancel, **options)
        except Cancelled:
            raise
        except Exception as error:
            # Also the unforeseen: one odd file must not take the rest of a long batch with it.
            text = one_line(error)
            report(text if str(job.source) in text else f"{job.source}: {text}", shown.console)
        else:
            done += 1
            say(f"{job.source} -> {job.target}  {time.perf_counter() - started:.1f} s", shown.console)
    return done


def _profile(text: str | None) -> Any:
    """The profile that A,B stands for."""
    if text is None:
        return None
    from restonnx.errors import InputError
    from restonnx.isp import NoiseProfile

    try:
        a, b = (float(part) for part in text.split(","))
        return NoiseProfile((a,) * 3, (b,) * 3)
    except (ValueError, InputError):
        raise typer.BadParameter(f"--noise takes two numbers such as 1e-3,4e-6, not {text!r}") from None
