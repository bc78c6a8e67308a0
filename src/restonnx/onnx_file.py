"""What an .onnx file says of itself, read without the onnx package and without its weights.

An ONNX file is one protobuf message, ModelProto. The bytes of the weights are never looked at: the file is
mapped into memory, its few outer levels are walked by hand, the weights' data is stepped over, and what
remains (some hundred kilobytes of a 500 MB file) is parsed with the messages of `_MESSAGES`, a part of
onnx.proto.
"""

from __future__ import annotations

import functools
import math
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restonnx.errors import ModelError

MAX_FILE_BYTES = 4 * 2**30
MAX_FIELDS = 2_000_000
"""Of one message; real graphs have some thousands of nodes."""


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of the graph."""

    name: str
    dtype: str
    """As numpy spells it: "float32"."""
    shape: tuple[int | None, ...] | None
    """None for a dimension that is left open; None alone where not even the rank is known."""


@dataclass(frozen=True)
class OnnxFile:
    """What an .onnx file says of itself, weights left out."""

    producer: str
    metadata: dict[str, str]
    """`metadata_props`."""
    inputs: tuple[TensorInfo, ...]
    """Without those that have a stored value."""
    outputs: tuple[TensorInfo, ...]
    operators: frozenset[tuple[str, str]]
    """(domain, type) of every node, those of sub-graphs and functions included."""
    external: tuple[str, ...]
    """Locations of the tensors' data outside the file, as they are written there."""
    weight_bytes: int
    """Size of all stored tensors by their shapes and types."""
    size_bytes: int
    """Of the file."""


def parse(path: Path) -> OnnxFile:
    """Read the file at `path`. Raises ModelError where it is no file, too large, truncated or not ONNX."""
    size = _file_size(path)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                model, graph, initialisers = _messages(data)
            except _Malformed as malformed:
                raise ModelError(_explained(path, data[:4096], size, malformed)) from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from None
    tensors = [*initialisers, *_dense(graph.sparse_initializer)]
    operators: set[tuple[str, str]] = set()
    _collect(graph.node, operators, tensors)
    for function in model.functions:
        _collect(function.node, operators, tensors)
        _collect_attributes(function.attribute_proto, operators, tensors)
    stored = {tensor.name for tensor in initialisers}
    return OnnxFile(
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        metadata={entry.key: entry.value for entry in model.metadata_props},
        inputs=tuple(_tensor_info(value) for value in graph.input if value.name not in stored),
        outputs=tuple(_tensor_info(value) for value in graph.output),
        operators=frozenset(operators),
        external=tuple(dict.fromkeys(_location(tensor) for tensor in tensors if _is_external(tensor))),
        weight_bytes=sum(_tensor_bytes(path, tensor) for tensor in tensors),
        size_bytes=size,
    )


def _file_size(path: Path) -> int:
    if path.is_dir():
        raise ModelError(f"{path} is a folder, not an .onnx file")
    if not path.exists():
        raise ModelError(f"there is no model file {path}")
    if not path.is_file():
        raise ModelError(f"{path} is not a regular file")
    size = path.stat().st_size
    if size == 0:
        raise ModelError(f"{path} is empty, not an .onnx file")
    if size > MAX_FILE_BYTES:
        raise ModelError(f"{path} is {size / 2**30:.1f} GiB large; a model must be at most 4 GiB")
    return size


# --- the walk: protobuf's wire format, the weights stepped over


class _Malformed(Exception):
    """Not this kind of message. `missing`: how many bytes a field reaches beyond the file's end."""

    def __init__(self, missing: int = 0) -> None:
        self.missing = missing


_GRAPH = 7  # field numbers of onnx.proto
_INITIALISER = 5
_TENSOR_DATA = frozenset((4, 5, 6, 7, 9, 10, 11))


def _messages(data: mmap.mmap) -> tuple[Any, Any, list[Any]]:
    """-> ModelProto without its graph, GraphProto without its initialisers, these without their data.

    Protobuf allows a message to be parsed in pieces: the fields' bytes, joined, are a message again.
    """
    whole = [(0, len(data))]
    graph = _spans(data, whole, _GRAPH)
    if not graph:
        raise _Malformed
    initialisers = [
        _parsed("Tensor", _without(data, [span], _TENSOR_DATA)) for span in _spans(data, graph, _INITIALISER)
    ]
    return (
        _parsed("Model", _without(data, whole, frozenset((_GRAPH,)))),
        _parsed("Graph", _without(data, graph, frozenset((_INITIALISER,)))),
        initialisers,
    )


