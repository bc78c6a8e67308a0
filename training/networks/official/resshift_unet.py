"""ResShift's U-Net: window attention in place of attention over all pixels (Yue et al. 2023, arXiv 2307.12348).

The low-quality image is its condition, in pixel space and at its own size, whatever space the diffusion lives in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from restonnx.training.networks.official.recognition import State, count, size, trunk, with_overrides
from restonnx.training.networks.official.swin import SwinStage
from restonnx.training.networks.official.unet import Downsample, TrunkConfig, UNet

FIRST_FEATURES = 16
"""Width of the first convolution of the condition's encoder; it doubles at every stage."""
NOT_USED = frozenset({"use_fp16"})


@dataclass(frozen=True, kw_only=True)
class ResShiftConfig(TrunkConfig):
    """The options of the published constructor; the defaults are those of the published x4 networks."""

    model_channels: int = 160
    channel_mult: tuple[float, ...] = (1, 2, 2, 4)
    image_size: int = 64
    """Nominal side of x_t: it decides windows and shifts at construction; other sizes run too."""
    attention_resolutions: tuple[int, ...] = (64, 32, 16, 8)
    """Sides, at the nominal size, of the levels whose first entry has window attention."""
    num_heads: int = 1
    num_head_channels: int = 32
    """Channels per head; -1: `num_heads` heads."""
    swin_depth: int = 2
    swin_embed_dim: int = 192
    window_size: int = 8
    mlp_ratio: float = 4.0
    patch_norm: bool = False
    cond_lq: bool = True
    """The low-quality image is a condition."""
    cond_mask: bool = False
    """So is a mask, +1 where pixels are missing and -1 elsewhere."""
    lq_size: int = 64
    """Nominal side of the low-quality image: image_size, or a power of two times it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cond_lq and (self.lq_size < self.image_size or self.image_size * 2**self.stages != self.lq_size):
            raise ValueError(f"lq_size must be image_size ({self.image_size}) times a power of two, not {self.lq_size}")
        heads = self.heads
        if not heads or self.swin_embed_dim % heads or self.num_head_channels not in (-1, self.swin_embed_dim // heads):
            raise ValueError(f"swin_embed_dim {self.swin_embed_dim} does not divide into heads of equal size")
        if self.cond_mask and not self.cond_lq:
            raise ValueError("cond_mask needs cond_lq")

    @property
    def heads(self) -> int:
        return self.num_heads if self.num_head_channels == -1 else self.swin_embed_dim // self.num_head_channels

    @property
    def stages(self) -> int:
        """How often the condition's encoder halves the side."""
        return round(math.log2(self.lq_size / self.image_size)) if self.cond_lq else 0

    @property
    def features(self) -> int:
        """Channels that the condition adds to x_t."""
        if not self.cond_lq:
            return 0
        return FIRST_FEATURES * 2**self.stages if self.stages else 3 + self.cond_mask


