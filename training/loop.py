"""The training loop: plain PyTorch, one process or `torchrun`, and a kill costs at most a few minutes.

Every random choice is a function of (seed, iteration). So a resumed run is the run that was not interrupted (on a CPU,
and with its length given in iterations), and N processes compute the same loss as one with the whole batch: each makes
the whole batch and trains on its share.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from restonnx import library
from restonnx.errors import Cancelled, InputError, RestonnxError
from restonnx.model import DataSource
from restonnx.session import Cancel
from restonnx.training import checkpoint as checkpoints
from restonnx.training.checkpoint import Checkpoint
from restonnx.training.data import Crops, load_clean
from restonnx.training.degrade import HIDDEN
from restonnx.training.log import Log
from restonnx.training.muon import Muon
from restonnx.training.networks.residual_backbone import ResidualBackbone
from restonnx.training.objectives.build import build_objective, inner, kept_state, load_kept
from restonnx.training.objectives.config import UNDECIDED, ResidualDenoising
from restonnx.training.objectives.consistency import Distillation
from restonnx.training.objectives.rddm import ObjectiveSelection
from restonnx.training.pairs import Pairs, load_pairs
from restonnx.training.processes import Place, agreed, mean, process_group, shared_clock
from restonnx.training.recipe import Recipe, load
from restonnx.training.sections import UNSTATED, TrainingSection

CHECKPOINT = "checkpoint.safetensors"
LOG_EVERY = 100
LEAST_SHARE = 0.25
"""Of a network's weights, that a model to start from must bring."""
MAY_CHANGE = {"iterations", "minutes", "checkpoint_minutes", "lr", "min_lr", "clip"}
"""What of a recipe's training may be another when a run goes on."""


def train(
    recipe: str | Path,
    *,
    data: str | Path | None = None,
    pairs: str | Path | None = None,
    out: str | Path,
    resume: bool = True,
    minutes: float | None = None,
    overrides: Sequence[str] = (),
    init: str | Path | None = None,
    device: str = "auto",
    quiet: bool = False,
    cancel: Cancel | None = None,
) -> Path:
    """Train a recipe and return the checkpoint's path.

    recipe: a .toml file or a shipped recipe's name.  out: the run's folder.
    data: a folder of clean photographs, which are degraded as the recipe says.  pairs: instead of it, a folder with
    degraded images in input/ and the clean ones under equal names in gt/ (and reference/ or mask/ for models that take
    one).
    minutes: stop after so much time; the run can be resumed.  init: start from the weights of this checkpoint or
    .onnx model, given as a file or by its name in the library.
    cancel: anything with is_set(): the run then ends after its iteration with a checkpoint, and raises Cancelled.
    """
    given = data if pairs is None else pairs
    if given is None or (data is not None and pairs is not None):
        raise InputError("give either a folder of clean photographs (data) or one of pairs (pairs)")
    settings = load(recipe, overrides, anew=True)
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: give the name of a folder for the run")
    path = out / CHECKPOINT
    with process_group(device) as place:
        run = _Run(settings, place)
        if path.exists():
            if not resume:
                raise InputError(f"{path} exists: resume it, or give another --out")
            run.restore(checkpoints.load(path), path)
        elif init is not None:
            run.start_from(Path(init) if Path(init).exists() else library.find(init).path)
        crops = _crops(settings, data, pairs)
        run.note_data(Path(given))
        out.mkdir(parents=True, exist_ok=True)
        _loop(run, crops, out, minutes, quiet, cancel)
    return path


