"""`restonnx doctor`: what is installed, what really runs, and the command that mends what does not."""

from __future__ import annotations

import platform
import shutil
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from restonnx.errors import RestonnxError

if TYPE_CHECKING:
    from restonnx.providers import RuntimeFacts

OPTIONAL = ("torch", "onnx", "napari", "dask", "zarr")
PCI_DEVICES = Path("/sys/bus/pci/devices")
NVIDIA = "0x10de"
"""NVIDIA's number among the vendors of PCI devices."""


def doctor() -> None:
    """Say what is installed and what runs; exit code 1 if something is wrong."""
    import restonnx
    from restonnx.providers import cuda_problem, providers

    facts = providers()
    _line("restonnx", restonnx.__version__)
    _line("python", f"{platform.python_version()} on {platform.platform()}")
    for label, text in _runtime(facts).items():
        _line(label, text)
    _line("optional", ", ".join(_installed(OPTIONAL)) or "none installed")
    problems = list(facts.problems)
    reason = cuda_problem()
    if reason in problems and not has_nvidia_card():
        # Nothing is wrong with a computer that has no such card.
        problems.remove(reason)
        _line("cuda", f"not used: {reason}")
    problems += _library_problems()
    if not problems:
        typer.echo("all is well")
        return
    for problem in problems:
        typer.echo(f"problem: {problem}")
    raise typer.Exit(1)


def has_nvidia_card() -> bool:
    """Whether this computer seems to have an NVIDIA card, with a working driver or without."""
    if shutil.which("nvidia-smi"):
        return True
    with suppress(OSError):
        return any(path.read_text().strip() == NVIDIA for path in PCI_DEVICES.glob("*/vendor"))
    return False


def _runtime(facts: RuntimeFacts) -> dict[str, str]:
    built = "without CUDA" if facts.cuda_major is None else f"for CUDA {facts.cuda_major}"
    lines = {
        "onnxruntime": f"{facts.version}, built {built}",
        "installed as": ", ".join(facts.distributions) or "no distribution of that name",
        "providers": ", ".join(facts.available),
    }
    return lines | ({"missing": ", ".join(facts.missing)} if facts.missing else {})


def _library_problems() -> list[str]:
    """Print what the library holds and on what its first sound model really runs. -> what is wrong there."""
    from restonnx import library
    from restonnx.session import Session

    entries = library.models()
    sound = [entry for entry in entries if not entry.problem]
    _line("models", ", ".join(entry.name for entry in sound) or "none")
    problems = []
    for entry in entries:
        if entry.problem:
            cure = "install restonnx again" if entry.shipped else f"`restonnx models remove {entry.name}`"
            problems.append(f"model {entry.name}: {entry.problem}; {cure}")
    if sound:
        try:
            session = Session(library.find(sound[0].name), device="auto")
        except RestonnxError as error:
            return [*problems, str(error)]
        _line("auto runs on", f"{session.provider} ({session.device})")
    return problems


def _installed(names: tuple[str, ...]) -> list[str]:
    found = []
    for name in names:
        with suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return found


def _line(label: str, text: str) -> None:
    typer.echo(f"{label + ':':14} {text}")
