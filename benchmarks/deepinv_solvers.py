"""DPS, DDRM and DiffPIR of the library deepinv (https://deepinv.github.io), with our prior as their denoiser.

    pip install --no-deps deepinv torchvision einops h5py natsort torchmetrics lightning-utilities tqdm

(the torchvision that belongs to the installed torch; --no-deps keeps pip from replacing torch). The solvers and their
settings are deepinv's own. deepinv works on images in [0, 1], our prior on [-1, 1]: `UnitRange` converts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from restonnx.diffusion.blurs import CircularBlur
from restonnx.diffusion.operators import Identity, Mask
from restonnx.diffusion.resizing import Downsample

Solver = Callable[[Tensor, Any], Tensor]
SEED = 0


def import_deepinv() -> Any:
    """deepinv, also where torchvision's compiled operators do not fit the installed torch (a CPU build, mostly).

    deepinv imports torchvision for its data sets; torchvision wants the names of its operators to exist. Those are
    defined here, without any code behind them, if the import fails without.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        global _operators
        _operators = torch.library.Library("torchvision", "DEF")
        pairs = [(name, f"_{name}_backward") for name in ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool")]
        for name in ["nms", "qnms", "qroi_align", "deform_conv2d", "_deform_conv2d_backward", *sum(pairs, ())]:
            _operators.define(f"{name}(Tensor x) -> Tensor")
    import deepinv

    return deepinv


class UnitRange(nn.Module):
    """(x in [0, 1], sigma in its units) -> the clean image, as deepinv's solvers call their denoisers."""

    def __init__(self, denoise: Callable[[Tensor, Any], Tensor], sigmas: tuple[float, float]) -> None:
        """denoise: on [-1, 1].  sigmas: the range of noise levels that it knows; others are clipped to it."""
        super().__init__()
        self.denoise, self.sigmas = denoise, sigmas

    def forward(self, x: Tensor, sigma: Any, *_: Any, **__: Any) -> Tensor:
        level = torch.as_tensor(sigma, dtype=torch.float32).flatten()[:1]
        return self.denoise(2 * x.to(torch.float32) - 1, (2 * level).clamp(*self.sigmas)) / 2 + 0.5


def physics(operator: Any, size: tuple[int, int, int], sigma: float) -> Any:
    """One of our operators as deepinv's: with a singular value decomposition, which DDRM needs and DiffPIR profits of.

    size: (C, H, W) of the image.  sigma: of the measurement's noise, for images in [0, 1].
    """
    deepinv = import_deepinv()
    noise = deepinv.physics.GaussianNoise(sigma)
    if isinstance(operator, Identity):
        return deepinv.physics.Denoising(noise)
    if isinstance(operator, Mask):
        mask = torch.from_numpy(np.broadcast_to(operator.mask, size).copy())
        return deepinv.physics.Inpainting(size, mask=mask, noise_model=noise)
    if isinstance(operator, CircularBlur):
        # Ours is a cross-correlation, theirs a convolution.
        kernel = torch.from_numpy(operator.kernel[::-1, ::-1].copy())[None, None]
        return deepinv.physics.BlurFFT(size, filter=kernel, noise_model=noise)
    if isinstance(operator, Downsample):
        return _downsampling(operator, size, noise)
    raise ValueError(f"deepinv has no counterpart of a {type(operator).__name__}")


def _downsampling(operator: Downsample, size: tuple[int, int, int], noise: Any) -> Any:
    """deepinv's own MATLAB down-sampling has no decomposition; ours is one matrix along rows and one along columns."""
    rows, cols = (_decomposed(operator, side) for side in size[1:])
    count = tuple(side // operator.factor for side in size[1:])

    def both(left: Tensor, x: Tensor, right: Tensor) -> Tensor:
        return left @ x @ right.transpose(-1, -2)

    def padded(u: Tensor) -> Tensor:
        return nn.functional.pad(u, (0, size[2] - count[1], 0, size[1] - count[0]))

    return import_deepinv().physics.DecomposablePhysics(
        U=lambda modes: both(rows[0], modes[..., : count[0], : count[1]], cols[0]),
        U_adjoint=lambda y: padded(both(rows[0].T, y, cols[0].T)),
        V=lambda modes: both(rows[2], modes, cols[2]),
        V_adjoint=lambda x: both(rows[2].T, x, cols[2].T),
        mask=torch.outer(rows[1], cols[1]).expand(1, *size).clone(),
        noise_model=noise,
    )


def _decomposed(operator: Downsample, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """U, the singular values padded with zeros, and V of the down-sampling along one axis."""
    pixels = np.eye(side).reshape(1, side, side, 1).repeat(operator.factor, axis=3)  # constant along the last axis
    matrix = Downsample(operator.factor).forward(pixels)[0, :, :, 0].T
    u, s, vt = np.linalg.svd(matrix)
    values = np.pad(s, (0, side - len(s)))
    return tuple(torch.from_numpy(part.astype(np.float32)) for part in (u, values, vt.T))  # type: ignore[return-value]


def dps(denoiser: UnitRange, steps: int, *, weight: float = 600.0, guidance: str = "norm") -> Solver:
    """Chung et al. 2023 (arXiv 2209.14687): every step differentiates through the network.

    guidance, weight: deepinv's defaults are the norm with weight 1, for which its documentation says that hundreds are
    typical; a weight of 200 equals the published step of 1 in the middle of the schedule. The best of what was tried on
    an image of the choice (docs/notes/inverse-problems.md).
    """
    model = import_deepinv().sampling.DPS(
        denoiser,
        num_steps=steps,
        weight=weight,
        guidance=guidance,
        rng=torch.Generator().manual_seed(SEED),
    )
    return lambda y, operator: model(y, operator, seed=SEED).to(torch.float32)


def ddrm(denoiser: UnitRange, steps: int) -> Solver:
    """Kawar et al. 2022 (arXiv 2201.11793), noise levels evenly spaced from 1 to 0, eta 0.85, etab 1."""
    model = import_deepinv().sampling.DDRM(denoiser, sigmas=np.linspace(1, 0, steps))
    return lambda y, operator: model(y, operator, seed=SEED + 1)  # a seed of 0 counts as none


def diffpir(denoiser: UnitRange, steps: int, sigma: float, *, zeta: float = 1.0, weight: float = 7.0) -> Solver:
    """Zhu et al. 2023 (arXiv 2305.08995); sigma: of the measurement's noise, for images in [0, 1].

    zeta: 1 is the default that deepinv documents; the default of its code, 0.1, was worse on the images of the choice.
    """
    deepinv = import_deepinv()
    model = deepinv.sampling.DiffPIR(
        denoiser, deepinv.optim.data_fidelity.L2(), sigma=sigma, max_iter=steps, zeta=zeta, lambda_=weight
    )
    return lambda y, operator: model(y, operator, seed=SEED + 1)