class _Run:
    """All that a checkpoint holds, alive."""

    def __init__(self, recipe: Recipe, place: Place) -> None:
        self.recipe, self.place = recipe, place
        settings = recipe.training
        if settings.batch % place.world:
            raise InputError(f"training.batch {settings.batch} cannot be shared by {place.world} processes")
        torch.manual_seed(settings.seed)
        self.network = recipe.build().to(place.device)
        if place.device.type == "cuda":
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.plain = build_objective(recipe, self.network).to(place.device)
        self.own = inner(self.plain)
        self.objective: nn.Module = DistributedDataParallel(self.plain) if place.world > 1 else self.plain
        kind: type[Muon] | type[torch.optim.AdamW] = Muon if settings.optimizer == "muon" else torch.optim.AdamW
        self.optimizer = kind(
            self._parameters(),
            lr=settings.lr,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
        )
        self.ema = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.iteration, self.seconds = 0, 0.0
        self.parent: str | None = None
        self.seen: tuple[DataSource, ...] = ()
        """What the weights have been trained on already."""

    def restore(self, saved: Checkpoint, path: Path) -> None:
        if _identity(saved.recipe) != _identity(self.recipe):
            raise InputError(
                f"{path} was trained with another recipe: give another --out, or the recipe it was begun with"
            )
        self.network.load_state_dict(saved.network)
        load_kept(self.plain, saved.objective)
        self._read_as_selected()
        checkpoints.restore_optimizer(self.optimizer, saved.optimizer)
        for name, value in saved.ema.items():  # copied, so that they keep the memory layout of the network
            self.ema[name].copy_(value)
        self.iteration, self.seconds, self.parent = saved.iteration, saved.seconds, saved.parent
        self.seen = saved.recipe.about.training_data

    def start_from(self, path: Path) -> None:
        """Take over every weight that fits by name and shape, so that a model can start from a sibling's.

        A convolution that sees more channels than the sibling's keeps its weights; the new channels start at 0.
        A chain with gains keeps its own weighing of the steps, and so begins as good as its sibling of one step.
        """
        saved, own = checkpoints.load(path), self.network.state_dict()
        given = {name: value for name, value in saved.ema.items() if name in own}
        if "gain" in own:  # how the steps are weighed belongs to their number
            given = {n: v for n, v in given.items() if n not in ("carry", "gain") or v.shape == own[n].shape}
        fitting = {name: checkpoints.grown(value, own[name]) for name, value in given.items()}
        fitting = {name: value for name, value in fitting.items() if own[name].shape == value.shape}
        share = sum(value.numel() for value in fitting.values()) / sum(value.numel() for value in own.values())
        if share < LEAST_SHARE:
            raise InputError(f"only {share:.0%} of the weights fit those of {path}: start from a more similar network")
        self._take(own | fitting)
        self.seen = saved.recipe.about.training_data
        with path.open("rb") as file:
            self.parent = hashlib.file_digest(file, "sha256").hexdigest()

    def note_data(self, folder: Path) -> None:
        """Where the recipe does not say what it is trained on: the folder's name, and what was seen before."""
        about = self.recipe.about
        if not about.training_data:
            given = DataSource(name=folder.resolve().name or "a folder", licence=UNSTATED)
            data = tuple(dict.fromkeys([given, *self.seen]))
            self.recipe = self.recipe.model_copy(update={"about": about.model_copy(update={"training_data": data})})

    def snapshot(self) -> Checkpoint:
        return Checkpoint(
            self.recipe,
            self.ema,
            self.network.state_dict(),
            checkpoints.optimizer_tensors(self.optimizer),
            self.iteration,
            self.seconds,
            self.parent,
            kept_state(self.plain),
        )

    def save(self, path: Path) -> None:
        """Write a checkpoint; one of a run that has diverged does not take the place of the one before."""
        if not all(value.isfinite().all() for value in self.network.state_dict().values()):
            raise self.diverged("the weights are no longer finite")
        checkpoints.save(path, self.snapshot())

    def diverged(self, how: str) -> RestonnxError:
        return RestonnxError(f"{how} at iteration {self.iteration}: lower training.lr and resume")

    @property
    def rate(self) -> float:
        """The learning rate of the next iteration."""
        return learning_rate(self.recipe.training, self.iteration, self.progress())

    def progress(self) -> float:
        settings = self.recipe.training
        if settings.iterations is not None:
            return min(self.iteration / settings.iterations, 1.0)
        assert settings.minutes is not None
        return min(self.seconds / (60 * settings.minutes), 1.0)

    def step(self, crops: Crops | Pairs) -> Tensor:
        """One iteration on this process's share of the batch; returns its loss."""
        settings, place = self.recipe.training, self.place
        progress = self.progress()
        self._select()
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * group.get("share", 1.0)
        clean, degraded, noise, draws, *further = self._batch(crops)
        with torch.autocast(place.device.type, torch.bfloat16, enabled=_bf16(settings, place.device)):
            loss: Tensor = self.objective(clean, degraded, noise, draws, progress, *further)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip)
        self.optimizer.step()
        if isinstance(self.own, Distillation):
            self.own.follow(progress)
        self._average(settings.ema)
        self.iteration += 1
        return loss.detach()

    def _parameters(self) -> list[dict[str, Any]]:
        """The network's, and where the objective is to be selected the weight that decides, which learns slowly."""
        groups: list[dict[str, Any]] = [{"params": list(self.network.parameters())}]
        if isinstance(self.own, ObjectiveSelection):
            assert isinstance(self.recipe.objective, ResidualDenoising)
            share = self.recipe.objective.selection_lr / self.recipe.training.lr
            groups.append({"params": [self.own.preference], "weight_decay": 0.0, "share": share})
        return groups

    def _take(self, weights: dict[str, Tensor]) -> None:
        """Begin with these weights."""
        self.network.load_state_dict(weights)
        for name, value in self.network.state_dict().items():
            self.ema[name].copy_(value)
        if isinstance(self.own, Distillation):
            self.own.restart()

    def _select(self) -> None:
        """Once an objective is selected, begin anew with a fresh network, as published."""
        if not isinstance(self.own, ObjectiveSelection) or int(self.own.decision) != UNDECIDED:
            return
        if self.own.decide() != UNDECIDED:
            self._read_as_selected()
            torch.manual_seed(self.recipe.training.seed + 1)
            self._take(self.snapshot().settled().recipe.build().state_dict())
            self.optimizer.state.clear()

    def _read_as_selected(self) -> None:
        if isinstance(self.own, ObjectiveSelection) and self.own.selected:
            assert isinstance(self.network, ResidualBackbone)
            self.network.read_as(self.own.selected)

    def _batch(self, crops: Crops | Pairs) -> tuple[Tensor, ...]:
        """Clean, degraded, noise, draws, and what the network is given besides; this process's share."""
        settings, place = self.recipe.training, self.place
        generator = torch.Generator(place.device).manual_seed(settings.seed * 1_000_003 + self.iteration)
        if isinstance(crops, Pairs):
            clean, degraded, *further = (t.to(place.device) for t in crops.batch(self.iteration, settings.batch))
        else:
            clean = crops.batch(self.iteration, settings.batch).to(place.device)
            clean, degraded, *further = self.recipe.degradation.degrade(clean, generator)
        noise = torch.randn(self.recipe.training_draws, *clean.shape, device=place.device, generator=generator)
        draws = torch.rand(settings.batch + 2, device=place.device, generator=generator)
        share = slice(place.rank, None, place.world)
        shared = torch.cat([draws[:-2][share], draws[-2:]])
        return clean[share], degraded[share], noise[:, share], shared, *(given[share] for given in further)

    def _average(self, decay: float) -> None:
        weight = 1 - min(decay, (1 + self.iteration) / (10 + self.iteration))
        state = self.network.state_dict()
        torch._foreach_lerp_(list(self.ema.values()), [state[name] for name in self.ema], weight)


