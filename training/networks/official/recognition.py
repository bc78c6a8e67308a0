"""What the names and shapes in a state dict tell of the U-Net that they belong to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from restonnx.errors import InputError, ModelError

State = Mapping[str, Tensor]


def size(state: State, name: str, axis: int) -> int:
    """Length of one axis of a weight; ModelError if the weight is not there or has too few axes."""
    if name not in state:
        raise ModelError(
            f"the weight {name!r} is missing among {len(state)} names such as {', '.join(sorted(state)[:3])}"
        )
    shape = tuple(state[name].shape)
    if len(shape) <= axis:
        raise ModelError(f"the weight {name!r} has the shape {shape}, which is of another network")
    return int(shape[axis])


def count(state: State, pattern: str) -> int:
    """How many there are of what is numbered by the pattern's only group: the highest number + 1, or 0."""
    numbers = [int(found[1]) for name in state if (found := re.match(pattern, name))]
    return max(numbers, default=-1) + 1


@dataclass(frozen=True)
class Trunk:
    """The skeleton of a U-Net of `unet.UNet`'s kind."""

    options: dict[str, Any]
    """The fields of `unet.TrunkConfig` that can be seen."""
    first: tuple[int, ...]
    """Number of the encoder's first entry at each level."""


def trunk(state: State) -> Trunk:
    """Read the skeleton; ModelError where the state dict is of no such U-Net, or too damaged to tell."""
    base = size(state, "time_embed.0.weight", 1)
    outputs = count(state, r"output_blocks\.(\d+)\.")
    ups = [j for j in range(outputs) if _has(state, rf"output_blocks\.{j}\.[12]\.(in_layers|conv)\.")]
    updown = any(_has(state, rf"output_blocks\.{j}\.[12]\.in_layers\.") for j in ups)
    learned = _has(state, r"input_blocks\.\d+\.0\.op\.") or any(
        _has(state, rf"output_blocks\.{j}\.[12]\.conv\.") for j in ups
    )
    if not (updown or learned):  # resampling without parameters leaves gaps in the encoder's numbers
        inputs = count(state, r"input_blocks\.(\d+)\.")
        gaps = [i for i in range(1, inputs) if not _has(state, rf"input_blocks\.{i}\.")]
        lengths = [b - a - 1 for a, b in zip([0, *gaps], [*gaps, inputs], strict=True)]
    else:
        ends = [*(j + 1 for j in ups), outputs]
        lengths = [b - a - 1 for a, b in zip([0, *ends[:-1]], ends, strict=True)][::-1]
    first = tuple(1 + sum(lengths[:level]) + level for level in range(len(lengths)))
    widths = [_width(state, f"input_blocks.{i}.0") for i in first]
    middle = _width(state, "middle_block.0")
    return Trunk(
        {
            "model_channels": base,
            "out_channels": size(state, "out.2.weight", 0),
            "channel_mult": tuple(w // base if w % base == 0 else w / base for w in widths),
            "num_res_blocks": tuple(lengths),
            "conv_resample": learned or updown or len(lengths) == 1,
            "resblock_updown": updown,
            "use_scale_shift_norm": size(state, "middle_block.0.emb_layers.1.weight", 0) == 2 * middle,
        },
        first,
    )


def with_overrides(found: dict[str, Any], overrides: Mapping[str, Any], config: type) -> dict[str, Any]:
    """The found options replaced by the caller's; InputError for one that the dataclass `config` does not have."""
    known = [field.name for field in fields(config)]
    unknown = sorted(set(overrides) - set(known))
    if unknown:
        raise InputError(f"unknown option {unknown[0]!r}; the network's options are {', '.join(sorted(known))}")
    lists = {key: tuple(value) if isinstance(value, list) else value for key, value in overrides.items()}
    return found | lists


def _width(state: State, block: str) -> int:
    """Output channels of a ResBlock, from whichever of its weights is there."""
    for name in (f"{block}.in_layers.2.weight", f"{block}.out_layers.3.weight"):
        if name in state:
            return size(state, name, 0)
    return size(state, f"{block}.in_layers.2.weight", 0)


def _has(state: State, pattern: str) -> bool:
    compiled = re.compile(pattern)
    return any(compiled.match(name) for name in state)
