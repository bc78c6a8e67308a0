"""The VQ autoencoder of latent diffusion (Rombach et al. 2022, arXiv 2112.10752), in which ResShift and DCDP work too.

Images are (N, 3, H, W) in [-1, 1]; latents (N, embed_dim, H / factor, W / factor).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from restonnx.errors import ModelError
from restonnx.training.networks.official.recognition import State, count, size, with_overrides


@dataclass(frozen=True, kw_only=True)
class VQConfig:
    """The published configuration, its `ddconfig` laid flat; the defaults are those of VQ-f4."""

    embed_dim: int = 3
    n_embed: int = 8192
    in_channels: int = 3
    out_ch: int = 3
    z_channels: int = 3
    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 4)
    num_res_blocks: tuple[int, ...] | int = 2
    """Blocks of each level in the encoder (the decoder has one more), or one number for all levels."""
    resolution: int = 256
    """Nominal side of the image, which `attn_resolutions` refer to."""
    attn_resolutions: tuple[int, ...] = ()
    resamp_with_conv: bool = True
    dropout: float = 0.0
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros"
    """Of the 3x3 convolutions that pad, as torch names it."""

    def __post_init__(self) -> None:
        if isinstance(self.num_res_blocks, int):
            object.__setattr__(self, "num_res_blocks", (self.num_res_blocks,) * len(self.ch_mult))
        if not self.ch_mult or len(self.blocks) != len(self.ch_mult):
            raise ValueError(f"num_res_blocks has {len(self.blocks)} levels but ch_mult has {len(self.ch_mult)}")
        if any(width <= 0 or width % 32 for width in (self.ch, *self.widths)):
            raise ValueError(f"the widths {self.widths} must be multiples of 32")

    @property
    def blocks(self) -> tuple[int, ...]:
        return (self.num_res_blocks,) if isinstance(self.num_res_blocks, int) else self.num_res_blocks

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(mult * self.ch for mult in self.ch_mult)

    @property
    def factor(self) -> int:
        """Side of the image over side of the latent."""
        return 2 ** (len(self.ch_mult) - 1)


class Quantized(NamedTuple):
    """A latent moved to the nearest rows of the codebook."""

    values: Tensor
    """(N, embed_dim, H, W); the gradient passes straight through to the latent."""
    indices: Tensor
    """(N H W,) row by row."""


class ResnetBlock(nn.Module):
    def __init__(self, channels: int, out_channels: int, config: VQConfig) -> None:
        super().__init__()
        self.norm1 = _norm(channels)
        self.conv1 = _conv(channels, out_channels, config)
        self.norm2 = _norm(out_channels)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = _conv(out_channels, out_channels, config)
        if channels != out_channels:
            self.nin_shortcut = nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(self.dropout(F.silu(self.norm2(hidden))))
        return (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x) + hidden


class AttentionBlock(nn.Module):
    """One head over all pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(x)
        q, k, v = (part(hidden).flatten(2) for part in (self.q, self.k, self.v))  # each (N, C, pixels)
        scores = ((q * q.shape[1] ** -0.5).transpose(1, 2) @ k).softmax(dim=-1)
        return x + self.proj_out((v @ scores.transpose(1, 2)).reshape(x.shape))


class Resample(nn.Module):
    """Twice the side by repetition, or half of it; with a convolution, or without."""

    def __init__(self, channels: int, config: VQConfig, *, up: bool) -> None:
        super().__init__()
        self.up = up
        if config.resamp_with_conv:
            self.conv = _conv(channels, channels, config) if up else nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        learned = hasattr(self, "conv")
        if self.up:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            return self.conv(x) if learned else x
        return self.conv(F.pad(x, (0, 1, 0, 1))) if learned else F.avg_pool2d(x, 2)


class Level(nn.Module):
    """The blocks of one resolution, then the way to the next; the decoder's has a block more."""

    def __init__(self, channels: int, level: int, config: VQConfig, *, decoder: bool = False) -> None:
        super().__init__()
        wide, count = config.widths[level], config.blocks[level] + decoder
        attends = count if config.resolution // 2**level in config.attn_resolutions else 0
        self.block = nn.ModuleList(ResnetBlock(wide if i else channels, wide, config) for i in range(count))
        self.attn = nn.ModuleList(AttentionBlock(wide) for _ in range(attends))
        self.upsample = Resample(wide, config, up=True) if decoder and level else None
        last = level == len(config.widths) - 1
        self.downsample = None if decoder or last else Resample(wide, config, up=False)

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.block):
            x = block(x)
            if i < len(self.attn):
                x = self.attn[i](x)
        resample = self.upsample or self.downsample
        return x if resample is None else resample(x)


