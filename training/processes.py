"""The processes of a training: one alone, or those that `torchrun` starts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as distributed
from torch import Tensor

from restonnx.errors import DeviceError, InputError


@dataclass(frozen=True)
class Place:
    """This process's device and its part in the group."""

    device: torch.device
    rank: int = 0
    world: int = 1


@contextmanager
def process_group(device: str) -> Iterator[Place]:
    """This process's place: alone, or one of `torchrun`'s.

    device: "auto", "cpu", "cuda" or "cuda:N".  Raises DeviceError, or InputError where processes would share one.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise InputError(f'device must be "auto", "cpu", "cuda" or "cuda:N", not {device!r}')
    if world > 1 and device.startswith("cuda:"):
        raise InputError(f"{world} processes cannot share {device}: give --device cuda, and each takes its own")
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            raise DeviceError(f"torch {torch.__version__} finds no CUDA device: train with --device cpu")
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
        # TF32 has 10 bits of mantissa: damage, enlargements and float32 trainings would be less exact than on a CPU.
        torch.backends.cudnn.allow_tf32 = False
    if world == 1:
        yield Place(torch.device(device))
        return
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Place(torch.device(device), rank, world)
    finally:
        distributed.destroy_process_group()


def mean(value: Tensor, place: Place) -> float:
    """Over all processes."""
    if place.world > 1:
        distributed.all_reduce(value)
        value = value / place.world
    return float(value)


def shared_clock(seconds: float, place: Place) -> float:
    """Every process follows the first one's clock, or their learning rates would drift apart."""
    if place.world == 1:
        return seconds
    clock = torch.tensor(seconds, dtype=torch.float64, device=place.device)
    distributed.broadcast(clock, 0)
    return float(clock)


def agreed(stop: bool, place: Place) -> bool:
    """Whether any process wants to stop: they must all leave the loop at the same iteration."""
    if place.world == 1:
        return stop
    flag = torch.tensor(float(stop), device=place.device)
    distributed.all_reduce(flag)
    return bool(flag > 0)
