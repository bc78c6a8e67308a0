"""The U-Nets of RDDM (Liu et al. 2024, arXiv 2308.13712): one network, or two, or one encoder with two decoders.

Weight-standardised residual blocks, linear attention on every level, full attention in the middle, after the public
denoising-diffusion U-Net.
A published file is read so:
    state = network_state(torch.load(path, weights_only=True))
    network = build(config_from_state_dict(state))
    network.load_state_dict(state, strict=True)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from restonnx.errors import ModelError
from restonnx.training.networks.official.rddm_blocks import (
    HEAD_WIDTH,
    Attention,
    Fourier,
    LinearAttention,
    PreNorm,
    Residual,
    ResnetBlock,
    Sinusoidal,
)
from restonnx.training.networks.official.recognition import State, count, size, with_overrides

LAYOUTS = ("single", "two", "shared")


@dataclass(frozen=True)
class RddmConfig:
    """Everything that decides the names and shapes of the weights, and what is done with them."""

    layout: str = "two"
    """single: one network; two: one for the residual and one for the noise; shared: one encoder, a decoder for the
    residual without skip connections and one for the noise with them."""
    dim: int = 64
    dim_mults: tuple[int, ...] = (1, 2, 4, 8)
    """Width of every level in units of dim."""
    channels: int = 3
    """Channels of one image, and of one head's output."""
    in_channels: int = 6
    """Channels of the images given together: [self-conditioning,] x_t [, degraded [, mask]]."""
    heads_per_network: int = 1
    """2: a single network gives the residual and the noise as one output of twice the channels."""
    groups: int = 8
    """Groups of every group normalisation; invisible in a state dict."""
    attention_heads: int = 4
    """Heads of 32 channels in every attention."""
    fourier: int = 0
    """Random or learned frequencies of the time embedding; 0: the usual sinusoidal one."""

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout is {self.layout!r}; it must be one of {', '.join(LAYOUTS)}")
        if self.heads_per_network not in (1, 2) or (self.heads_per_network == 2 and self.layout != "single"):
            raise ValueError("heads_per_network is 1, or 2 for a single network")
        if not self.dim_mults or self.dim % self.groups or (self.dim < 4 and not self.fourier):
            raise ValueError(f"dim must be a multiple of {self.groups} groups and at least 4, got {self.dim}")
        if self.in_channels % self.channels:
            raise ValueError(f"in_channels must be whole images of {self.channels} channels, got {self.in_channels}")


