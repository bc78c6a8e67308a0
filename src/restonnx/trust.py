"""What a stranger's model file must not do: bring foreign code, fill the memory, have files of the user's read."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

from restonnx.errors import ModelError
from restonnx.onnx_file import OnnxFile

MAX_WEIGHT_BYTES = 4 * 2**30
OPERATOR_DOMAINS = frozenset(("", "ai.onnx", "com.microsoft"))
"""What ONNX Runtime brings along; operators of other domains would need foreign code."""


def trusted(path: Path, onnx: OnnxFile) -> tuple[Path, ...]:
    """The files beside the .onnx file that hold weights, all in its folder. Raises ModelError for what is unsafe."""
    _check_operators(path, onnx)
    if onnx.weight_bytes > MAX_WEIGHT_BYTES:
        raise ModelError(f"{path} declares {onnx.weight_bytes / 2**30:.1f} GiB of weights; at most 4 GiB are allowed")
    return tuple(_external_file(path, location) for location in onnx.external)


def _check_operators(path: Path, onnx: OnnxFile) -> None:
    foreign = sorted((domain, kind) for domain, kind in onnx.operators if domain not in OPERATOR_DOMAINS)
    if foreign:
        domain, kind = foreign[0]
        raise ModelError(
            f"{path} uses the operator {quoted(kind)} of the domain {quoted(domain)}; "
            "only the operators of ONNX and ONNX Runtime are allowed"
        )


def _external_file(path: Path, location: str) -> Path:
    """The file that a tensor's data lies in.

    A stranger's model must not make ONNX Runtime read any file of the user's that it names.
    """
    if not location:
        raise ModelError(f"{path} keeps weights outside the file without naming where; export it again as one file")
    shown, folder = quoted(location), path.parent.resolve()
    if "_MEM_ADDR_/" in location:  # ONNX Runtime's own mark: it would read the process's memory instead of a file
        raise ModelError(f"{path} keeps weights in {shown}, a memory address; export it again as one file")
    # A path that is absolute on Windows alone is refused everywhere: the file may travel.
    if Path(location).is_absolute() or PureWindowsPath(location).anchor:
        raise ModelError(f"{path} keeps weights in {shown}, an absolute path; they must lie in the model's own folder")
    try:
        file = (folder / location).resolve()
        inside, exists = file.is_relative_to(folder), file.is_file()
    except (OSError, ValueError, RuntimeError):
        inside, exists = True, False
    if not inside:
        raise ModelError(f"{path} keeps weights in {shown}, outside the model's folder; they must lie in it")
    if not exists:
        raise ModelError(f"{path} keeps weights in {shown}, which is missing; copy it beside the model")
    return file


def quoted(value: object) -> str:
    """Text from the file as it may be shown: in quotes, one line, no control characters, not too long."""
    text = "".join(letter if letter.isprintable() else "?" for letter in str(value))
    return f'"{text}"' if len(text) <= 100 else f'"{text[:100]}..."'
