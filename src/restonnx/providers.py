"""What ONNX Runtime can run on here: its providers, and what keeps CUDA from being one.

ONNX Runtime falls back to the CPU quietly, and lists CUDA as available wherever its wheel was built with it. So the
libraries are looked for first.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import re
import sys
import warnings
from dataclasses import dataclass
from typing import Literal

Provider = Literal["CPUExecutionProvider", "CUDAExecutionProvider"]

CPU: Provider = "CPUExecutionProvider"
CUDA: Provider = "CUDAExecutionProvider"
CUDA_COMMAND = 'pip install "restonnx[cuda]"'
"""Installs NVIDIA's libraries; the driver alone is the system's."""


@dataclass(frozen=True)
class RuntimeFacts:
    """What `restonnx doctor` says about ONNX Runtime."""

    version: str
    distributions: tuple[str, ...]
    """Installed distributions that bring the package `onnxruntime`, such as "onnxruntime-gpu 1.31.1"."""
    available: tuple[str, ...]
    """Providers that this build has, usable or not."""
    cuda_major: int | None
    """The major version of CUDA that it was built for; None for a build without."""
    missing: tuple[str, ...]
    """Shared libraries that CUDA needs and that cannot be loaded; empty for a build without CUDA."""
    problems: tuple[str, ...]
    """One line each: what keeps CUDA from running, and distributions that overwrite each other."""


def providers() -> RuntimeFacts:
    """Look at the installed ONNX Runtime and at the libraries that its CUDA provider needs."""
    from importlib.metadata import PackageNotFoundError, version

    import onnxruntime

    installed = {}
    for name in ("onnxruntime", "onnxruntime-gpu"):
        with contextlib.suppress(PackageNotFoundError):
            installed[name] = version(name)
    problems = [reason] if (reason := cuda_problem()) else []
    if len(installed) > 1:
        problems.insert(0, f"onnxruntime and onnxruntime-gpu overwrite each other; {_reinstall_command()}")
    return RuntimeFacts(
        version=onnxruntime.__version__,
        distributions=tuple(f"{name} {version}" for name, version in installed.items()),
        available=tuple(onnxruntime.get_available_providers()),
        cuda_major=_cuda_major(),
        missing=_missing_libraries(),
        problems=tuple(problems),
    )


def cuda_problem(index: int = 0) -> str | None:
    """Why CUDA device `index` cannot run, in one line with the command that mends it; None if nothing speaks
    against it.

    Nothing of ONNX Runtime's CUDA is touched on a machine without driver or device, so that nothing is logged
    there.
    """
    driver = _driver_name()
    if driver is None:
        return f"there is no CUDA on {sys.platform}"
    if not _loads(driver):
        return f"{driver} was not found: install the NVIDIA driver, then {CUDA_COMMAND}"
    count = _device_count(driver)
    if index >= count:
        found = "no CUDA device" if count == 0 else f"{count} CUDA device{'s' * (count > 1)}, counted from 0"
        return f"the NVIDIA driver sees {found}"
    if _cuda_major() is None:
        return f"this build of ONNX Runtime has no CUDA; {_reinstall_command()}"
    if missing := _missing_libraries():
        return f"{', '.join(missing)} could not be loaded; {CUDA_COMMAND}"
    return None


def cuda_memory(index: int) -> int | None:
    """Bytes of memory of CUDA device `index`, free or not; None where the driver does not say."""
    if (name := _driver_name()) is None or not _loads(name):
        return None
    driver, device, total = ctypes.CDLL(name), ctypes.c_int(0), ctypes.c_size_t(0)
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), index):
        return None
    return None if driver.cuDeviceTotalMem_v2(ctypes.byref(total), device) else total.value


def _driver_name() -> str | None:
    return {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}.get(sys.platform)


def _device_count(driver: str) -> int:
    library = ctypes.CDLL(driver)
    count = ctypes.c_int(0)
    if library.cuInit(0) != 0 or library.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def _cuda_major() -> int | None:
    import onnxruntime
    from onnxruntime.capi import build_and_package_info

    if CUDA not in onnxruntime.get_available_providers():
        return None
    match = re.match(r"\d+", getattr(build_and_package_info, "cuda_version", ""))
    return int(match[0]) if match else None


def _missing_libraries() -> tuple[str, ...]:
    """Names of shared libraries that the CUDA provider cannot do without and that do not load."""
    driver, major = _driver_name(), _cuda_major()
    if driver is None or major is None:
        return ()
    _preload()
    if sys.platform == "win32":
        names = [f"cudart64_{major}.dll", f"cublas64_{major}.dll", f"cublasLt64_{major}.dll", "cudnn64_9.dll"]
    else:
        names = [f"libcudart.so.{major}", f"libcublas.so.{major}", f"libcublasLt.so.{major}"]
        names += ["libcurand.so.10", "libcudnn.so.9"]
    return tuple(name for name in [driver, *names] if not _loads(name))


@functools.cache
def _preload() -> None:
    """Load NVIDIA's libraries from their wheels, quietly: `_missing_libraries` says what is not there."""
    import onnxruntime

    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(Exception):
            onnxruntime.preload_dlls()


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _reinstall_command() -> str:
    return f"pip uninstall onnxruntime onnxruntime-gpu, then {CUDA_COMMAND}"
