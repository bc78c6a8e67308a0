"""ResShift's objectives: forward-noised, and data-consistent with the gradient through the chain or not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from restonnx.diffusion import resshift
from restonnx.diffusion.resshift import Reading
from restonnx.diffusion.schedules import ShiftSchedule
from restonnx.training.networks.backbone import Backbone
from restonnx.training.objectives.config import DataConsistent, ForwardNoised

LEAST_SQUARE = 1e-7
"""Added to a mean square before its logarithm: of images in [0, 1] some 70 dB."""


class ResShiftObjective(nn.Module):
    """(clean, degraded, noise, draws, progress) -> loss: one call per backward pass, so that DDP can wrap it.

    clean: (N, C, H, W).  degraded: the same, or smaller by the network's scale.
    noise: (T, N, C, H, W) standard normal, noise[0] starts the chain.
    draws: (N + 2,) uniform in [0, 1), what is decided at random: a t per sample, and a t and a coin per batch.
    progress: the share of the training that is done, in [0, 1].
    guide: what the network sees besides, see `networks.backbone.Guide`.
    """

    def __init__(
        self,
        network: Backbone,
        schedule: ShiftSchedule,
        config: ForwardNoised | DataConsistent,
        reading: Reading,
    ) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.config = config
        self.reading = reading

    def forward(
        self,
        clean: Tensor,
        degraded: Tensor,
        noise: Tensor,
        draws: Tensor,
        progress: float,
        guide: Tensor | None = None,
    ) -> Tensor:
        config = self.config
        features = self.network.encode(degraded, guide)
        with torch.autocast(degraded.device.type, enabled=False):  # the start of every chain, kept exact
            degraded = self.network.enlarged(degraded)
        if isinstance(config, ForwardNoised) or float(draws[-1]) < config.forward_share:
            return self._forward_noised(clean, degraded, noise[0], features, draws[:-2])
        last = self.schedule.steps - 1
        if progress < config.direct_share:
            return self._chain(clean, degraded, noise, features, stop=last)
        if config.loss_on == "random":
            return self._chain(clean, degraded, noise, features, stop=int(draws[-2] * self.schedule.steps))
        return self._chain(clean, degraded, noise, features, stop=0, every=config.loss_on == "every")

    def _forward_noised(
        self, clean: Tensor, degraded: Tensor, noise: Tensor, features: Tensor, draws: Tensor
    ) -> Tensor:
        t = (draws * self.schedule.steps).long()
        x_t = resshift.forward(clean, degraded, noise, self.schedule, t)
        scaled = resshift.scale_input(x_t, self.schedule, t, self.reading.normalize)
        output = self.network.step(scaled, degraded, features, resshift.at_index(self.schedule, t))
        kind = self.reading.parameterisation
        wanted = resshift.target(clean, degraded, noise, self.schedule, t, kind)
        if self.config.loss == "l2":
            weighted = isinstance(self.config, ForwardNoised) and self.config.weighted
            return resshift.squared_error(output, wanted, self.schedule, t, kind, weighted=weighted).mean()
        return distance(output, wanted, self.config.loss)

    def _chain(
        self,
        clean: Tensor,
        degraded: Tensor,
        noise: Tensor,
        features: Tensor,
        *,
        stop: int,
        every: bool = False,
    ) -> Tensor:
        """Run the sampler down to step `stop`; compare its estimate, or the mean of all, with the clean image."""
        assert isinstance(self.config, DataConsistent)
        detached = self.config.gradient == "detached"
        losses: list[Tensor] = []

        def predict(x_t: Tensor, step: int) -> Tensor:
            learns = not detached or every or step == int(self.schedule.timesteps[stop])
            with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
                return self.network.step(x_t, degraded, features, step)

        def compare(t: int, x_t: Tensor, estimate: Tensor) -> None:
            if every or t == stop:
                losses.append(distance(estimate, clean, self.config.loss))

        between = Tensor.detach if detached else None
        resshift.sample(
            predict,
            degraded,
            noise,
            self.schedule,
            self.reading,
            last=stop,
            between=between,
            on_step=compare,
        )
        return torch.stack(losses).mean()


def distance(estimate: Tensor, wanted: Tensor, loss: str) -> Tensor:
    """The mean over everything of |d|, d^2 or sqrt(d^2 + 0.001^2), d = estimate - wanted; for psnr, over the samples of
    log(mean d^2), which is -0.23 times their PSNR in dB but for a constant."""
    difference = estimate - wanted
    if loss == "l1":
        return difference.abs().mean()
    if loss == "l2":
        return difference.square().mean()
    if loss == "psnr":
        return (difference.square().flatten(1).mean(dim=1) + LEAST_SQUARE).log().mean()
    return (difference.square() + 1e-6).sqrt().mean()