class Middle(nn.Module):
    def __init__(self, channels: int, config: VQConfig) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels, config)
        self.attn_1 = AttentionBlock(channels)
        self.block_2 = ResnetBlock(channels, channels, config)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        self.conv_in = _conv(config.in_channels, config.ch, config)
        inputs = (config.ch, *config.widths)
        self.down = nn.ModuleList(Level(inputs[level], level, config) for level in range(len(config.widths)))
        width = config.widths[-1]
        self.mid = Middle(width, config)
        self.norm_out = _norm(width)
        self.conv_out = _conv(width, config.z_channels, config)

    def forward(self, image: Tensor) -> Tensor:
        x = self.conv_in(image)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        width = config.widths[-1]
        self.conv_in = _conv(config.z_channels, width, config)
        self.mid = Middle(width, config)
        inputs = (*config.widths[1:], width)
        # Numbered by resolution, as in the encoder, and run from the last to the first.
        levels = range(len(config.widths))
        self.up = nn.ModuleList(Level(inputs[level], level, config, decoder=True) for level in levels)
        self.norm_out = _norm(config.widths[0])
        self.conv_out = _conv(config.widths[0], config.out_ch, config)

    def forward(self, latent: Tensor) -> Tensor:
        x = self.mid(self.conv_in(latent))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Quantizer(nn.Module):
    """The codebook."""

    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.n_embed, config.embed_dim)
        nn.init.uniform_(self.embedding.weight, -1 / config.n_embed, 1 / config.n_embed)

    def forward(self, latent: Tensor) -> Quantized:
        codes = self.embedding.weight
        points = latent.permute(0, 2, 3, 1)
        distance = (codes**2).sum(dim=1) - 2 * points @ codes.T  # but for |z|^2, which is the same for all codes
        indices = distance.argmin(dim=-1)
        values = self.entry(indices)
        return Quantized(latent + (values - latent).detach(), indices.flatten())

    def entry(self, indices: Tensor) -> Tensor:
        """The rows of the codebook at (N, H, W): (N, embed_dim, H, W)."""
        return self.embedding(indices).permute(0, 3, 1, 2)


class VQAutoencoder(nn.Module):
    """`encode` gives the continuous latent; `decode` quantises it first."""

    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        self.config, self.factor = config, config.factor
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quantize = Quantizer(config)
        self.quant_conv = nn.Conv2d(config.z_channels, config.embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(config.embed_dim, config.z_channels, 1)

    def encode(self, image: Tensor) -> Tensor:
        """(N, in_channels, H, W), H and W multiples of `factor` -> (N, embed_dim, H / factor, W / factor)."""
        return self.quant_conv(self.encoder(image))

    def decode(self, latent: Tensor, *, force_not_quantize: bool = False) -> Tensor:
        """The image of a latent, not clamped."""
        if not force_not_quantize:
            latent = self.quantize(latent).values
        return self.decoder(self.post_quant_conv(latent))

    def forward(self, image: Tensor, *, force_not_quantize: bool = False) -> Tensor:
        return self.decode(self.encode(image), force_not_quantize=force_not_quantize)


def quantization_loss(latent: Tensor, quantized: Tensor, commitment: float = 0.25) -> Tensor:
    """Mean square that moves the latents to the codes, plus `commitment` times the one that moves the codes.

    quantized: rows of the codebook, as `Quantizer.entry` gives them.  Latents and codes stand in the order in which
    the published code has them, which is the reverse of the paper's.
    """
    return F.mse_loss(latent, quantized.detach()) + commitment * F.mse_loss(quantized, latent.detach())


def build(config: VQConfig) -> VQAutoencoder:
    return VQAutoencoder(config)


def from_official(arguments: Mapping[str, Any]) -> VQConfig:
    """The configuration that the published constructor's arguments (ddconfig, n_embed, embed_dim) mean.

    ValueError for double_z, which belongs to another autoencoder, and for options that it does not have.
    """
    given = {key: value for key, value in arguments.items() if key != "ddconfig"} | dict(arguments.get("ddconfig", {}))
    if given.pop("double_z", False):
        raise ValueError("double_z belongs to the autoencoder with a Gaussian latent, not to VQ")
    unknown = given.keys() - {field.name for field in fields(VQConfig)}
    if unknown:
        raise ValueError(f"the VQ autoencoder has no option {min(unknown)!r}")
    options: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    return VQConfig(**options)


def config_from_state_dict(state: State, **overrides: Any) -> VQConfig:
    """The configuration that a state dict's names and shapes show, with the caller's overrides.

    Not to be seen are padding_mode, dropout and the nominal resolution (256).  ModelError where the state dict is of
    another network.
    """
    ch = size(state, "encoder.conv_in.weight", 0)
    levels = count(state, r"encoder\.down\.(\d+)\.")
    if not levels:
        raise ModelError("there is no encoder.down.0 among the weights: this is no VQ autoencoder")
    resolution = int(overrides.get("resolution", 256))
    down = [f"encoder.down.{level}" for level in range(levels)]
    attends = [any(name.startswith(f"{part}.attn.") for name in state) for part in down]
    options = {
        "embed_dim": size(state, "quantize.embedding.weight", 1),
        "n_embed": size(state, "quantize.embedding.weight", 0),
        "in_channels": size(state, "encoder.conv_in.weight", 1),
        "out_ch": size(state, "decoder.conv_out.weight", 0),
        "z_channels": size(state, "encoder.conv_out.weight", 0),
        "ch": ch,
        "ch_mult": tuple(size(state, f"{part}.block.0.conv1.weight", 0) // ch for part in down),
        "num_res_blocks": tuple(count(state, rf"{part}\.block\.(\d+)\.") for part in down),
        "resolution": resolution,
        "attn_resolutions": tuple(resolution // 2**level for level in range(levels) if attends[level]),
        "resamp_with_conv": levels == 1 or any(".downsample.conv." in name for name in state),
    }
    return VQConfig(**with_overrides(options, overrides, VQConfig))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


def _conv(channels: int, out_channels: int, config: VQConfig) -> nn.Conv2d:
    return nn.Conv2d(channels, out_channels, 3, padding=1, padding_mode=config.padding_mode)
