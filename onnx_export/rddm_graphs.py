"""RDDM's networks with their samplers as modules that can be frozen: tensors in, the restored or a new image out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from restonnx.diffusion import rddm, rddm_ddim, rddm_paths
from restonnx.diffusion.rddm import Bounds, Reading
from restonnx.diffusion.rddm_schedules import ResidualSchedule
from restonnx.onnx_export.freeze import Port
from restonnx.onnx_export.parts import Part, part
from restonnx.onnx_export.pieces import Builder
from restonnx.onnx_export.recorder import Noted, Recorder
from restonnx.training.networks.official.rddm_blocks import StandardisedConv
from restonnx.training.networks.official.rddm_unet import RddmUNet, SeparateUNets, predictor

if TYPE_CHECKING:
    import onnx

Array = Any
"""A tensor, or an array of the graph."""
EPS = 1e-5
"""Of the variance in weight standardisation."""
ORDERS = ("together", "residual_first", "noise_first")


class Rddm(nn.Module):
    """image (N, C, H, W), noise (N, K, C, H, W)[, mask (N, 1, H, W)] -> (N, C, H, W), all in [-1, 1].

    The mask is 1 where a pixel is known; networks are shown the opposite, 1 where the image is to be restored.

    steps:        of the sampler, evenly spaced in time.
    order:        remove residual and noise together, or first the one and then the other, which takes twice the calls.
    generate:     start from noise alone; of the image only the size counts.
    signed_mask:  the network is shown 1 and -1 in place of 1 and 0.
    as_published: of the orders residual_first, with its defects, see `rddm_paths.sample_decoupled`.
    """

    range = (-1.0, 1.0)
    last = 0

    def __init__(
        self,
        network: RddmUNet,
        schedule: ResidualSchedule,
        reading: Reading,
        *,
        steps: int = 5,
        eta: float = 0.0,
        order: str = "together",
        form: str = "use_pred_noise",
        generate: bool = False,
        signed_mask: bool = False,
        as_published: bool = False,
    ) -> None:
        super().__init__()
        if order not in ORDERS:
            raise ValueError(f"order is {order!r}; it must be one of {', '.join(ORDERS)}")
        rddm.time_grid(schedule.steps, steps)  # refuses more steps than there are
        self.seen = _images_seen(network, reading)
        if generate and self.seen > 1:
            raise ValueError("the network is shown a degraded image, so it cannot generate from noise alone")
        self.network, self.multiple = _heads_read(network, reading), network.multiple
        self.schedule, self.reading, self.steps, self.eta = schedule, reading, steps, eta
        self.order, self.form, self.generate = order, form, generate
        self.signed_mask, self.as_published = signed_mask, as_published
        doubled = as_published and order != "together"
        self.needed = rddm.draws(2 * steps - 1 if doubled else steps, eta)
        """Noise images that the sampler asks for."""
        self.draws = self.needed if schedule.start_std or schedule.beta2_bar.any() else 0
        self.ports = _ports(network, self.draws, mask=self.seen == 3)

    def forward(self, image: Tensor, *others: Tensor) -> Tensor:
        noise = others[0].unbind(1) if self.draws else [torch.zeros_like(image)] * self.needed
        mask = None
        if self.seen == 3:
            mask = self._shown(others[-1]).expand(-1, self.network.config.channels, -1, -1)
        predict = predictor(
            self.network,
            None if self.generate or self.seen == 1 else image,
            mask,
            self_condition=self.reading.self_condition,
        )
        restored: Tensor = self._sampled(predict, image, noise)
        return restored

    def to_onnx(self, unit: int) -> onnx.ModelProto:
        """The graph, whose networks are traced once."""
        recorder = Recorder(Builder())
        image, *others = (recorder.value(port.name, len(port.shape)) for port in self.ports)
        noise = [others[0][:, k] for k in range(self.draws)] or [0 * image] * self.needed
        seen = ([] if self.generate or self.seen == 1 else [image]) + (
            [self._shown(others[-1])] if self.seen == 3 else []
        )
        ask = _traced(
            recorder, self.network, unit, images=1 + self.reading.self_condition + len(seen), mask=self.seen == 3
        )

        def predict(x_t: Noted, times: tuple[float, float], previous: Noted | None = None) -> Any:
            first = [0 * x_t if previous is None else previous] if self.reading.self_condition else []
            return ask(*times, *first, x_t, *seen)

        return recorder.at.model(self.ports, self._sampled(predict, image, noise).name, self.network.config.channels)

    def _sampled(self, predict: rddm.Predict, image: Array, noise: Sequence[Array]) -> Array:
        degraded = None if self.generate else image
        common: dict[str, Any] = {"times": self.steps, "eta": self.eta}
        if self.order == "together":
            return rddm.sample(predict, degraded, noise, self.schedule, self.reading, form=self.form, **common)
        common |= {"order": self.order, "as_published": self.as_published}
        return rddm_paths.sample_decoupled(predict, degraded, noise, self.schedule, self.reading, **common)

    def _shown(self, mask: Array) -> Array:
        shown = 1 - mask
        return 2 * shown - 1 if self.signed_mask else shown


class RddmConverted(nn.Module):
    """A network of the noise, trained as DDPM or DDIM, moved along RDDM's coefficients: image (N, C, H, W), of which
    only the size counts, noise (N, K, C, H, W) -> a new image (N, C, H, W) in [-1, 1].

    schedule: of `rddm_schedules.from_betas`, or `readjusted` from one.  eta: multiplies the standard deviation.
    clip:     bounds of clean image and residual.
    """

    range = (-1.0, 1.0)
    last = 0

    def __init__(
        self,
        network: RddmUNet,
        schedule: ResidualSchedule,
        *,
        steps: int = 10,
        eta: float = 0.0,
        clip: Bounds | None = None,
        form: str = "rddm",
    ) -> None:
        super().__init__()
        rddm_ddim.ddim_grid(schedule.steps, steps)
        if _images_seen(network, Reading()) > 1:
            raise ValueError("the network is shown a degraded image, so it cannot generate from noise alone")
        self.network, self.multiple = _heads_read(network, Reading("pred_noise")), network.multiple
        self.schedule, self.steps, self.eta, self.clip, self.form = schedule, steps, eta, clip, form
        self.draws = rddm.draws(steps, eta)
        self.ports = _ports(network, self.draws, mask=False)

    def forward(self, image: Tensor, noise: Tensor) -> Tensor:
        restored: Tensor = self._sampled(lambda x, t: self.network(x, t, t), noise.unbind(1))
        return restored

    def to_onnx(self, unit: int) -> onnx.ModelProto:
        """The graph, whose network is traced once."""
        recorder = Recorder(Builder())
        noise = recorder.value("noise", 5)
        ask = _traced(recorder, self.network, unit, images=1)
        draws = [noise[:, k] for k in range(self.draws)]
        restored = self._sampled(lambda x, t: ask(t, t, x), draws)
        return recorder.at.model(self.ports, restored.name, self.network.config.channels)

    def _sampled(self, ask: Any, noise: Sequence[Array]) -> Array:
        """ask: (x, t) -> the heads' outputs."""
        common: dict[str, Any] = {"times": self.steps, "eta": self.eta, "clip": self.clip, "form": self.form}
        return rddm_ddim.sample_converted(lambda x, t: ask(x, t)[-1], noise, self.schedule, **common)