def _spans(data: mmap.mmap, within: list[tuple[int, int]], wanted: int) -> list[tuple[int, int]]:
    """Where the contents of the fields of number `wanted` stand."""
    return [(inner, stop) for span in within for number, _, inner, stop in _fields(data, *span) if number == wanted]


def _without(data: mmap.mmap, within: list[tuple[int, int]], dropped: frozenset[int]) -> bytes:
    return b"".join(
        data[begin:stop] for span in within for number, begin, _, stop in _fields(data, *span) if number not in dropped
    )


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of data[start:end]: number, where each begins, where its content does, where it stops."""
    at = start
    for _ in range(MAX_FIELDS):
        if at == end:
            return
        tag, inner = _varint(data, at, end)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            stop = _varint(data, inner, end)[1]
        elif kind == 1:
            stop = inner + 8
        elif kind == 2:
            length, inner = _varint(data, inner, end)
            stop = inner + length
        elif kind == 5:
            stop = inner + 4
        else:
            raise _Malformed
        if number == 0:
            raise _Malformed
        if stop > end:
            raise _Malformed(missing=stop - end if end == len(data) else 0)
        yield number, at, inner, stop
        at = stop
    raise _Malformed


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """The number that begins at `at`, seven bits a byte, and where it stops."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise _Malformed(missing=int(end == len(data)))
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _Malformed


def _explained(path: Path, head: bytes, size: int, malformed: _Malformed) -> str:
    if head.startswith(b"version https://git-lfs"):
        return f"{path} is a Git LFS pointer, not the model itself: fetch it with `git lfs pull`"
    if not any(byte < 32 and byte not in b"\t\r\n\f" for byte in head):
        return f"{path} is a text file, not an ONNX model"
    if malformed.missing and head[0] == 0x08:  # ir_version, which every writer puts first
        return f"{path} is truncated: at least {malformed.missing} bytes are missing after {size}; copy it again"
    return f"{path} is not an ONNX model, or is damaged"


# --- the messages

# The part of onnx.proto that is needed: field name -> (number, type); "*" is repeated.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Model": {
        "producer_name": (2, "string"),
        "producer_version": (3, "string"),
        "metadata_props": (14, "*Entry"),
        "functions": (25, "*Function"),
    },
    "Graph": {
        "node": (1, "*Node"),
        "initializer": (5, "*Tensor"),
        "input": (11, "*Value"),
        "output": (12, "*Value"),
        "sparse_initializer": (15, "*Sparse"),
    },
    "Function": {"node": (7, "*Node"), "attribute_proto": (11, "*Attribute")},
    "Node": {"op_type": (4, "string"), "attribute": (5, "*Attribute"), "domain": (7, "string")},
    "Attribute": {
        "t": (5, "Tensor"),
        "g": (6, "Graph"),
        "tensors": (10, "*Tensor"),
        "graphs": (11, "*Graph"),
        "sparse_tensor": (22, "Sparse"),
        "sparse_tensors": (23, "*Sparse"),
    },
    "Tensor": {
        "dims": (1, "*int64"),
        "data_type": (2, "int32"),
        "name": (8, "string"),
        "external_data": (13, "*Entry"),
        "data_location": (14, "int32"),
    },
    "Sparse": {"values": (1, "Tensor"), "indices": (2, "Tensor"), "dims": (3, "*int64")},
    "Entry": {"key": (1, "string"), "value": (2, "string")},
    "Value": {"name": (1, "string"), "type": (2, "Type")},
    "Type": {"tensor_type": (1, "TensorType")},
    "TensorType": {"elem_type": (1, "int32"), "shape": (2, "Shape")},
    "Shape": {"dim": (1, "*Dimension")},
    "Dimension": {"dim_value": (1, "int64")},
}


