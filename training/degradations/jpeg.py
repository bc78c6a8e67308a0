"""JPEG's loss without its file: chroma subsampling and quantised DCT of 8x8 blocks, on any device.

Tables K.1 and K.2 of ITU-T T.81 and the IJG rule that scales them by quality.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_LUMA = (
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
    "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"
)
_CHROMA = (
    "17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99 "
    "99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99"
)
_TO_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def jpeg(image: Tensor, quality: Tensor) -> Tensor:
    """image: (N, 1 or 3, H, W) in [0, 1].  quality: (N,) in 1..100.  Returns it decoded.

    Sides that are no multiples of 16 have their last row and column repeated for a while, as encoders do.
    """
    height, width = image.shape[-2:]
    image = F.pad(image, (0, -width % 16, 0, -height % 16), mode="replicate")
    return _decoded(image, quality)[..., :height, :width]


def _decoded(image: Tensor, quality: Tensor) -> Tensor:
    image = (image.clamp(0, 1) * 255).round()
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality).view(-1, 1, 1, 1)
    if image.shape[1] == 1:
        return _quantise(image - 128, _LUMA, scale).add(128).round().clamp(0, 255) / 255
    matrix = image.new_tensor(_TO_YCBCR)
    luma, chroma = torch.einsum("ij,njhw->nihw", matrix, image).split((1, 2), dim=1)
    luma = _quantise(luma - 128, _LUMA, scale) + 128
    chroma = F.avg_pool2d(chroma, 2).flatten(0, 1).unsqueeze(1)
    chroma = _quantise(chroma, _CHROMA, scale.repeat_interleave(2, dim=0))
    chroma = F.interpolate(chroma, scale_factor=2.0, mode="bilinear", align_corners=False)
    decoded = torch.cat([luma, chroma.view(-1, 2, *luma.shape[-2:])], dim=1)
    rgb = torch.einsum("ij,njhw->nihw", torch.linalg.inv(matrix), decoded)
    return rgb.round().clamp(0, 255) / 255


def _quantise(plane: Tensor, table: str, scale: Tensor) -> Tensor:
    """(N, 1, H, W) centred on 0 -> the same after rounding its DCT coefficients to the scaled table."""
    n, _, h, w = plane.shape
    dct = _dct_matrix(plane)
    blocks = plane.reshape(n, h // 8, 8, w // 8, 8).permute(0, 1, 3, 2, 4)
    steps = plane.new_tensor([float(v) for v in table.split()]).view(8, 8)
    steps = ((steps * scale + 50) / 100).floor().clamp(1, 255).unsqueeze(1)
    coefficients = (dct @ blocks @ dct.T / steps).round() * steps
    return (dct.T @ coefficients @ dct).permute(0, 1, 3, 2, 4).reshape(n, 1, h, w)


def _dct_matrix(like: Tensor) -> Tensor:
    k = torch.arange(8, dtype=torch.float64)
    matrix = torch.cos(math.pi / 8 * (k[None, :] + 0.5) * k[:, None]) / 2
    matrix[0] /= math.sqrt(2)
    return matrix.to(like)
