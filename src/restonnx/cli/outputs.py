"""Which file is written for which input, settled and checked before anything is restored."""

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from restonnx.errors import InputError

RAW_KINDS = "3fr arw cr2 cr3 crw dcr dng erf fff iiq kdc mef mos mrw nef nrw orf pef raf raw rw2 rwl sr2 srf srw"
RAW_SUFFIXES = tuple(f".{kind}" for kind in RAW_KINDS.split(" "))
"""What is taken for RAW in a folder; a file that is named is tried whatever its name."""


@dataclass(frozen=True)
class Job:
    """One image to restore."""

    source: Path
    target: Path
    """Where the restored image goes."""
    spread: Path | None = None
    """Where the standard deviation goes, if it is wanted."""


@dataclass(frozen=True)
class Plan:
    """The jobs of one command and the inputs that cannot be done, as one line each."""

    jobs: tuple[Job, ...]
    problems: tuple[str, ...]
    finished: int = 0
    """Inputs whose output is there already and is to be kept."""


def plan(
    inputs: Iterable[Path],
    output: str,
    *,
    readable: Collection[str],
    writable: Collection[str],
    std: bool = False,
    overwrite: bool = False,
    recursive: bool = False,
    suffix: str | None = None,
    resume: bool = False,
    others: Iterable[Path | None] = (),
) -> Plan:
    """Pair every image in `inputs` (files and folders) with a path under `output`.

    output: a file when there is one input file and the suffix is a writable one, else a folder; a trailing
        slash always means a folder, which else may not be named like an image. Files keep their names, and with
        `recursive` their subfolders.
    readable, writable: suffixes in lower case, such as ".tif".
    suffix: what the names in a folder end in, instead of the suffix of the input.
    resume: an output that exists was finished by an earlier run, and its input is passed over; so is the output
        itself, where it lies among the inputs.
    others: more files that the command reads, none of which is ever replaced.
    Raises InputError where no input at all can be served (a file stands where the folder should be).
    """
    inputs = list(inputs)
    as_file = _is_file(inputs, output, writable)
    folder = Path(output)
    if as_file:
        found = [(inputs[0], folder)] if inputs[0].exists() else []
        problems = [] if found else [f"{inputs[0]}: no such file"]
    else:
        found, problems = _pair(inputs, folder, readable, recursive)
        if suffix is not None:
            found = [(source, target.with_suffix(suffix)) for source, target in found]
    if resume:
        made = {_identity(target) for source, target in found if _identity(target) != _identity(source)}
        found = [(source, target) for source, target in found if _identity(source) not in made]
    sources = {_identity(source) for source, _ in found} | {_identity(path) for path in others if path is not None}
    claimed: dict[Path, Path] = {}
    jobs, finished = [], 0
    for source, target in found:
        job = Job(source, target, target.with_name(f"{target.stem}_std.tif") if std else None)
        if resume and target.is_file() and _identity(target) not in sources and target not in claimed:
            claimed[target] = source
            finished += 1
            continue
        problem = _problem(job, sources, claimed, readable=readable, writable=writable, overwrite=overwrite)
        if problem:
            problems.append(f"{source}: {problem}")
            continue
        claimed.update(dict.fromkeys(_written(job), source))
        jobs.append(job)
    return Plan(tuple(jobs), tuple(problems), finished)


def make_folders(jobs: Iterable[Job]) -> None:
    """Make the outputs' folders, and refuse those that cannot be written before time is spent on them."""
    for folder in dict.fromkeys(job.target.parent for job in jobs):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(f"cannot make the folder {folder}: {reason}") from None
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"cannot write into the folder {folder}: permission denied")


def check_report(path: Path | None, suffixes: Collection[str], *, overwrite: bool, data: Path | None = None) -> None:
    """Refuse a file for numbers or a plot before time is spent on them: one of another kind, one whose folder is not
    there or cannot be written, one that exists, unless `overwrite`, and one that lies among the images in `data`."""
    if path is None:
        return
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{path}: give a name that ends in {' or '.join(suffixes)}")
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} of {path.name} does not exist; make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(f"cannot write into the folder {path.parent}: permission denied")
    if not os.path.lexists(path):
        return
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file")
    if data is not None and data.resolve() in path.resolve().parents:
        raise InputError(f"{path} is an input and is never overwritten: give another folder or name")
    if not overwrite:
        raise InputError(f"{path} exists: pass --overwrite to replace it")