@functools.cache
def _classes() -> dict[str, Any]:
    """The classes of `_MESSAGES`, in a pool of their own: the onnx package may be loaded beside them."""
    from google.protobuf import (  # type: ignore[import-untyped]
        descriptor_pb2,
        descriptor_pool,
        message_factory,
    )

    field = descriptor_pb2.FieldDescriptorProto
    scalars = {"string": field.TYPE_STRING, "int32": field.TYPE_INT32, "int64": field.TYPE_INT64}
    file = descriptor_pb2.FileDescriptorProto(name="restonnx.proto", package="restonnx", syntax="proto3")
    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for name, (number, kind) in fields.items():
            label = field.LABEL_REPEATED if kind.startswith("*") else field.LABEL_OPTIONAL
            kind = kind.removeprefix("*")
            if kind in scalars:
                message.field.add(name=name, number=number, label=label, type=scalars[kind])
            else:
                message.field.add(
                    name=name,
                    number=number,
                    label=label,
                    type=field.TYPE_MESSAGE,
                    type_name=f".restonnx.{kind}",
                )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"restonnx.{name}")) for name in _MESSAGES}


def _parsed(name: str, content: bytes) -> Any:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        return _classes()[name].FromString(content)
    except DecodeError:
        raise _Malformed from None


# --- what the messages say


def _collect(nodes: Any, operators: set[tuple[str, str]], tensors: list[Any]) -> None:
    """Add the operators and the stored tensors of `nodes`, those of their sub-graphs too."""
    for node in nodes:
        operators.add((node.domain, node.op_type))
        _collect_attributes(node.attribute, operators, tensors)


def _collect_attributes(attributes: Any, operators: set[tuple[str, str]], tensors: list[Any]) -> None:
    for attribute in attributes:
        tensors.extend(attribute.tensors)
        if attribute.HasField("t"):
            tensors.append(attribute.t)
        tensors.extend(_dense(attribute.sparse_tensors))
        if attribute.HasField("sparse_tensor"):
            tensors.extend(_dense([attribute.sparse_tensor]))
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            tensors.extend((*graph.initializer, *_dense(graph.sparse_initializer)))
            _collect(graph.node, operators, tensors)


def _dense(sparse_tensors: Any) -> Iterator[Any]:
    """The two dense tensors that a sparse one consists of."""
    for sparse in sparse_tensors:
        yield sparse.values
        yield sparse.indices


_EXTERNAL = 1  # TensorProto.DataLocation

# TensorProto.DataType: name as numpy (or ml_dtypes) spells it, and bits of an element.
_TYPES = {
    1: ("float32", 32), 2: ("uint8", 8), 3: ("int8", 8), 4: ("uint16", 16), 5: ("int16", 16),
    6: ("int32", 32), 7: ("int64", 64), 8: ("str", 8), 9: ("bool", 8), 10: ("float16", 16),
    11: ("float64", 64), 12: ("uint32", 32), 13: ("uint64", 64), 14: ("complex64", 64),
    15: ("complex128", 128), 16: ("bfloat16", 16),
    17: ("float8_e4m3fn", 8), 18: ("float8_e4m3fnuz", 8), 19: ("float8_e5m2", 8), 20: ("float8_e5m2fnuz", 8),
    21: ("uint4", 4), 22: ("int4", 4), 23: ("float4_e2m1fn", 4), 24: ("float8_e8m0fnu", 8),
}  # fmt: skip


def _is_external(tensor: Any) -> bool:
    return bool(tensor.data_location == _EXTERNAL or tensor.external_data)


def _location(tensor: Any) -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def _tensor_bytes(path: Path, tensor: Any) -> int:
    if any(length < 0 for length in tensor.dims):
        raise ModelError(f"{path} holds a tensor with a negative dimension, so it is damaged")
    bits = _TYPES.get(tensor.data_type, ("", 64))[1]
    elements: int = math.prod(tensor.dims)
    return elements * bits // 8


def _tensor_info(value: Any) -> TensorInfo:
    tensor = value.type.tensor_type
    shape = tuple(dim.dim_value or None for dim in tensor.shape.dim) if tensor.HasField("shape") else None
    return TensorInfo(value.name, _TYPES.get(tensor.elem_type, ("unknown", 0))[0], shape)
