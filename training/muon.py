"""Muon: orthogonalised momentum for the convolutions, Adam for everything else.

Few-step samplers are trained here for minutes rather than days, so the optimiser decides the result: see
docs/notes/training.md for what it gained over AdamW.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic Newton-Schulz iteration (Jordan et al. 2024, "Muon"): steep at 0, so that five rounds bring every
singular value near 1 (0.7 to 1.2), which is enough."""
ROUNDS = 5


class Muon(torch.optim.Optimizer):
    """Jordan et al. 2024, with the scale of Liu et al. 2025 (arXiv 2502.16982).

    A convolution's weight (out, in, h, w) counts as the matrix (out, in h w).  Its step has the size that Adam's would
    have, so that one learning rate serves both.  torch.optim.Muon takes matrices only and computes in bf16, which
    processors without such instructions do hundreds of times slower.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": weight_decay, "eps": eps}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        if closure is not None:
            raise ValueError("a step here follows a backward pass and takes no closure")
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                update = self._orthogonal if parameter.ndim == 4 else self._adam
                parameter.add_(update(parameter, group), alpha=-group["lr"])

    def _orthogonal(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
        ahead = parameter.grad.lerp(momentum, group["momentum"]).flatten(1)  # type: ignore[union-attr]
        return 0.2 * math.sqrt(max(ahead.shape)) * orthogonalised(ahead).reshape(parameter.shape)

    def _adam(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """Kingma and Ba 2015."""
        state, (slow, slower) = self.state[parameter], group["betas"]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        mean = state["mean"].lerp_(parameter.grad, 1 - slow)
        square = state["square"].lerp_(parameter.grad.square(), 1 - slower)  # type: ignore[union-attr]
        step = float(state["step"])
        deviation = (square / (1 - slower**step)).sqrt() + group["eps"]
        return mean / (1 - slow**step) / deviation


def orthogonalised(matrix: Tensor) -> Tensor:
    """The matrix with its singular values brought near 1, its singular vectors kept."""
    a, b, c = COEFFICIENTS
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(ROUNDS):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide if matrix.shape[0] <= matrix.shape[1] else wide.T
