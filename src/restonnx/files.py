"""Writing under a temporary name first, and telling in one line what went wrong with a file."""

import errno
import json
import os
import shutil
import struct
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from restonnx.errors import InputError

BROKEN = (ValueError, RuntimeError, SyntaxError, TypeError, LookupError, EOFError, struct.error, zlib.error)
"""What libraries raise about a file that is not what it should be."""
JSON_WIDTH = 200


@contextmanager
def replaced(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary path in the same folder; it becomes `path` afterwards, or goes on any failure."""
    target = Path(os.path.realpath(path))  # a link stays a link
    _check_target(path, target, overwrite)
    temporary = target.with_name(f".{uuid.uuid4().hex[:12]}.part{target.suffix}")
    try:
        yield temporary
        _check_target(path, target, overwrite)
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def explained(path: Path, verb: Literal["read", "write"]) -> Iterator[None]:
    """Turn whatever the libraries raise about a file into one InputError that names it."""
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        raise InputError(_system_reason(path, verb, error)) from error
    except BROKEN as error:
        reason = _one_line(error)
        if verb == "read":
            raise InputError(
                f"{path} is damaged or cut off ({reason}); copy it again from where it came from"
            ) from error
        raise InputError(_misfit(path, reason)) from error


def write_json(path: Path, content: object, *, overwrite: bool = True) -> None:
    """Whole or not at all; an object or a list that fits on one line stands on one."""
    with replaced(path, overwrite=overwrite) as temporary:
        temporary.write_text(_json(content) + "\n", encoding="utf-8")


def _json(value: object, indent: int = 0) -> str:
    line = json.dumps(value)
    if not isinstance(value, (dict, list, tuple)) or indent + len(line) <= JSON_WIDTH:
        return line
    if isinstance(value, dict):
        parts, (first, last) = [f"{json.dumps(key)}: {_json(part, indent + 1)}" for key, part in value.items()], "{}"
    else:
        parts, (first, last) = [_json(part, indent + 1) for part in value], "[]"
    inner = "\n" + " " * (indent + 1)
    return f"{first}{inner}{f',{inner}'.join(parts)}\n{' ' * indent}{last}"


def _check_target(path: Path, target: Path, overwrite: bool) -> None:
    if target.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file")
    if target.exists() and not overwrite:
        raise InputError(f"{path} exists already; choose another name or allow overwriting")


def _system_reason(path: Path, verb: str, error: OSError) -> str:
    folder = path.parent
    short_write = error.errno is None and "requested and" in str(error)  # numpy's words for a full disk
    if error.errno == errno.ENOSPC or short_write:
        return f"{path} was not written: the disk is full; free some space or choose another folder"
    if error.errno is None:  # raised by a decoder, not by the system
        if verb == "read":
            return f"{path} is damaged or cut off ({_one_line(error)}); copy it again from where it came from"
        return _misfit(path, _one_line(error))
    if error.errno == errno.ENOENT:
        what = f"{path} does not exist" if verb == "read" else f"the folder {folder} of {path.name} does not exist"
        return f"{what}; check the name" if verb == "read" else f"{what}; make it first"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        place = f"{path} may not be read" if verb == "read" else f"{path} cannot be written: no permission in {folder}"
        return f"{place}; change the permissions or choose another folder"
    if error.errno == errno.EISDIR:
        return f"{path} is a folder; give the name of a file"
    return f"{path}: {error.strerror or _one_line(error)}; cannot {verb} it"


def _misfit(path: Path, reason: str) -> str:
    advice = "write another format" if path.suffix.lower() in (".tif", ".tiff") else "write .tif instead"
    return f"{path} cannot hold this picture ({reason}); {advice}"


def _one_line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:160]
