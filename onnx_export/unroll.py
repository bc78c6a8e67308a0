"""What is frozen: a network and its sampler as one module with tensors in and the restored image out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from restonnx.diffusion import rddm, rddm_paths, resshift
from restonnx.diffusion.consistency import Preconditioning
from restonnx.diffusion.rddm import Reading as RddmReading
from restonnx.diffusion.rddm_schedules import ResidualSchedule
from restonnx.diffusion.resshift import Reading
from restonnx.diffusion.schedules import ShiftSchedule
from restonnx.onnx_export.consistency_graphs import ConsistencyChain
from restonnx.onnx_export.freeze import Port
from restonnx.training.networks.backbone import Backbone
from restonnx.training.networks.denoiser import Denoiser
from restonnx.training.networks.residual_backbone import ResidualBackbone
from restonnx.training.networks.values import back


class Unrolled(nn.Module):
    """ResShift's chain.  image: (N, C, H, W), noise: (N, K, C, H', W'), K = `draws` -> (N, C, H', W').

    The result is `scale` times as large as the image. There is no noise where the schedule's kappa is 0; after it comes
    the reference, (N, C, H', W'), or the mask, (N, 1, H', W'), for a network that takes one.
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
        self.scale = network.scale
        of_result = ("H", "W") if self.scale == 1 else (f"H*{self.scale}", f"W*{self.scale}")
        noise = Port("noise", "noise", ("N", self.draws, network.channels, *of_result))
        self.ports = (
            Port("image", "image", ("N", network.channels, "H", "W")),
            *([noise] if self.draws else []),
            *_guides(network, *of_result),
        )

    def forward(self, image: Tensor, *others: Tensor) -> Tensor:
        noise, further = (others[0], others[1:]) if self.draws else (None, others)
        features = self.network.encode(image, *further)
        start = self.network.enlarged(image)
        restored: Tensor = resshift.sample(
            lambda x_t, step: self.network.step(x_t, start, features, step),
            start,
            None if noise is None else noise.transpose(0, 1),
            self.schedule,
            self.reading,
            last=self.last,
        )
        return restored


class ResidualChain(nn.Module):
    """RDDM's chain.  image: (N, C, H, W), noise: (N, K, C, H, W), K = `draws` -> (N, C, H, W), all in [-1, 1].

    There is no noise where the schedule has none; after it comes the mask, (N, 1, H, W) in [0, 1], for a network that
    takes one.
    steps: of the sampler, evenly spaced in time.  order: see `rddm_paths`; one other than together takes twice the
    calls of the network.  One that is not conditioned starts from noise alone: of the image only the size counts.
    """

    range = (-1.0, 1.0)
    last, scale = 0, 1

    def __init__(
        self,
        network: ResidualBackbone,
        schedule: ResidualSchedule,
        reading: RddmReading,
        *,
        steps: int,
        eta: float = 0.0,
        order: str = "together",
    ) -> None:
        super().__init__()
        self.times = rddm.time_grid(schedule.steps, steps)
        self.network, self.schedule, self.reading = network, schedule, reading
        self.steps, self.eta, self.order = steps, eta, order
        self.calls = steps if order == "together" else 2 * steps
        """Of the network."""
        self.needed = rddm.draws(steps, eta)
        self.draws = self.needed if schedule.start_std or schedule.beta2_bar.any() else 0
        noise = Port("noise", "noise", ("N", self.draws, network.channels, "H", "W"))
        image = Port("image", "image", ("N", network.channels, "H", "W"))
        self.ports = (image, *([noise] if self.draws else []), *_guides(network, "H", "W"))

    def forward(self, image: Tensor, *others: Tensor) -> Tensor:
        noise, further = (others[0], others[1:]) if self.draws else (None, others)
        drawn = image.new_zeros((self.needed, *image.shape)) if noise is None else noise.transpose(0, 1)
        image = self.network.seen(image, *further)
        degraded = image if self.network.conditioned else None
        given = (self.network.predictor(degraded, *further), degraded, drawn, self.schedule, self.reading)
        restored: Tensor
        if self.order == "together":
            restored = rddm.sample(*given, times=self.times, eta=self.eta)
        else:
            restored = rddm_paths.sample_decoupled(*given, times=self.times, eta=self.eta, order=self.order)
        return back(restored, self.network.values)


class DenoisingPrior(nn.Module):
    """One pass of a prior.  image: (N, C, H, W), noise_level: (N, 1, 1, 1), its sigma -> (N, C, H, W), in [-1, 1]."""

    range = (-1.0, 1.0)
    draws, steps, last, scale = 0, 1, 0, 1

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


Graph = Unrolled | ResidualChain | DenoisingPrior | ConsistencyChain


def _guides(network: Backbone | ResidualBackbone, height: str, width: str) -> list[Port]:
    """What the network sees besides, if anything; height, width: of the result."""
    guide = network.guide
    return [Port(guide, guide, ("N", 1 if guide == "mask" else network.channels, height, width))] if guide else []


def other_feeds(
    graph: Graph, image: Tensor, noise: Tensor | None = None, guide: Tensor | None = None
) -> tuple[Tensor, ...]:
    """What the graph takes besides the image, where it is not given: noise of zeros, the image itself for a reference,
    a mask that says to restore everything, a noise level of 1, whose logarithm is 0."""
    level = torch.ones(len(image), 1, 1, 1, dtype=image.dtype)
    if isinstance(graph, DenoisingPrior):
        return (level,)
    large = image.repeat_interleave(graph.scale, dim=-2).repeat_interleave(graph.scale, dim=-1)
    feeds: list[Tensor] = []
    if graph.draws:
        feeds.append(large.new_zeros(len(large), graph.draws, *large.shape[1:]) if noise is None else noise)
    if isinstance(graph, ConsistencyChain):
        return (*feeds, level)
    if graph.network.guide:
        stand_in = torch.zeros_like(large[:, :1]) if graph.network.guide == "mask" else large
        feeds.append(stand_in if guide is None else guide)
    return tuple(feeds)
