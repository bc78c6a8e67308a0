"""`restonnx restore`: image files in, restored image files out."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restonnx.cli import extra_files, outputs
from restonnx.cli.console import report, say, stderr
from restonnx.cli.interrupt import run_cancellable
from restonnx.cli.progress import Bar, bar
from restonnx.errors import Cancelled

if TYPE_CHECKING:
    from restonnx.restore import Restorer

INPUTS = typer.Argument(metavar="IN", help="Images, or folders of images.", show_default=False, readable=False)
OUTPUT = typer.Option("--output", "-o", metavar="OUT", help="A folder, or a file name for one image.")
MODEL = typer.Option("--model", "-m", help="A model's name (see `restonnx models`) or the path of an .onnx file.")
STRENGTH = typer.Option(min=0, max=1, help="0 gives the input back, 1 the restored image, between them a blend.")
SEED = typer.Option(min=0, max=2**63 - 1, metavar="N", help="The same seed gives the same result.")
SAMPLES = typer.Option(min=1, help="Restore this many times with different noise and average.")
STD = typer.Option("--std", help="Also write NAME_std.tif: how much the samples differ, per pixel (float32).")
NOISE_LEVEL = typer.Option(
    metavar="SIGMA|estimate",
    help="Standard deviation of the noise, in the values of the images, for models that take it.",
    show_default=False,
)
MASK = typer.Option(metavar="FILE", help="An image, not 0 where it is to be restored.", show_default=False)
KERNEL = typer.Option(metavar="FILE", help="The point spread function: an image or a .npy file.", show_default=False)
REFERENCE = typer.Option(
    metavar="FILE",
    help="Another image of the same place; registered first unless it has the result's size.",
    show_default=False,
)
REGISTER = typer.Option("--register", help="Register the reference also where it has the result's size.")
DEVICE = typer.Option(help="auto, cpu, cuda or cuda:N.")
TILE = typer.Option(min=1, help="Side of a tile in pixels; smaller needs less memory.", show_default="the model's")
AXES = typer.Option(help="Meaning of the axes, such as ZYX or TCYX, where a file does not say it.", show_default=False)
OVERWRITE = typer.Option("--overwrite", help="Replace outputs that exist. An input is never replaced.")
RECURSIVE = typer.Option("--recursive", "-r", help="Look into the folders inside folders too.")


def restore(
    inputs: Annotated[list[Path], INPUTS],
    output: Annotated[str, OUTPUT],
    model: Annotated[str, MODEL] = "denoise",
    strength: Annotated[float, STRENGTH] = 1.0,
    seed: Annotated[int, SEED] = 0,
    samples: Annotated[int, SAMPLES] = 1,
    std: Annotated[bool, STD] = False,
    noise_level: Annotated[str | None, NOISE_LEVEL] = None,
    mask: Annotated[Path | None, MASK] = None,
    kernel: Annotated[Path | None, KERNEL] = None,
    reference: Annotated[Path | None, REFERENCE] = None,
    register: Annotated[bool, REGISTER] = False,
    device: Annotated[str, DEVICE] = "auto",
    tile: Annotated[int | None, TILE] = None,
    axes: Annotated[str | None, AXES] = None,
    overwrite: Annotated[bool, OVERWRITE] = False,
    recursive: Annotated[bool, RECURSIVE] = False,
) -> None:
    """Restore images and keep their format, size, bit depth and metadata.

    Exit code 0: all is done; 1: something failed (the other images are done); 130: stopped by Ctrl-C.
    """
    if std and samples < 2:
        raise typer.BadParameter("--std compares samples: pass --samples 2 or more with it")
    if register and reference is None:
        raise typer.BadParameter("--register is for a reference: pass --reference FILE with it")
    level = extra_files.noise_level(noise_level)
    from restonnx.extra_inputs import check_given
    from restonnx.images import SUFFIXES
    from restonnx.restore import Restorer

    plan = outputs.plan(
        inputs,
        output,
        readable=SUFFIXES,
        writable=SUFFIXES,
        std=std,
        overwrite=overwrite,
        recursive=recursive,
        others=(mask, kernel, reference),
    )
    for problem in plan.problems:
        report(problem)
    if not plan.jobs:
        raise typer.Exit(1)
    started = time.perf_counter()
    restorer = run_cancellable(lambda _: Restorer(model, device=device, tile=tile))
    given = {"noise_level": level, "mask": mask, "kernel": kernel, "reference": reference}
    check_given(restorer.metadata, given, lambda role: f"--{role.replace('_', '-')}")
    files = extra_files.read(mask, kernel, reference)
    given |= files
    if mask is not None:
        say(f"the mask marks {files['mask'].mean():.1%} of the image")
    outputs.make_folders(plan.jobs)
    say(running_on(restorer))
    fallback = restorer.fallback
    options = {"axes": axes, "strength": strength, "seed": seed, "samples": samples, "register": register, **given}
    with bar(len(plan.jobs), stderr()) as shown:
        done = run_cancellable(lambda cancel: _restore_all(restorer, plan.jobs, options, overwrite, shown, cancel))
    if restorer.fallback != fallback:
        say(f"note: {restorer.fallback}")
    failed = len(plan.problems) + len(plan.jobs) - done
    seconds = time.perf_counter() - started
    say(f"{done} restored, {failed} failed, {seconds:.1f} s" if failed else f"{done} restored, {seconds:.1f} s")
    if failed:
        raise typer.Exit(1)


def running_on(restorer: Restorer) -> str:
    """One line: the model, the provider that really runs, and why it is not the GPU where that was tried."""
    line = f"model {restorer.metadata.name} {restorer.metadata.version} on {restorer.provider}"
    return f"{line} ({restorer.fallback})" if restorer.fallback else line


def _restore_all(
    restorer: Restorer,
    jobs: tuple[outputs.Job, ...],
    options: dict[str, Any],
    overwrite: bool,
    shown: Bar,
    cancel: threading.Event,
) -> int:
    """Do the jobs one after the other and print a line for each. -> how many succeeded. Raises Cancelled."""
    done = 0
    for number, job in enumerate(jobs):
        shown.start_file(number, job.source.name)
        started = time.perf_counter()
        try:
            _restore_file(restorer, job, options, overwrite, shown, cancel)
        except Cancelled:
            raise
        except Exception as error:
            # Also the unforeseen: one odd file must not take the rest of a long batch with it.
            report(_named(job, error), shown.console)
        else:
            done += 1
            say(f"{job.source} -> {job.target}  {time.perf_counter() - started:.1f} s", shown.console)
    return done


def _restore_file(
    restorer: Restorer,
    job: outputs.Job,
    options: dict[str, Any],
    overwrite: bool,
    shown: Bar,
    cancel: threading.Event,
) -> None:
    from restonnx import images

    picture = images.read(job.source)
    images.check(job.target, picture)
    options = options | {"axes": options["axes"] or picture.axes}
    register, reference = options.pop("register"), options["reference"]
    if reference is not None:
        scale = restorer.metadata.scale
        options["reference"], note = extra_files.placed(
            reference, picture, scale, always=register, progress=shown.register, cancel=cancel
        )
        if note:
            say(note, shown.console)
    result = restorer(
        picture.pixels, **options, return_std=job.spread is not None, progress=shown.advance, cancel=cancel
    )
    restored, spread = result if isinstance(result, tuple) else (result, None)
    if cancel.is_set():
        raise Cancelled("cancelled")
    images.write(job.target, replace(picture, pixels=restored), overwrite=overwrite)
    if job.spread is not None:
        images.write(job.spread, replace(picture, pixels=spread, alpha=None, icc=None), overwrite=overwrite)


def _named(job: outputs.Job, error: Exception) -> str:
    """The error's text, with the file's name in front where the text does not hold it already."""
    text = str(error) or type(error).__name__
    return text if str(job.source) in text or str(job.target) in text else f"{job.source}: {text}"
