"""A consistency model in several steps: each one noises the estimate before it, less and less, and asks again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from restonnx.diffusion import consistency
from restonnx.onnx_export.freeze import Port, to_onnx
from restonnx.onnx_export.pieces import Builder
from restonnx.onnx_export.recorder import Noted, Recorder

if TYPE_CHECKING:
    import onnx

    from restonnx.onnx_export.official_graphs import ConsistencyDenoiser
    from restonnx.onnx_export.unroll import DenoisingPrior
    from restonnx.training.networks.denoiser import Denoiser
    from restonnx.training.networks.official.adm_unet import AdmUNet


class ConsistencyChain(nn.Module):
    """Multistep consistency sampling (Song et al. 2023, arXiv 2303.01469, algorithm 1) from any noise level.

    image (N, C, H, W), noise (N, K - 1, C, H, W), noise_level (N, 1, 1, 1) -> (N, C, H, W), K = `steps` of 2 or more.
    image = clean + noise_level * noise, in [-1, 1] where it is clean; pure noise of the greatest level gives a new one.

    prior:  the model, whose one pass each step is.
    shares: (K,), rising from 0: how far from the image's noise level down to the least one each step begins, as
            `diffusion.consistency.falling` takes them.
    """

    range = (-1.0, 1.0)
    last, scale = 0, 1

    def __init__(self, prior: DenoisingPrior | ConsistencyDenoiser, shares: Sequence[float]) -> None:
        super().__init__()
        if not prior.preconditioning.boundary:
            raise ValueError("several steps are of consistency models alone")
        if len(shares) < 2:
            raise ValueError(f"a chain has two steps or more, not {len(shares)}")
        self.prior, self.shares = prior, tuple(shares)
        self.steps, self.draws = len(shares), len(shares) - 1
        image, noise_level = prior.ports
        noise = Port("noise", "noise", ("N", self.draws, *image.shape[1:]))
        self.ports = (image, noise, noise_level)

    @property
    def network(self) -> Denoiser | AdmUNet:
        return self.prior.network

    @property
    def multiple(self) -> int:
        """Height and width are multiples of this."""
        return self.prior.network.multiple

    def forward(self, image: Tensor, noise: Tensor, noise_level: Tensor) -> Tensor:
        bounds = self.prior.preconditioning
        sigma = noise_level.clamp(bounds.sigma_min, bounds.sigma_max)
        levels = consistency.falling(sigma, self.shares, sigma_min=bounds.sigma_min)
        restored: Tensor = consistency.sample(self.prior, image, levels, noise.unbind(1), sigma_min=bounds.sigma_min)
        return restored

    def to_onnx(self, unit: int) -> onnx.ModelProto:
        """The graph: a loop around one pass, which is traced once, with sides that are multiples of `unit`."""
        bounds, ports = self.prior.preconditioning, self.prior.ports
        traced = to_onnx(self.prior, ports, unit=unit, multiple=self.multiple)
        recorder = Recorder(Builder())
        image, noise, noise_level = (recorder.value(port.name, len(port.shape)) for port in self.ports)
        sigma = noise_level.clip(bounds.sigma_min, bounds.sigma_max)
        *falling, _ = consistency.falling(sigma, self.shares, sigma_min=bounds.sigma_min)
        levels = image.__array_namespace__().stack(falling, 0)

        def estimate(x: Noted, level: Noted) -> Noted:
            values = dict(zip((port.name for port in ports), (x.name, level.name), strict=True))
            return recorder.value(recorder.at.call(traced, values)[0], 4)

        def one_step(number: Noted, clean: Noted) -> tuple[Noted]:
            level = levels.index_select(0, number + 1)
            x = consistency.noised_again(clean, level, noise.index_select(1, number), bounds.sigma_min)
            return (estimate(x, level),)

        (restored,) = recorder.loop(self.draws, (estimate(image, sigma),), one_step)
        return recorder.at.model(self.ports, restored.name, int(ports[0].shape[1]))
