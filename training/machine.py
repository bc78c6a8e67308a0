"""What a measurement was made on; every JSON of results carries it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from restonnx.machine import cores

PACKAGES = ("restonnx", "numpy", "onnxruntime-gpu", "onnxruntime", "torch", "scikit-image", "PyWavelets")


def facts() -> dict[str, object]:
    """Processor, cores, system and the versions that matter."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "system": platform.platform(aliased=True),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            fields = dict(line.split(":", 1) for line in file if ":" in line)
    except OSError:
        return platform.processor()
    described = {key.strip(): value.strip() for key, value in fields.items()}
    widest = next((flag for flag in ("avx512f", "avx2", "avx") if flag in described.get("flags", "").split()), "")
    return f"{described.get('model name', platform.processor())} {widest}".strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
