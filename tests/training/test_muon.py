from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from restonnx.training import checkpoint as checkpoints
from restonnx.training.loop import train
from restonnx.training.muon import Muon, orthogonalised


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 40), columns=st.integers(1, 90), scale=st.floats(1e-6, 1e6), seed=st.integers(0, 99))
def test_orthogonalising_brings_every_singular_value_near_one_and_keeps_the_vectors(
    rows: int, columns: int, scale: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    left, _ = torch.linalg.qr(torch.randn(rows, rows, generator=generator))
    right, _ = torch.linalg.qr(torch.randn(columns, columns, generator=generator))
    rank = min(rows, columns)
    values = scale * torch.linspace(0.05, 1.0, rank)
    result = orthogonalised((left[:, :rank] * values) @ right[:, :rank].T)
    inside = left[:, :rank].T @ result @ right[:, :rank]
    assert result.shape == (rows, columns)
    assert (inside.diagonal() > 0.5).all()
    assert (inside.diagonal() < 1.3).all()
    torch.testing.assert_close(inside, torch.diag(inside.diagonal()), rtol=0, atol=1e-3)


def test_what_is_no_convolution_moves_as_under_adam() -> None:
    start, gradients = torch.randn(5, 3), torch.randn(4, 5, 3)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    settings = {"lr": 1e-2, "betas": (0.8, 0.95), "weight_decay": 0.1}
    for parameter, optimizer in ((ours, Muon([ours], **settings)), (theirs, torch.optim.AdamW([theirs], **settings))):
        for gradient in gradients:
            parameter.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_a_convolutions_step_has_the_size_of_adams_and_does_not_depend_on_the_loss_scale() -> None:
    weight = torch.randn(32, 16, 3, 3)
    moved = []
    for scale in (1.0, 1e4):
        parameter = nn.Parameter(weight.clone())
        optimizer = Muon([parameter], lr=0.1)
        parameter.grad = scale * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        optimizer.step()
        moved.append((parameter.detach() - weight) / 0.1)
    torch.testing.assert_close(moved[0], moved[1], rtol=1e-3, atol=1e-4)
    assert float(moved[0].square().mean().sqrt()) == pytest.approx(0.2, rel=0.2)


def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(recipe: Path, photographs: Path, tmp_path: Path) -> None:
    options = ['training.optimizer="muon"', "training.iterations=4"]
    whole = train(recipe, data=photographs, out=tmp_path / "whole", overrides=options, quiet=True)
    stopped = tmp_path / "stopped"
    for _ in range(4):
        train(recipe, data=photographs, out=stopped, overrides=options, minutes=0.0, quiet=True)
    first, second = checkpoints.load(whole), checkpoints.load(stopped / "checkpoint.safetensors")
    for name, value in first.network.items():
        assert torch.equal(second.network[name], value), name
    assert any(".momentum" in key for key in first.optimizer)
