"""`restonnx degrade`: what training does to clean images, done to files. Needs torch."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restonnx.cli import outputs
from restonnx.cli.console import report, say, stderr
from restonnx.cli.extras import need
from restonnx.cli.interrupt import run_cancellable
from restonnx.cli.progress import Bar, bar
from restonnx.errors import Cancelled, InputError

if TYPE_CHECKING:
    from restonnx.images import Picture

TASK = typer.Argument(metavar="TASK", help="A recipe (its name or file), or a kind of damage such as dehaze.")
INPUTS = typer.Argument(metavar="IN", help="Clean images, or folders of them.", show_default=False, readable=False)
OUTPUT = typer.Option("--output", "-o", metavar="OUT", help="A folder, or a file name for one image.")
PAIRS = typer.Option("--pairs", help="Make OUT a set for `restonnx train --pairs`: OUT/input and OUT/gt, as PNG files.")
SEED = typer.Option(min=0, max=2**31 - 1, metavar="N", help="The same seed does the same to the same images.")
SET = typer.Option(
    "--set",
    metavar="KEY=VALUE",
    help="Change a setting of the damage, such as noise=5, or noise=[0,10] for a range; may be repeated.",
)
OVERWRITE = typer.Option("--overwrite", help="Replace outputs that exist. An input is never replaced.")
RECURSIVE = typer.Option("--recursive", "-r", help="Look into the folders inside folders too.")


def degrade(
    task: Annotated[str, TASK],
    inputs: Annotated[list[Path], INPUTS],
    output: Annotated[str, OUTPUT],
    pairs: Annotated[bool, PAIRS] = False,
    seed: Annotated[int, SEED] = 0,
    settings: Annotated[list[str] | None, SET] = None,
    overwrite: Annotated[bool, OVERWRITE] = False,
    recursive: Annotated[bool, RECURSIVE] = False,
) -> None:
    """Degrade clean images as a recipe does for training, to look at it or to make a set of pairs.

    Where the task has a reference or a mask, it is written as NAME_reference or NAME_mask.png, or with --pairs into
    OUT/reference or OUT/mask. Masks are white where the image is to be restored.
    """
    need("torch")
    from restonnx.images import SUFFIXES
    from restonnx.training.degrade import degradation

    damage = degradation(task, settings or [])
    plan = outputs.plan(
        inputs,
        f"{output}/input/" if pairs else output,
        readable=SUFFIXES,
        writable=SUFFIXES,
        overwrite=overwrite,
        recursive=recursive,
        suffix=".png" if pairs else None,
    )
    problems = list(plan.problems)
    jobs = []
    for job in plan.jobs:
        others = _others(job.target, Path(output), pairs, getattr(damage, "guide", None))
        problem = _problem(others, [other.source for other in plan.jobs], overwrite)
        if problem:
            problems.append(f"{job.source}: {problem}")
        else:
            jobs.append((job, others))
    for problem in problems:
        report(problem)
    if not jobs:
        raise typer.Exit(1)
    companions = [replace(job, target=path) for job, others in jobs for path in others.values()]
    outputs.make_folders([*(job for job, _ in jobs), *companions])
    with bar(len(jobs), stderr()) as shown:
        done = run_cancellable(lambda cancel: _degrade_all(jobs, damage, seed, overwrite, shown, cancel))
    failed = len(problems) + len(jobs) - done
    say(f"{done} degraded, {failed} failed" if failed else f"{done} degraded")
    if failed:
        raise typer.Exit(1)


def _others(target: Path, output: Path, pairs: bool, guide: str | None) -> dict[str, Path]:
    """Where the clean image and the guide go that belong to the degraded one at `target`."""
    if pairs:
        below = target.relative_to(output / "input")
        return {role: output / role / below for role in ("gt", *([guide] if guide else []))}
    if not guide:
        return {}
    beside = target.with_stem(f"{target.stem}_{guide}")
    return {guide: beside.with_suffix(".png") if guide == "mask" else beside}


def _problem(others: dict[str, Path], sources: list[Path], overwrite: bool) -> str | None:
    for path in others.values():
        if not path.exists():
            continue
        if any(path.samefile(source) for source in sources):
            return f"{path} is an input and is never overwritten: give another folder with -o"
        if path.is_dir() or not overwrite:
            return f"{path} exists: pass --overwrite to replace it"
    return None


def _degrade_all(
    jobs: list[tuple[outputs.Job, dict[str, Path]]],
    damage: Any,
    seed: int,
    overwrite: bool,
    shown: Bar,
    cancel: threading.Event,
) -> int:
    """Do the jobs and print a line for each. -> how many succeeded. Raises Cancelled."""
    done = 0
    for number, (job, others) in enumerate(jobs):
        shown.start_file(number, job.source.name)
        try:
            _degrade_file(job, others, damage, seed * 1_000_003 + number, overwrite, cancel)
        except Cancelled:
            raise
        except Exception as error:  # one odd file must not take the rest of a long batch with it
            text = str(error) or type(error).__name__
            report(text if str(job.source) in text else f"{job.source}: {text}", shown.console)
        else:
            done += 1
            shown.advance(1, 1)
            say(f"{job.source} -> {job.target}", shown.console)
    return done


def _degrade_file(
    job: outputs.Job, others: dict[str, Path], damage: Any, seed: int, overwrite: bool, cancel: threading.Event
) -> None:
    import numpy as np

    from restonnx import arrays, images
    from restonnx.training.degrade import degrade

    picture = images.read(job.source)
    pixels = np.asarray(picture.pixels)
    if pixels.ndim != (2 if picture.color_axis is None else 3):
        raise InputError(f"{job.source} holds a stack with the axes {picture.axes}: give single images")
    if picture.color_axis is not None:
        pixels = np.moveaxis(pixels, picture.color_axis, -1)
    if pixels.dtype.kind not in "uf":
        raise InputError(f"{job.source} holds {pixels.dtype}: give unsigned integers, or floats in [0, 1]")
    full = float(np.iinfo(pixels.dtype).max) if pixels.dtype.kind == "u" else 1.0
    clean, degraded, *guides = degrade(pixels.astype(np.float32) / np.float32(full), damage, seed)
    if cancel.is_set():
        raise Cancelled("cancelled")
    made = {role: guides[0] if guides and role != "gt" else clean for role in others}
    for path, values in [(job.target, degraded), *((path, made[role]) for role, path in others.items())]:
        if path == others.get("mask"):
            mask = images.Picture(np.where(values > 0.5, np.uint8(0), np.uint8(255)), "YX")
            images.write(path, mask, overwrite=overwrite)
        else:
            stored = arrays.to_dtype(values * np.float32(full), pixels.dtype)
            images.write(path, _as(picture, stored), overwrite=overwrite)


def _as(picture: Picture, pixels: Any) -> Picture:
    """The file's picture with other pixels, whose colour is the last axis."""
    axes = "YX" if pixels.ndim == 2 else "YXS"
    return replace(picture, pixels=pixels, axes=axes)
