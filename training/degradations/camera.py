"""The noise of finished photographs: what a camera's own pipeline makes of that of its sensor.

The photograph is led back to the sensor's linear colours and exposed, and its light is read on a Bayer mosaic (see
`sensor`). The noise alone then goes the camera's way: the colours that were not measured are interpolated, what
noise reduction and resizing do is stood for by a blur, and balance, colour matrix and tone give it the image's values
(Brooks et al. 2019, arXiv 1811.11127; that denoisers need this: Guo et al. 2019, arXiv 1807.04686). So it comes out
spread over neighbouring pixels, mixed between colours, and strongest in the shadows. The photograph itself is not
interpolated or blurred: it is a camera's result already.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from restonnx.training.degradations.draws import log_uniform, normal, uniform
from restonnx.training.degradations.jpeg import jpeg
from restonnx.training.degradations.light import to_display, to_light
from restonnx.training.degradations.linear import interpolated, mask
from restonnx.training.degradations.sensor import camera_matrices

SHOT = 1e-4, 1.2e-2
"""a of the variance a x + b, on a log scale."""
EXPOSURE = 0.05, 1.0
"""Of the sensor's range, what white takes; on a log scale."""
GAIN = 1.2, 2.6
"""Of white balance, for red and for blue."""
BLUR = 0.0, 1.0
"""Standard deviation in pixels, of the noise alone."""
REACH = 3
JPEG_SHARE, JPEG_QUALITY = 0.5, (75.0, 98.0)


def photographed(clean: Tensor, generator: Generator) -> Tensor:
    """Photographs (N, 3, H, W) in display values -> with noise, as files of 8 bit."""
    light = to_light(clean)
    camera = camera_matrices(clean, generator)
    red, blue = uniform(clean, generator, *GAIN), uniform(clean, generator, *GAIN)
    gains = torch.cat([red, torch.ones_like(red), blue], dim=1) / log_uniform(clean, generator, *EXPOSURE)
    exposed = (_mixed(light, camera) / gains).clamp(min=0)
    a = log_uniform(clean, generator, *SHOT)
    b = (2.18 * a.log() + 1.2).exp()  # Brooks et al., of phones
    noisy = exposed + (a * exposed + b).sqrt() * normal(clean, generator)
    measured, guided = _bayer(clean, generator), uniform(clean, generator)
    noise = interpolated(noisy, measured, guided) - interpolated(exposed, measured, guided)
    noise = _blurred(noise, uniform(clean, generator, *BLUR))
    shown = to_display(light + _mixed(noise * gains, torch.linalg.inv(camera)))
    eight_bit = (shown.clamp(0, 1) * 255).round() / 255
    compressed = uniform(clean, generator) < JPEG_SHARE
    quality = uniform(clean, generator, *JPEG_QUALITY).flatten()
    return jpeg(eight_bit, quality).where(compressed, eight_bit)


def _mixed(image: Tensor, matrices: Tensor) -> Tensor:
    return torch.einsum("nij,njhw->nihw", matrices, image)


def _bayer(like: Tensor, generator: Generator) -> Tensor:
    """Which colours are measured where: (N, 3, H, W) of 0 and 1, each sample's mosaic at a phase of its own."""
    pattern = mask(("RG", "GB"), like.device)
    phases = torch.randint(0, 2, (len(like), 2), device=like.device, generator=generator).tolist()
    turned = torch.stack([pattern.roll(phase, (1, 2)) for phase in phases])
    rows, cols = like.shape[2:]
    return turned.repeat(1, 1, -(-rows // 2), -(-cols // 2))[..., :rows, :cols]


def _blurred(image: Tensor, sigma: Tensor) -> Tensor:
    """Each sample by a Gaussian of its own sigma (N, 1, 1, 1)."""
    n, channels = image.shape[:2]
    at = torch.arange(-REACH, REACH + 1, device=image.device)
    line = (-0.5 * (at / sigma.reshape(n, 1).clamp(min=1e-3)).square()).exp()
    line = (line / line.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)[:, None]
    planes = F.pad(image, (REACH,) * 4, mode="reflect").flatten(0, 1)[None]
    planes = F.conv2d(planes, line[:, :, None, :], groups=n * channels)
    return F.conv2d(planes, line[:, :, :, None], groups=n * channels).view_as(image)
