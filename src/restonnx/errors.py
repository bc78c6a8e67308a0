"""The errors that restonnx raises on purpose. A message is one line: what was wrong, what would be right.

RestonnxError
├── InputError    the image, the file or an argument of the caller's cannot be used (also a ValueError)
├── ModelError    a model file is missing, broken, foreign, or does something that it must not
├── DeviceError   the device asked for cannot run
│   └── OutOfMemory   its memory does not suffice, nor for smaller tiles where the model allows them
└── Cancelled     the caller's `cancel` was set; nothing half-written stays behind
"""

from __future__ import annotations


class RestonnxError(Exception):
    """The root: `except RestonnxError` catches all that is foreseen, and nothing that is a bug."""


class InputError(RestonnxError, ValueError):
    """An image, a file or an argument that cannot be used as it stands."""


class ModelError(RestonnxError):
    """A model file that cannot be found, read, trusted or run."""


class DeviceError(RestonnxError):
    """A device that cannot run the model: missing libraries, no such device, too little memory."""


class OutOfMemory(DeviceError):
    """The memory does not suffice for a tile."""


class Cancelled(RestonnxError):
    """The run was stopped because `cancel.is_set()` became true."""
