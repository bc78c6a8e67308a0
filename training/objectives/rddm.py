"""RDDM's objectives: any of its targets, and the automatic selection of one (Liu et al. 2024, arXiv 2308.13712).

A network is called as network(images given together, time of the residual, time of the noise) -> heads; ours, which
looks at the degraded image once, through its own `predictor`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from restonnx.diffusion import rddm
from restonnx.diffusion.rddm import DEFAULT, Bounds, Reading
from restonnx.diffusion.rddm_schedules import ResidualSchedule
from restonnx.diffusion.schedules import at
from restonnx.training.networks.official.rddm_unet import predictor
from restonnx.training.networks.residual_backbone import ResidualBackbone
from restonnx.training.objectives.config import NOISE, RESIDUAL, UNDECIDED
from restonnx.training.objectives.scores import distance, energy_score

Loss = Literal["l1", "l2", "charbonnier", "psnr", "energy"]
Compared = Literal["heads", "posterior", "clean"]


def head_losses(outputs: Sequence[Tensor], wanted: Sequence[Tensor], loss: Loss = "l1") -> list[Tensor]:
    """One mean error per head."""
    if len(outputs) != len(wanted):
        raise ValueError(f"the network has {len(outputs)} heads, the objective wants {len(wanted)}")
    return [distance(output, target, loss) for output, target in zip(outputs, wanted, strict=True)]


def posterior_loss(
    outputs: Sequence[Tensor], wanted: Sequence[Tensor], schedule: ResidualSchedule, t: Tensor, loss: Loss = "l1"
) -> Tensor:
    """10000 times the error between the posterior means that heads (residual, noise) and their targets imply.

    The mean is x_t - alpha_t residual - (beta_t^2 / Bbar_t) noise, so x_t drops out of the difference.
    """
    scale = at(schedule.betas2 * schedule.inverse_beta_bar, t, outputs[0])

    def moved(heads: Sequence[Tensor]) -> Tensor:
        return at(schedule.alphas, t, heads[0]) * heads[0] + scale * heads[1]

    return 10000 * distance(moved(outputs), moved(wanted), loss)


class RddmObjective(nn.Module):
    """(clean, degraded, noise, draws, progress) -> loss, the sum over the heads; `losses` gives them one by one.

    clean, degraded: (N, C, H, W) in the network's range; degraded is None in generation.
    noise: (1, N, C, H, W), of two draws (2, N, C, H, W) with loss = "energy", which goes with compare = "clean".
    draws: (N + 2,) uniform in [0, 1): a t per sample, and spare ones, of which self-conditioning takes the last.
    progress: not used.  mask: (N, C, H, W), of our networks (N, 1, H, W), seen by the network where given.

    conditioned: whether the network sees the degraded image; not in translation and inpainting.
    compare: heads, each with its target; posterior, see `posterior_loss`, for pred_res_noise; clean, the image that
    pred_res implies with the true one, both as `shown` makes them of the network's values.
    first_share: of the samples, at the last t, where samplers begin; t is uniform for the others.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: ResidualSchedule,
        reading: Reading = DEFAULT,
        *,
        loss: Loss = "l1",
        conditioned: bool = True,
        compare: Compared = "heads",
        shown: Callable[[Tensor], Tensor] | None = None,
        first_share: float = 0.0,
    ) -> None:
        super().__init__()
        goes_with = {"posterior": "pred_res_noise", "clean": "pred_res"}.get(compare, reading.prediction)
        if reading.prediction != goes_with:
            raise ValueError(f'compare = "{compare}" goes with {goes_with}, not {reading.prediction}')
        if loss == "energy" and compare != "clean":
            raise ValueError(f'loss = "energy" goes with compare = "clean", not "{compare}"')
        self.network = network
        self.schedule = schedule
        self.reading = reading
        self.loss: Loss = loss
        self.conditioned = conditioned
        self.compare = compare
        self.shown = shown or (lambda image: image)
        self.first_share = first_share

    def forward(
        self,
        clean: Tensor,
        degraded: Tensor | None,
        noise: Tensor,
        draws: Tensor,
        progress: float = 0.0,
        mask: Tensor | None = None,
    ) -> Tensor:
        t = self._times(draws[: len(clean)])
        if self.loss == "energy":
            one, other = (self._shown(*self._called(clean, degraded, start, t, mask), degraded, t) for start in noise)
            return energy_score(one, other, self.shown(clean))
        guess = self.reading.self_condition and float(draws[-1]) < 0.5
        return torch.stack(self.losses(clean, degraded, noise[0], t, mask, guess=guess)).sum()

    def losses(
        self,
        clean: Tensor,
        degraded: Tensor | None,
        noise: Tensor,
        t: Tensor,
        mask: Tensor | None = None,
        *,
        guess: bool = False,
    ) -> list[Tensor]:
        """One loss per head, at t (N,); noise (N, C, H, W).

        guess: let a self-conditioned network first make the estimate that it then sees, without a gradient.
        """
        outputs, x_t = self._called(clean, degraded, noise, t, mask, guess=guess)
        wanted = rddm.targets(clean, degraded, noise, self.reading.prediction)
        if self.compare == "posterior":
            return [posterior_loss(outputs, wanted, self.schedule, t, self.loss)]
        if self.compare == "clean":
            return [distance(self._shown(outputs, x_t, degraded, t), self.shown(clean), self.loss)]
        return head_losses(outputs, wanted, self.loss)

    def _called(
        self,
        clean: Tensor,
        degraded: Tensor | None,
        noise: Tensor,
        t: Tensor,
        mask: Tensor | None,
        *,
        guess: bool = False,
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """The heads at t, and the x_t that they saw."""
        schedule, reading = self.schedule, self.reading
        x_t = rddm.forward(clean, degraded, noise, schedule, t)
        seen = degraded if self.conditioned else None
        predict = _predictor(self.network, seen, mask, self_condition=reading.self_condition)
        times = rddm.time_inputs(schedule, t, reading, x_t)
        previous = None
        if guess:
            with torch.no_grad():
                outputs = rddm.call(predict, x_t, times, reading, None)
                previous = rddm.read(outputs, x_t, degraded, schedule, t, reading).clean
        return self._heads(rddm.call(predict, x_t, times, reading, previous)), x_t

    def _shown(self, outputs: tuple[Tensor, ...], x_t: Tensor, degraded: Tensor | None, t: Tensor) -> Tensor:
        """The clean image that the heads imply, as the display shows it."""
        return self.shown(rddm.read(outputs, x_t, degraded, self.schedule, t, self.reading).clean)

    def _times(self, draws: Tensor) -> Tensor:
        last = self.schedule.steps - 1
        if self.first_share == 1:
            return torch.full_like(draws, last, dtype=torch.long)
        uniform = (draws - self.first_share) / (1 - self.first_share)
        return torch.where(draws < self.first_share, last, (uniform * self.schedule.steps).long().clamp(0, last))

    def _heads(self, outputs: Any) -> tuple[Tensor, ...]:
        """The heads that the prediction reads: the first of two for pred_res, the last for pred_noise."""
        outputs = tuple(outputs) if isinstance(outputs, tuple | list) else (outputs,)
        return {"pred_res": outputs[:1], "pred_noise": outputs[-1:]}.get(self.reading.prediction, outputs)


class ObjectiveSelection(nn.Module):
    """Automatic objective selection: a network of one output and a weight, learned with it, between residual and noise.

    The output m is read as residual and as noise at once, and the weight `preference` (0.5 at first) mixes the two
    into one estimate of each; once it is `threshold` away from 0.5 the decision falls, and stays: above to the
    residual, below to the noise. From then on this trains on the selected objective alone. The paper starts again
    with a fresh network then, see `selected_objective`.

    Called as `RddmObjective`.  clip: bounds of the clean estimate behind the residual of m read as noise.
    """

    kept = ("preference", "decision")
    """What of its state belongs in a checkpoint, beside the network's."""
    decision: Tensor
    """1 residual, 0 noise, -1 undecided."""

    def __init__(
        self,
        network: nn.Module,
        schedule: ResidualSchedule,
        *,
        time: str = "index",
        loss: Loss = "l1",
        threshold: float = 0.01,
        clip: Bounds | None = (-1.0, 1.0),
        decision: int = UNDECIDED,
        conditioned: bool = True,
    ) -> None:
        super().__init__()
        if decision not in (RESIDUAL, NOISE, UNDECIDED):
            raise ValueError(f"a decision is 1 (residual), 0 (noise) or -1 (undecided), not {decision}")
        self.network = network
        self.schedule = schedule
        self.time = time
        self.loss: Loss = loss
        self.threshold = threshold
        self.clip = clip
        self.conditioned = conditioned
        self.preference = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("decision", torch.tensor(decision))

    @property
    def selected(self) -> str | None:
        """The prediction that was decided for."""
        return {RESIDUAL: "pred_res", NOISE: "pred_noise"}.get(int(self.decision))

    def selected_objective(self, network: nn.Module) -> RddmObjective:
        """The objective to train a fresh network on from the start."""
        if self.selected is None:
            raise ValueError(f"nothing is decided yet: the preference is {self.preference.item():.4f}")
        return self._objective(network, self.selected)

    def forward(
        self,
        clean: Tensor,
        degraded: Tensor | None,
        noise: Tensor,
        draws: Tensor,
        progress: float = 0.0,
        mask: Tensor | None = None,
    ) -> Tensor:
        self.decide()
        t = (draws[: len(clean)] * self.schedule.steps).long()
        return self.total(self.losses(clean, degraded, noise[0], t, mask))

    def decide(self) -> int:
        """Look at the preference, unless the decision has fallen."""
        away = self.preference.item() - 0.5
        if int(self.decision) == UNDECIDED and abs(away) >= self.threshold:
            self.decision.fill_(RESIDUAL if away > 0 else NOISE)
        return int(self.decision)

    def total(self, losses: Sequence[Tensor]) -> Tensor:
        """The two losses weighed by the preference, so that it learns; their sum once decided."""
        residual, noise = losses
        if self.selected:
            return residual + noise + 0 * self.preference  # which several processes expect to see
        return self.preference * residual + (1 - self.preference) * noise

    def losses(
        self, clean: Tensor, degraded: Tensor | None, noise: Tensor, t: Tensor, mask: Tensor | None = None
    ) -> list[Tensor]:
        """[of the residual, of the noise]; 0 for the one that was decided against."""
        if self.selected:
            (loss,) = self._objective(self.network, self.selected).losses(clean, degraded, noise, t, mask)
            nothing = torch.zeros_like(loss)
            return [loss, nothing] if self.selected == "pred_res" else [nothing, loss]
        schedule, share = self.schedule, self.preference
        x_t = rddm.forward(clean, degraded, noise, schedule, t)
        predict = _predictor(self.network, degraded if self.conditioned else None, mask)
        (output,) = predict(x_t, rddm.time_inputs(schedule, t, Reading("pred_res", self.time), x_t))
        as_noise = Reading("pred_noise", self.time, clip_clean=self.clip)
        as_residual = Reading("pred_res", self.time)
        residual = rddm.read(output, x_t, degraded, schedule, t, as_noise).residual
        implied = rddm.read(output, x_t, degraded, schedule, t, as_residual).noise
        mixed = (share * output + (1 - share) * residual, share * implied + (1 - share) * output)
        return head_losses(mixed, rddm.targets(clean, degraded, noise, "pred_res_noise"), self.loss)

    def _objective(self, network: nn.Module, prediction: str) -> RddmObjective:
        reading = Reading(prediction, self.time)
        return RddmObjective(network, self.schedule, reading, loss=self.loss, conditioned=self.conditioned)


def _predictor(
    network: nn.Module, degraded: Tensor | None, mask: Tensor | None, *, self_condition: bool = False
) -> Callable[..., tuple[Tensor, ...]]:
    if not isinstance(network, ResidualBackbone):
        return predictor(network, degraded, mask, self_condition=self_condition)
    if self_condition:
        raise ValueError("our network does not see its own estimate")
    return network.predictor(degraded, mask)


def reinitialise(network: nn.Module) -> None:
    """Draw every weight anew, as after the selection."""
    for module in network.modules():
        reset: Callable[[], None] | None = getattr(module, "reset_parameters", None)
        if reset:
            reset()
