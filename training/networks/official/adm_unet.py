"""The U-Nets of guided diffusion (ADM; Dhariwal and Nichol 2021, arXiv 2105.05233), of the consistency models (Song et
al. 2023, arXiv 2303.01469) and, without FiLM and with convolutions to resample, of latent diffusion (arXiv 2112.10752).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from restonnx.training.networks.official.recognition import State, trunk, with_overrides
from restonnx.training.networks.official.unet import GroupNorm, TrunkConfig, UNet, zeroed

CLASSES = 1000
PUBLISHED_HEAD = 64
"""Channels per head in the published ADM and consistency checkpoints; `LATENT_HEAD` in latent diffusion's."""
LATENT_HEAD = 32
CHANNEL_MULT: dict[int, tuple[float, ...]] = {
    512: (0.5, 1, 1, 2, 2, 4, 4),
    256: (1, 1, 2, 2, 4, 4),
    128: (1, 1, 2, 3, 4),
    64: (1, 2, 3, 4),
}
"""What an empty channel_mult stands for, by image size."""
NOT_USED = frozenset({"use_checkpoint", "use_fp16", "use_new_attention_order", "model_path"})


@dataclass(frozen=True, kw_only=True)
class AdmConfig(TrunkConfig):
    """The network's options, under guided diffusion's names."""

    attention_resolutions: tuple[int, ...] = (8, 16, 32)
    """Downsampling rates at which every ResBlock is followed by attention: 8 is the fourth level."""
    num_heads: int = 1
    num_head_channels: int = PUBLISHED_HEAD
    """Channels per head; -1: `num_heads` heads whatever the width."""
    num_heads_upsample: int = -1
    """Heads in the decoder where num_head_channels is -1; -1: as in the encoder."""
    use_new_attention_order: bool = False
    """The channels of qkv are [q, k, v] x heads x channels; False: heads x [q, k, v] x channels."""
    attention_dims: int = 1
    """1: the projections of the attention are Conv1d, as in ADM; 2: Conv2d, as in the consistency models."""
    num_classes: int | None = None