class ResShiftUNet(UNet):
    """x_t (N, in_channels, H, W), times (N,), lq (N, 3, h, w) [, mask (N, 1, h, w)] -> (N, out_channels, H, W).

    h and w are `lq_factor` times H and W, which are multiples of `multiple`.
    """

    def __init__(self, config: ResShiftConfig) -> None:
        def attention(level: int, index: int, channels: int, decoder: bool) -> nn.Module | None:
            side = config.image_size // 2**level
            if index > 0 or (index == 0 and side not in config.attention_resolutions):
                return None
            return SwinStage(
                channels,
                width=config.swin_embed_dim,
                depth=config.swin_depth,
                heads=config.heads,
                side=side,
                window=config.window_size,
                mlp_ratio=config.mlp_ratio,
                patch_norm=config.patch_norm,
            )

        super().__init__(config, attention, config.in_channels + config.features)
        self.config = config
        self.lq_factor = 2**config.stages
        self.feature_extractor = feature_extractor(config)
        windows = [(config.image_size // 2**level, 2**level) for level in range(len(config.channel_mult))]
        with_attention = [w for w in windows[:-1] if w[0] in config.attention_resolutions] + windows[-1:]
        self.multiple = math.lcm(*(min(side, config.window_size) * rate for side, rate in with_attention))

    def condition(self, lq: Tensor | None, mask: Tensor | None = None) -> Tensor | None:
        """What the condition adds to every step's input: (N, features, H, W); computed once per chain."""
        if (lq is None) == self.config.cond_lq:
            raise ValueError("this network takes no low-quality image" if lq is not None else "lq is missing")
        if (mask is None) == self.config.cond_mask:
            raise ValueError("this network takes no mask" if mask is not None else "mask is missing")
        if lq is None:
            return None
        return self.feature_extractor(lq if mask is None else torch.cat([lq, mask], dim=1))

    def step(self, x: Tensor, timesteps: Tensor, condition: Tensor | None) -> Tensor:
        """The output for x_t, scaled as the schedule says, given `condition`'s result; times (N,), or (1,) for all."""
        if condition is not None:
            x = torch.cat([x, condition], dim=1)
        return self.trunk(x, self.embed(timesteps))

    def forward(self, x: Tensor, timesteps: Tensor, lq: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        return self.step(x, timesteps, self.condition(lq, mask))


def feature_extractor(config: ResShiftConfig) -> nn.Module:
    """The condition's encoder: nothing where it has the size of x_t already."""
    if not config.stages:
        return nn.Identity()
    layers: list[nn.Module] = []
    channels, width = 3 + config.cond_mask, FIRST_FEATURES
    for _ in range(config.stages):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.SiLU(), Downsample(width, True, 2 * width)]
        channels = width = 2 * width
    return nn.Sequential(*layers)


def build(config: ResShiftConfig) -> ResShiftUNet:
    return ResShiftUNet(config)


def from_official(arguments: Mapping[str, Any]) -> ResShiftConfig:
    """The configuration that the published constructor's keyword arguments mean; use_fp16 is ignored.

    ValueError for an argument that it does not have, and for dims other than 2.
    """
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
    if given.pop("dims", 2) != 2:
        raise ValueError("the network is for images: dims must be 2")
    given = {key: value for key, value in given.items() if key not in NOT_USED}
    unknown = given.keys() - {field.name for field in fields(ResShiftConfig)}
    if unknown:
        raise ValueError(f"UNetModelSwin has no argument {min(unknown)!r}")
    published: dict[str, Any] = {
        "swin_embed_dim": 96,
        "mlp_ratio": 2.0,
        "use_scale_shift_norm": False,
        "num_head_channels": -1,
    }
    return ResShiftConfig(**(published | {"lq_size": 256} | given))


def config_from_state_dict(state: State, **overrides: Any) -> ResShiftConfig:
    """The configuration that a state dict's names and shapes show, with the caller's overrides.

    Not to be seen are dropout, and image_size where no block is shifted (64 then).  ModelError where the state dict
    is of another network.
    """
    found = trunk(state)
    stage = "middle_block.1"
    width = size(state, f"{stage}.patch_embed.proj.weight", 0)
    levels = [level for level, i in enumerate(found.first) if f"input_blocks.{i}.1.patch_embed.proj.weight" in state]
    stages = {level: f"input_blocks.{found.first[level]}.1" for level in levels} | {len(found.first) - 1: stage}
    windows = {level: _window(state, name) for level, name in stages.items()}
    depth = count(state, r"middle_block\.1\.blocks\.(\d+)\.")
    image_size = _image_size(state, stages, windows, depth)
    channels = found.options["out_channels"]  # the output stands for an image like x_t
    features = size(state, "input_blocks.0.0.weight", 1) - channels
    convolutions = count(state, r"feature_extractor\.(\d+)\.")
    inside = size(state, "feature_extractor.0.weight", 1) if convolutions else features
    options = found.options | {
        "in_channels": channels,
        "image_size": image_size,
        "attention_resolutions": tuple(image_size // 2**level for level in levels),
        "num_head_channels": width // size(state, f"{stage}.blocks.0.attn.relative_position_bias_table", 1),
        "swin_depth": depth,
        "swin_embed_dim": width,
        "window_size": max(windows.values()),
        "mlp_ratio": size(state, f"{stage}.blocks.0.mlp.fc1.weight", 0) / width,
        "patch_norm": f"{stage}.patch_embed.norm.weight" in state,
        "cond_lq": features > 0,
        "cond_mask": inside == 4,
        "lq_size": image_size * 2 ** (convolutions // 3),
    }
    return ResShiftConfig(**with_overrides(options, overrides, ResShiftConfig))


def _window(state: State, stage: str) -> int:
    rows = size(state, f"{stage}.blocks.0.attn.relative_position_bias_table", 0)
    return (math.isqrt(rows) + 1) // 2


def _image_size(state: State, stages: Mapping[int, str], windows: Mapping[int, int], depth: int) -> int:
    """From the mask of a shifted block, which counts the windows; without one a level is a window wide at most."""
    for level, stage in stages.items():
        if (mask := state.get(f"{stage}.blocks.1.attn_mask")) is not None:
            return math.isqrt(len(mask)) * windows[level] * 2**level
    if depth < 2:
        return 64
    level = max(stages)
    return windows[level] * 2**level
