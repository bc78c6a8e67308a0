"""What is frozen: a network and its sampler as one module with tensors in and the restored image out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from restonnx.diffusion import resshift
from restonnx.diffusion.consistency import Preconditioning
from restonnx.diffusion.resshift import Reading
from restonnx.diffusion.schedules import ShiftSchedule
from restonnx.onnx_export.freeze import Port
from restonnx.training.networks.backbone import Backbone
from restonnx.training.networks.denoiser import Denoiser


class Unrolled(nn.Module):
    """ResShift's chain.  image: (N, C, H, W), noise: (N, K, C, H, W), K = `draws` -> (N, C, H, W).

    There is no noise where the schedule's kappa is 0.
    last: the step whose estimate is the result; greater than 0 for a chain cut short.
    """

    range = (0.0, 1.0)

    def __init__(self, network: Backbone, schedule: ShiftSchedule, reading: Reading, *, last: int = 0) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.reading = reading
        self.last = last
        self.steps = schedule.steps - last
        self.draws = self.steps if schedule.kappa else 0
        """One to start the chain and one after every step but the last."""
        noise = Port("noise", "noise", ("N", self.draws, network.channels, "H", "W"))
        self.ports = (Port("image", "image", ("N", network.channels, "H", "W")), *([noise] if self.draws else []))

    def forward(self, image: Tensor, noise: Tensor | None = None) -> Tensor:
        features = self.network.encode(image)
        restored: Tensor = resshift.sample(
            lambda x_t, step: self.network.step(x_t, image, features, step),
            image,
            None if noise is None else noise.transpose(0, 1),
            self.schedule,
            self.reading,
            last=self.last,
        )
        return restored


class DenoisingPrior(nn.Module):
    """One pass of a prior.  image: (N, C, H, W), noise_level: (N, 1, 1, 1), its sigma -> (N, C, H, W), in [-1, 1]."""

    range = (-1.0, 1.0)
    draws, steps, last = 0, 1, 0

    def __init__(self, network: Denoiser, preconditioning: Preconditioning) -> None:
        super().__init__()
        self.network = network
        self.preconditioning = preconditioning
        image = Port("image", "image", ("N", network.channels, "H", "W"))
        self.ports = (image, Port("noise_level", "noise_level", ("N", 1, 1, 1)))

    def forward(self, image: Tensor, noise_level: Tensor) -> Tensor:
        # A level of 0 says that nothing is to be done, and must not become log(0).
        sigma = noise_level.clamp(min=self.preconditioning.sigma_min)
        return self.preconditioning.denoise(self.network, image, sigma)


Graph = Unrolled | DenoisingPrior


def other_feeds(graph: Graph, image: Tensor, noise: Tensor | None = None) -> tuple[Tensor, ...]:
    """What the graph takes besides the image: noise, zeros by default, or a noise level of 1, whose logarithm is 0."""
    if isinstance(graph, Unrolled) and graph.draws == 0:
        return ()
    if graph.draws:
        return (image.new_zeros(len(image), graph.draws, *image.shape[1:]) if noise is None else noise,)
    return (torch.ones(len(image), 1, 1, 1, dtype=image.dtype),)
