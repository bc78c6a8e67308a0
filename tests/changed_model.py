"""Model files that something is wrong with, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from tiny_model import tiny_model

from restonnx.errors import ModelError
from restonnx.model import read

Change = Callable[[onnx.ModelProto], None]


def changed(folder: Path, change: Change, **options: Any) -> Path:
    """A tiny model to which `change` was done."""
    path = tiny_model(folder / "changed.onnx", **options)
    model = onnx.load(path, load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def message_of(path: Path, by: Callable[[Path], object] = read) -> str:
    with pytest.raises(ModelError) as caught:
        by(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def value_info(model: onnx.ModelProto, name: str) -> onnx.ValueInfoProto:
    return next(value for value in (*model.graph.input, *model.graph.output) if value.name == name)
