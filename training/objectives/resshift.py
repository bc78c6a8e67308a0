"""ResShift's objectives: forward-noised, and data-consistent with the gradient through the chain or not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from restonnx.diffusion import resshift
from restonnx.diffusion.resshift import Reading
from restonnx.diffusion.schedules import ShiftSchedule
from restonnx.training.networks.backbone import Backbone
from restonnx.training.objectives.config import DataConsistent, ForwardNoised
from restonnx.training.objectives.scores import distance, energy_score


class ResShiftObjective(nn.Module):
    """(clean, degraded, noise, draws, progress) -> loss: one call per backward pass, so that DDP can wrap it.

    clean: (N, C, H, W).  degraded: the same, or smaller by the network's scale.
    noise: (T, N, C, H, W) standard normal, noise[0] starts the chain; (2 T, N, C, H, W) for two with loss = "energy".
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
        stop = 0
        if progress < config.direct_share:
            stop = self.schedule.steps - 1
        elif config.loss_on == "random":
            stop = int(draws[-2] * self.schedule.steps)
        if config.loss == "energy":
            one, other = (self._chain(degraded, start, features, stop=stop) for start in noise.chunk(2))
            return energy_score(one[0], other[0], clean)
        every = config.loss_on == "every" and stop == 0
        estimates = self._chain(degraded, noise, features, stop=stop, every=every)
        return torch.stack([distance(estimate, clean, config.loss) for estimate in estimates]).mean()

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
        self, degraded: Tensor, noise: Tensor, features: Tensor, *, stop: int, every: bool = False
    ) -> list[Tensor]:
        """Run the sampler down to step `stop`; its estimate there, or those of all steps."""
        assert isinstance(self.config, DataConsistent)
        detached = self.config.gradient == "detached"
        estimates: list[Tensor] = []

        def predict(x_t: Tensor, step: int) -> Tensor:
            learns = not detached or every or step == int(self.schedule.timesteps[stop])
            with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
                return self.network.step(x_t, degraded, features, step)

        def keep(t: int, x_t: Tensor, estimate: Tensor) -> None:
            if every or t == stop:
                estimates.append(estimate)

        between = Tensor.detach if detached else None
        resshift.sample(
            predict,
            degraded,
            noise,
            self.schedule,
            self.reading,
            last=stop,
            between=between,
            on_step=keep,
        )
        return estimates
