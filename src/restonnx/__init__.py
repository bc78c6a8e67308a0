"""Restores photographs, micrographs and RAW files with few-step diffusion samplers on ONNX Runtime.

    import restonnx

    clean = restonnx.restore(noisy)  # the same axes and dtype

Importing loads nothing heavy: ONNX Runtime, pydantic and the image libraries come with their first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from restonnx.errors import Cancelled, DeviceError, InputError, ModelError, RestonnxError

# Imported at once, so that `restonnx.restore` is the function and never the module of the same name; `solve` as well.
from restonnx.restore import Restorer, load_model, restore
from restonnx.solve import solve

if TYPE_CHECKING:
    from restonnx.library import models

    __version__: str

__all__ = [
    "Cancelled",
    "DeviceError",
    "InputError",
    "ModelError",
    "RestonnxError",
    "Restorer",
    "__version__",
    "load_model",
    "models",
    "restore",
    "solve",
]


def __getattr__(name: str) -> Any:
    if name == "models":
        from restonnx.library import models

        return models
    if name == "__version__":
        return _version()
    raise AttributeError(f"module 'restonnx' has no attribute {name!r}")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("restonnx")
    except PackageNotFoundError:  # a source tree on the path, not installed
        return "0+unknown"


def __dir__() -> list[str]:
    return __all__