def learning_rate(settings: TrainingSection, iteration: int, progress: float) -> float:
    """Linear warm-up, then a cosine from lr to min_lr over the run's progress in [0, 1]."""
    cosine = settings.min_lr + (settings.lr - settings.min_lr) * (1 + math.cos(math.pi * progress)) / 2
    return cosine * min(1.0, (iteration + 1) / max(settings.warmup, 1))


def _crops(recipe: Recipe, data: str | Path | None, pairs: str | Path | None) -> Crops | Pairs:
    """What a run learns from."""
    size, seed = recipe.training.patch, recipe.training.seed
    if data is not None:
        clean = load_clean(Path(data), channels=recipe.image_channels, smallest=size, reduced=recipe.training.reduced)
        return Crops(clean, size, seed)
    if recipe.degradation.kind in HIDDEN:
        raise InputError(f"{recipe.name} learns from clean photographs alone: give it data instead of pairs")
    assert pairs is not None
    guide, channels = getattr(recipe.network, "guide", None), recipe.network.channels
    return load_pairs(pairs, channels=channels, size=size, seed=seed, scale=recipe.scale, guide=guide)


def _loop(
    run: _Run, crops: Crops | Pairs, out: Path, minutes: float | None, quiet: bool, cancel: Cancel | None
) -> None:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    settings, leader = run.recipe.training, run.place.rank == 0
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    noted = Log(out, run.iteration) if leader else nullcontext()
    with Progress(*columns, disable=quiet or not leader) as bar, noted as log:
        task = bar.add_task(run.recipe.name, total=1.0)
        bar.update(task, completed=run.progress())
        started = last_saved = time.monotonic()
        before = run.seconds
        losses: list[Tensor] = []
        described, stop, cancelled = run.recipe.name, False, False
        while run.progress() < 1 and not stop:
            losses.append(run.step(crops))
            run.seconds = before + time.monotonic() - started
            if settings.minutes:
                run.seconds = shared_clock(run.seconds, run.place)
            cancelled = agreed(cancel is not None and cancel.is_set(), run.place)
            stop = cancelled or agreed(minutes is not None and time.monotonic() - started > 60 * minutes, run.place)
            if run.iteration % LOG_EVERY == 0 or run.progress() >= 1 or stop:
                loss = mean(torch.stack(losses).mean(), run.place)
                losses.clear()
                if not math.isfinite(loss):
                    raise run.diverged(f"the loss is {loss}")
                if log is not None:
                    log.add(run.iteration, run.seconds, loss, run.rate)
                described = f"{run.recipe.name}: loss {loss:.5f}"
            bar.update(task, completed=run.progress(), description=f"{described}, iteration {run.iteration}")
            if leader and time.monotonic() - last_saved > 60 * settings.checkpoint_minutes:
                run.save(out / CHECKPOINT)
                last_saved = time.monotonic()
        if leader:
            run.save(out / CHECKPOINT)
    if cancelled:
        raise Cancelled(f"stopped at iteration {run.iteration}: the same command goes on from there")


def _identity(recipe: Recipe) -> dict[str, object]:
    """What makes a run the same run."""
    return recipe.model_dump(exclude={"about": True, "training": MAY_CHANGE})


def _bf16(settings: TrainingSection, device: torch.device) -> bool:
    if settings.precision == "auto":  # cards before Ampere would compute it by detours
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return settings.precision == "bf16"
