"""A network and its sampler as one module: (image, noise) -> the restored image."""

from __future__ import annotations

from torch import Tensor, nn

from restonnx.diffusion import resshift
from restonnx.diffusion.resshift import Reading
from restonnx.diffusion.schedules import ShiftSchedule
from restonnx.training.networks.backbone import Backbone


class Unrolled(nn.Module):
    """image: (N, C, H, W), noise: (N, K, C, H, W), K = `draws` -> (N, C, H, W).

    last: the step whose estimate is the result; greater than 0 for a chain cut short.
    """

    def __init__(self, network: Backbone, schedule: ShiftSchedule, reading: Reading, *, last: int = 0) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.reading = reading
        self.last = last
        self.draws = schedule.steps - last
        """One to start the chain and one after every step but the last."""

    def forward(self, image: Tensor, noise: Tensor) -> Tensor:
        features = self.network.encode(image)
        restored: Tensor = resshift.sample(
            lambda x_t, step: self.network.step(x_t, image, features, step),
            image,
            noise.transpose(0, 1),
            self.schedule,
            self.reading,
            last=self.last,
        )
        return restored