def standardised(network: RddmUNet) -> RddmUNet:
    """The network with its convolutions' weights standardised once instead of in every pass; changed in place.

    The names stay, and to standardise such weights again changes nothing: they still load where they came from.
    """
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, StandardisedConv):
                plain = nn.Conv2d(child.in_channels, child.out_channels, 3, padding=1)
                variance, mean = torch.var_mean(child.weight.detach(), dim=(1, 2, 3), correction=0, keepdim=True)
                plain.weight.data = (child.weight.detach() - mean) * (variance + EPS).rsqrt()
                plain.bias = child.bias
                setattr(module, name, plain)
    return network


class _OneOfTwo(nn.Module):
    """One of two networks where the other one's output is not read, under the name that it has beside the other."""

    def __init__(self, networks: SeparateUNets, name: str) -> None:
        super().__init__()
        self.config, self.name = networks.config, name
        self.add_module(name, getattr(networks, name))

    def forward(self, x: Tensor, time_residual: Any, time_noise: Any) -> tuple[Tensor, ...]:
        time = time_residual if self.name == "unet0" else time_noise
        return (getattr(self, self.name)(x, _times(time, x)),)


def _traced(recorder: Recorder, network: Any, unit: int, *, images: int, mask: bool = False) -> Part:
    """(time of the residual, time of the noise, *images[, mask]) -> the tuple of the heads' outputs."""
    config = network.config
    channels = [config.channels] * (images - mask) + [1] * mask

    def heads(time_residual: Tensor, time_noise: Tensor, *seen: Tensor) -> Any:
        shown = [image.expand(-1, config.channels, -1, -1) for image in seen]
        found = network(torch.cat(shown, dim=1) if len(shown) > 1 else shown[0], time_residual, time_noise)
        return found if len(found) > 1 else found[0]

    single = isinstance(network, _OneOfTwo) or (config.layout == "single" and config.heads_per_network == 1)
    shapes = [("N", count, "H", "W") for count in channels]
    sides = {"unit": unit, "multiple": network.multiple}
    ask = part(recorder, heads, (1,), (1,), *shapes, outputs=1 if single else 2, **sides, network=network)
    return (lambda *arrays: (ask(*arrays),)) if single else ask


def _heads_read(network: RddmUNet, reading: Reading) -> Any:
    """The network without what the reading does not need."""
    config = network.config
    heads = 1 if config.layout == "single" and config.heads_per_network == 1 else 2
    if reading.heads > heads:
        raise ValueError(f"{reading.prediction} reads {reading.heads} heads, but the network has {heads}")
    if config.layout == "two" and reading.heads == 1:
        assert isinstance(network, SeparateUNets)
        return _OneOfTwo(network, "unet0" if reading.prediction == "pred_res" else "unet1")
    return network


def _images_seen(network: RddmUNet, reading: Reading) -> int:
    """1: x_t alone; 2: the degraded image too; 3: and a mask."""
    seen = network.config.in_channels // network.config.channels - int(reading.self_condition)
    if not 1 <= seen <= 3:
        raise ValueError(
            f"the network takes {network.config.in_channels} channels, which are not x_t, the degraded image and a "
            f"mask of {network.config.channels} channels each"
        )
    return seen


def _ports(network: RddmUNet, draws: int, *, mask: bool) -> tuple[Port, ...]:
    channels = network.config.channels
    image = Port("image", "image", ("N", channels, "H", "W"))
    noise = Port("noise", "noise", ("N", draws, channels, "H", "W"))
    shown = Port("mask", "mask", ("N", 1, "H", "W"))
    return (image, *([noise] if draws else []), *([shown] if mask else []))


def _times(time: Any, like: Tensor) -> Tensor:
    """(N,), or (1,) for a number, which every image then shares."""
    return time.reshape(-1) if isinstance(time, Tensor) else like.new_full((1,), float(time))