class UNet(nn.Module):
    """(N, in_channels, H, W), time (N,) or (1,) -> (N, outputs, H, W)."""

    def __init__(self, config: RddmConfig) -> None:
        super().__init__()
        dim, time_width = config.dim, 4 * config.dim
        levels = list(pairwise([dim, *(dim * mult for mult in config.dim_mults)]))
        wide, last = levels[-1][1], len(levels) - 1
        self.init_conv = nn.Conv2d(config.in_channels, dim, 7, padding=3)
        self.time_mlp = nn.Sequential(
            Fourier(config.fourier) if config.fourier else Sinusoidal(dim),
            nn.Linear(2 * config.fourier + 1 if config.fourier else dim, time_width),
            nn.GELU(),
            nn.Linear(time_width, time_width),
        )
        self.downs = nn.ModuleList(
            _level(config, a, a, _conv3(a, b) if i == last else nn.Conv2d(a, b, 4, stride=2, padding=1))
            for i, (a, b) in enumerate(levels)
        )
        self.mid_block1 = ResnetBlock(wide, wide, time_width, config.groups)
        self.mid_attn = Residual(PreNorm(wide, Attention(wide, config.attention_heads)))
        self.mid_block2 = ResnetBlock(wide, wide, time_width, config.groups)
        self.ups = _decoder(config, levels, skips=True)
        self._add_end(config)

    def _add_end(self, config: RddmConfig) -> None:
        self.final_res_block = ResnetBlock(2 * config.dim, config.dim, 4 * config.dim, config.groups)
        self.final_conv = nn.Conv2d(config.dim, config.channels * config.heads_per_network, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        embedded = self.time_mlp(time)
        middle, skips = self.encode(x, embedded)
        return self.final_conv(self.final_res_block(self.decode(middle, skips, embedded), embedded))

    def encode(self, x: Tensor, embedded: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The deepest features, and what is carried over to the decoder: the input's, then two of every level."""
        x = self.init_conv(x)
        skips = [x]
        for level in self.downs:
            block1, block2, attention, down = _parts(level)
            skips.append(block1(x, embedded))
            skips.append(attention(block2(skips[-1], embedded)))
            x = down(skips[-1])
        return self.mid_block2(self.mid_attn(self.mid_block1(x, embedded)), embedded), skips

    def decode(self, x: Tensor, skips: list[Tensor], embedded: Tensor) -> Tensor:
        skips = list(skips)
        for level in self.ups:
            block1, block2, attention, up = _parts(level)
            x = block1(torch.cat([x, skips.pop()], dim=1), embedded)
            x = block2(torch.cat([x, skips.pop()], dim=1), embedded)
            x = up(attention(x))
        return torch.cat([x, skips.pop()], dim=1)


class SharedUNet(UNet):
    """One encoder; the residual's decoder has no skip connections, the noise's has: two heads, and one time for both.

    Called as `SeparateUNets`; the time of the noise is not heard.
    """

    def __init__(self, config: RddmConfig) -> None:
        super().__init__(config)
        self.config, self.multiple = config, _multiple(config)
        levels = list(pairwise([config.dim, *(config.dim * mult for mult in config.dim_mults)]))
        self.ups_no_skip = _decoder(config, levels, skips=False)

    def _add_end(self, config: RddmConfig) -> None:
        dim = config.dim
        self.final_res_block_1 = ResnetBlock(dim, dim, 4 * dim, config.groups)
        self.final_conv_1 = nn.Conv2d(dim, config.channels, 1)
        self.final_res_block_2 = ResnetBlock(2 * dim, dim, 4 * dim, config.groups)
        self.final_conv_2 = nn.Conv2d(dim, config.channels, 1)

    def forward(self, x: Tensor, time_residual: Any, time_noise: Any = None) -> tuple[Tensor, ...]:  # type: ignore[override]
        embedded = self.time_mlp(_as_times(time_residual, x))
        middle, skips = self.encode(x, embedded)
        noise = self.final_res_block_2(self.decode(middle, skips, embedded), embedded)
        for level in self.ups_no_skip:
            block1, block2, attention, up = _parts(level)
            middle = up(attention(block2(block1(middle, embedded), embedded)))
        return self.final_conv_1(self.final_res_block_1(middle, embedded)), self.final_conv_2(noise)


class SeparateUNets(nn.Module):
    """Images given together (N, in_channels, H, W), the times -> the heads' outputs, each (N, channels, H, W).

    H and W must be multiples of `multiple`. A time is a number or (N,); a single network hears the first.
    """

    def __init__(self, config: RddmConfig) -> None:
        super().__init__()
        self.config, self.multiple = config, _multiple(config)
        self.unet0 = UNet(config)
        self.unet1 = UNet(config) if config.layout == "two" else None

    def forward(self, x: Tensor, time_residual: Any, time_noise: Any = None) -> tuple[Tensor, ...]:
        first = self.unet0(x, _as_times(time_residual, x))
        if self.unet1 is None:
            return tuple(first.chunk(self.config.heads_per_network, dim=1))
        return first, self.unet1(x, _as_times(time_residual if time_noise is None else time_noise, x))


RddmUNet = SeparateUNets | SharedUNet


def build(config: RddmConfig) -> RddmUNet:
    return SharedUNet(config) if config.layout == "shared" else SeparateUNets(config)


def predictor(
    network: nn.Module, degraded: Tensor | None = None, mask: Tensor | None = None, *, self_condition: bool = False
) -> Callable[..., tuple[Tensor, ...]]:
    """What the samplers of `diffusion.rddm` call: x_t and the images that the network sees besides, as one input.

    degraded: None where the network does not see it, as in generation, translation and inpainting.
    mask: of as many channels as an image.  self_condition: the previous clean estimate comes first, zeros at first.
    """

    def predict(x_t: Tensor, times: tuple[Any, Any], previous: Tensor | None = None) -> tuple[Tensor, ...]:
        first = (torch.zeros_like(x_t) if previous is None else previous,) if self_condition else ()
        seen = [image for image in (*first, x_t, degraded, mask) if image is not None]
        return network(torch.cat(seen, dim=1) if len(seen) > 1 else x_t, *times)

    return predict


def network_state(checkpoint: Mapping[str, Any], *, ema: bool = True) -> dict[str, Tensor]:
    """The network's weights alone, under the names that `build`'s modules have.

    checkpoint: a network's state dict, that of the diffusion wrapper around it ("model." before every name, and the
    schedule's buffers), or a whole training checkpoint of them with optimisers and running averages.
    ema: take the running average where there is one; else what is being trained.
    """
    found = _unwrapped(checkpoint, ema)
    weights = {name: tensor for name, tensor in found.items() if "." in name}  # the wrapper's own have no dots
    if weights and not any(name.startswith(("unet0.", "ups_no_skip.")) for name in weights):
        weights = {f"unet0.{name}": tensor for name, tensor in weights.items()}
    return weights


def schedule_buffers(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The schedule that a diffusion wrapper saved, such as alphas_cumsum and betas_cumsum, each (T,); maybe none."""
    return {name: t for name, t in _unwrapped(checkpoint, True).items() if "." not in name and t.ndim == 1}


def config_from_state_dict(state: Mapping[str, Any], **overrides: Any) -> RddmConfig:
    """The configuration that names and shapes show, of anything that `network_state` takes, with overrides.

    Not to be seen: groups (8), and whether a single output of 6 (or 2) channels is two heads of an RGB (or grey)
    image, which is assumed.  ModelError where the state dict is of another network.
    """
    weights: State = network_state(state)
    shared = any(name.startswith("ups_no_skip.") for name in weights)
    two = any(name.startswith("unet1.") for name in weights)
    prefix, end = ("", "final_conv_1") if shared else ("unet0.", "final_conv")
    dim = size(weights, f"{prefix}init_conv.weight", 0)
    levels = count(weights, rf"{re.escape(prefix)}downs\.(\d+)\.")
    widths = [size(weights, f"{prefix}downs.{i}.3.weight", 0) for i in range(levels)]
    if not levels or any(width % dim for width in widths):
        raise ModelError(f"the levels are {widths} channels wide, not multiples of {dim}: this is no RDDM U-Net")
    outputs = size(weights, f"{prefix}{end}.weight", 0)
    heads = 2 if outputs in (2, 6) and not (shared or two) else 1
    found = {
        "layout": "shared" if shared else "two" if two else "single",
        "dim": dim,
        "dim_mults": tuple(width // dim for width in widths),
        "channels": outputs // heads,
        "in_channels": size(weights, f"{prefix}init_conv.weight", 1),
        "heads_per_network": heads,
        "attention_heads": size(weights, f"{prefix}mid_attn.fn.fn.to_qkv.weight", 0) // (3 * HEAD_WIDTH),
    }
    if f"{prefix}time_mlp.0.weights" in weights:
        found["fourier"] = size(weights, f"{prefix}time_mlp.0.weights", 0)
    try:
        return RddmConfig(**with_overrides(found, overrides, RddmConfig))
    except ValueError as error:
        raise ModelError(f"these are not the weights of an RDDM U-Net: {error}") from error


def _unwrapped(checkpoint: Mapping[str, Any], ema: bool) -> dict[str, Tensor]:
    """The tensors of a checkpoint without what training has put around them."""
    found: Mapping[str, Any] = checkpoint
    for part in ("ema", "model") if ema else ("model", "ema"):
        if isinstance(checkpoint.get(part), Mapping):
            found = checkpoint[part]
            break
    found = {name: tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}
    for average in ("ema_model.", "online_model.") if ema else ("online_model.", "ema_model."):
        if any(name.startswith(average) for name in found):
            found = {name.removeprefix(average): t for name, t in found.items() if name.startswith(average)}
            break
    for wrapper in ("module.", "model.", "module."):  # DistributedDataParallel around either
        if any(name.startswith(wrapper) for name in found):
            found = {name.removeprefix(wrapper): tensor for name, tensor in found.items()}
    return dict(found)


def _level(config: RddmConfig, width_in: int, width: int, resample: nn.Module) -> nn.ModuleList:
    def block() -> ResnetBlock:
        return ResnetBlock(width_in, width, 4 * config.dim, config.groups)

    attention = Residual(PreNorm(width, LinearAttention(width, config.attention_heads)))
    return nn.ModuleList([block(), block(), attention, resample])


def _parts(level: nn.Module) -> list[nn.Module]:
    """The two blocks, the attention and the resampling of a level."""
    assert isinstance(level, nn.ModuleList)
    return list(level)


def _decoder(config: RddmConfig, levels: list[tuple[int, int]], *, skips: bool) -> nn.ModuleList:
    def wider(b: int, a: int) -> nn.Module:
        return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), _conv3(b, a))

    return nn.ModuleList(
        _level(config, b + a if skips else b, b, wider(b, a) if i else _conv3(b, a))
        for i, (a, b) in reversed(list(enumerate(levels)))
    )


def _conv3(width_in: int, width: int) -> nn.Conv2d:
    return nn.Conv2d(width_in, width, 3, padding=1)


def _multiple(config: RddmConfig) -> int:
    return int(2 ** (len(config.dim_mults) - 1))


def _as_times(time: Any, like: Tensor) -> Tensor:
    """(N,), or (1,) for a number, which every image then shares."""
    if isinstance(time, Tensor):
        return time.to(like.dtype).reshape(-1)
    return like.new_full((1,), float(time))