def _is_file(inputs: list[Path], output: str, writable: Collection[str]) -> bool:
    if output.endswith(tuple(filter(None, (os.sep, os.altsep)))) or Path(output).is_dir():
        return False
    looks_like_file = Path(output).suffix.lower() in writable
    if len(inputs) == 1 and not inputs[0].is_dir() and looks_like_file:
        return True
    if looks_like_file:
        raise InputError(f"{output} names one file for many images: give a folder, such as -o restored/")
    known = ", ".join(sorted(writable))
    if _names_an_image(output):
        raise InputError(f"{output} cannot be written: give a name that ends in {known}, or in / for a folder")
    if Path(output).exists():
        raise InputError(f"{output} is a file but not an image: give a folder, or a name that ends in {known}")
    return False


def _names_an_image(output: str) -> bool:
    """By Pillow's list, which unlike that of `mimetypes` is the same on every system, and what it does not know."""
    from PIL import Image

    return Path(output).suffix.lower() in {*Image.registered_extensions(), *RAW_SUFFIXES, ".heic", ".heif", ".jxl"}


def _pair(
    inputs: list[Path], folder: Path, readable: Collection[str], recursive: bool
) -> tuple[list[tuple[Path, Path]], list[str]]:
    found: dict[tuple[object, Path], tuple[Path, Path]] = {}  # the same file named twice is done once
    problems = []

    def add(source: Path, name: Path | str) -> None:
        found.setdefault((_identity(source), folder / name), (source, folder / name))

    for path in inputs:
        if path.is_dir():
            files = _files_in(path, folder, recursive)
            images = [file for file in files if file.suffix.lower() in readable]
            if not images:
                hint = "" if recursive else " (--recursive looks deeper)"
                problems.append(f"{path}: no image in this folder{hint}")
            for image in images:
                add(image, image.relative_to(path))
        elif path.exists():
            add(path, path.name)
        else:
            problems.append(f"{path}: no such file or folder")
    return list(found.values()), problems


def _files_in(path: Path, output: Path, recursive: bool) -> Iterator[Path]:
    """The files in a folder ordered by name, without hidden ones and those below the output folder."""
    skipped = output.resolve()
    for root, folders, names in os.walk(path):
        here = Path(root)
        nested = here.resolve() == skipped and here != path
        if nested or not recursive:
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if not nested:
            yield from (here / name for name in sorted(names) if not name.startswith("."))


def _problem(
    job: Job,
    sources: set[object],
    claimed: dict[Path, Path],
    *,
    readable: Collection[str],
    writable: Collection[str],
    overwrite: bool,
) -> str | None:
    """Why this job cannot be done, in words that follow the name of its source; None when it can."""
    if job.target.suffix.lower() not in writable:
        if job.target.suffix == job.source.suffix and job.source.suffix.lower() not in readable:
            return f"this is no image that can be read: give {', '.join(sorted(readable))}"
        return f"{job.target.suffix or 'no suffix'} cannot be written: give -o a file name in .tif or .png"
    for path in _written(job):
        if path.is_dir():
            return f"{path} is a folder"
        if path in claimed:
            return f"{path} is already the output of {claimed[path]}: restore them into different folders"
        if _identity(path) in sources:
            return f"{path} is an input and is never overwritten: give another folder or name with -o"
        if os.path.lexists(path) and not overwrite:
            return f"{path} exists: pass --overwrite to replace it"
    return None


def _written(job: Job) -> list[Path]:
    return [job.target] if job.spread is None else [job.target, job.spread]


def _identity(path: Path) -> object:
    """The same value for every name of one file: links, other spellings, letter case on some systems."""
    path = path.resolve()  # also where a folder before ".." does not exist yet
    try:
        status = path.stat()
    except OSError:
        return path
    return status.st_dev, status.st_ino