class Attention(nn.Module):
    """x + proj(softmax(q k' / sqrt(d)) v) over all pixels."""

    def __init__(self, channels: int, heads: int, *, heads_outside: bool, dims: int) -> None:
        super().__init__()
        self.heads, self.heads_outside = heads, heads_outside
        convolution = {1: nn.Conv1d, 2: nn.Conv2d}[dims]
        self.norm = GroupNorm(channels)
        self.qkv = convolution(channels, 3 * channels, 1)
        self.proj_out = zeroed(convolution(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        pixels = (height, width) if isinstance(self.qkv, nn.Conv2d) else (height * width,)
        qkv = self.qkv(self.norm(x).reshape(n, channels, *pixels))
        d = channels // self.heads
        if self.heads_outside:
            qkv = qkv.reshape(n, self.heads, 3, d, height * width).transpose(1, 2)
        else:
            qkv = qkv.reshape(n, 3, self.heads, d, height * width)
        q, k, v = (qkv.select(1, i) for i in range(3))  # each (n, heads, d, pixels)
        scores = ((q * d**-0.5).transpose(-1, -2) @ k).float().softmax(dim=-1).to(v.dtype)
        mixed = v @ scores.transpose(-1, -2)
        return x + self.proj_out(mixed.reshape(n, channels, *pixels)).reshape(x.shape)


class AdmUNet(UNet):
    """(N, in_channels, H, W), times (N,) [, classes (N,)] -> (N, out_channels, H, W).

    With out_channels twice in_channels the second half belongs to the learned variance.
    """

    def __init__(self, config: AdmConfig) -> None:
        def attention(level: int, index: int, channels: int, decoder: bool) -> nn.Module | None:
            if index >= 0 and 2**level not in config.attention_resolutions:
                return None
            heads = config.num_heads_upsample if decoder and config.num_heads_upsample != -1 else config.num_heads
            if config.num_head_channels != -1:
                heads = channels // config.num_head_channels
            if not heads or channels % heads or config.num_head_channels not in (-1, channels // heads):
                wanted = f"of {config.num_head_channels} channels" if config.num_head_channels != -1 else heads
                raise ValueError(f"{channels} channels do not make heads {wanted}: set num_head_channels or num_heads")
            outside, dims = not config.use_new_attention_order, config.attention_dims
            return Attention(channels, heads, heads_outside=outside, dims=dims)

        super().__init__(config, attention)
        self.config = config
        zeroed(self.out[2])
        if config.num_classes is not None:
            self.label_emb = nn.Embedding(config.num_classes, 4 * config.model_channels)

    def forward(self, x: Tensor, timesteps: Tensor, y: Tensor | None = None) -> Tensor:
        if (y is None) != (self.config.num_classes is None):
            needs = "needs classes" if y is None else "was trained without classes"
            raise ValueError(f"this network {needs}")
        embedding = self.embed(timesteps)
        if y is not None:
            embedding = embedding + self.label_emb(y)
        return self.trunk(x, embedding)


def build(config: AdmConfig) -> AdmUNet:
    return AdmUNet(config)


def from_create_model(arguments: Mapping[str, Any], *, consistency: bool = False) -> AdmConfig:
    """The configuration that the official function `create_model` makes of its arguments.

    consistency: as in the consistency models, whose attention has Conv2d projections in the new order, always.
    use_checkpoint, use_fp16 and model_path (of DPS and DCDP) do not change the network, and are ignored.  ValueError
    for a size without a published channel_mult where none is given, and for arguments that create_model does not have.
    """
    given = dict(arguments)
    image_size, learn_sigma = int(given.pop("image_size")), given.pop("learn_sigma", False)
    mult = given.pop("channel_mult", "")
    if not mult and image_size not in CHANNEL_MULT:
        raise ValueError(f"no channel_mult is published for images of {image_size}: give one such as '1,2,4'")
    channel_mult = _numbers(mult) if mult else CHANNEL_MULT[image_size]
    sides = _numbers(given.pop("attention_resolutions", "16"))
    new_order = given.get("use_new_attention_order", False)
    config = {
        "model_channels": given.pop("num_channels"),
        "channel_mult": channel_mult,
        "attention_resolutions": tuple(int(image_size // side) for side in sides),
        "out_channels": 6 if learn_sigma else 3,
        "num_classes": CLASSES if given.pop("class_cond", False) else None,
        "use_new_attention_order": consistency or new_order,
        "attention_dims": 2 if consistency else 1,
        "num_head_channels": given.pop("num_head_channels", -1),
        "use_scale_shift_norm": given.pop("use_scale_shift_norm", False),
    }
    rest = {key: value for key, value in given.items() if key not in NOT_USED}
    known = {"num_res_blocks", "num_heads", "num_heads_upsample", "dropout", "resblock_updown"}
    if rest.keys() - known:
        raise ValueError(f"create_model has no argument {min(rest.keys() - known)!r}")
    return AdmConfig(**config, **rest)


def config_from_state_dict(state: State, **overrides: Any) -> AdmConfig:
    """The configuration that a state dict's names and shapes show, with the caller's overrides.

    Of ADM (Conv1d attention), the consistency models (Conv2d) or latent diffusion.  Not to be seen, and taken as
    published: num_head_channels (64; 32 in latent diffusion) and use_new_attention_order (the consistency models
    alone).  ModelError where the state dict is of another network.
    """
    found = trunk(state)
    projections = {name: weight for name, weight in state.items() if name.endswith(".qkv.weight")}
    dims = 2 if any(weight.ndim == 4 for weight in projections.values()) else 1
    levels = [level for level, i in enumerate(found.first) if any(n.startswith(f"input_blocks.{i}.1.") for n in state)]
    latent = dims == 1 and not found.options["resblock_updown"] and not found.options["use_scale_shift_norm"]
    classes = state.get("label_emb.weight")
    options = found.options | {
        "in_channels": state["input_blocks.0.0.weight"].shape[1] if "input_blocks.0.0.weight" in state else 3,
        "attention_resolutions": tuple(2**level for level in levels),
        "attention_dims": dims,
        "use_new_attention_order": dims == 2,
        "num_head_channels": LATENT_HEAD if latent else PUBLISHED_HEAD,
        "num_classes": None if classes is None else len(classes),
    }
    if "num_heads" in overrides and "num_head_channels" not in overrides:
        options["num_head_channels"] = -1
    return AdmConfig(**with_overrides(options, overrides, AdmConfig))


def _numbers(text: Any) -> tuple[float, ...]:
    """(1, 2, 0.5) from "1,2,0.5", or from a sequence of numbers."""
    parts = text.split(",") if isinstance(text, str) else (text if isinstance(text, list | tuple) else [text])
    numbers = [float(part) for part in parts if str(part).strip()]
    return tuple(int(number) if number.is_integer() else number for number in numbers)
