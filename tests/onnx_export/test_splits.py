"""Parts of a tensor are slices in an exported graph: there is no kernel for sequences on CUDA."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason='exporting needs torch: pip install "restonnx[train]"')
pytest.importorskip("onnx", reason='exporting needs onnx: pip install "restonnx[train]"')

import onnx
import torch

from restonnx import library
from restonnx.onnx_export.freeze import Port, compare, to_onnx


class Parts(torch.nn.Module):
    """Of 6 channels made of 3."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        both = torch.cat([image, 2 * image], dim=1)
        first, second = both.chunk(2, dim=1)
        one, rest, last = both.split([1, 3, 2], dim=1)
        return first - 3 * second + rest * one + last.mean(dim=1, keepdim=True)


def operators(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node}


def test_chunks_and_splits_become_slices_of_the_same_values() -> None:
    ports = (Port("image", "image", ("N", 3, "H", "W")),)
    model = to_onnx(Parts(), ports, unit=8, multiple=1)
    assert "Slice" in operators(model)
    assert not {name for name in operators(model) if "Sequence" in name}
    assert max(compare(model.SerializeToString(), Parts(), ports, 8)) < 1e-6


@pytest.mark.parametrize(
    "path", [entry.path for entry in library.models() if entry.shipped], ids=lambda path: path.stem
)
def test_no_shipped_model_has_sequences(path: Path) -> None:
    assert not {name for name in operators(onnx.load(path)) if "Sequence" in name}
