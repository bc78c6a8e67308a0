"""Checkpoints: one safetensors file with the recipe inside; no pickle anywhere."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor

from restonnx.errors import InputError, ModelError
from restonnx.files import replaced
from restonnx.training.networks.backbone import Backbone
from restonnx.training.networks.denoiser import Denoiser
from restonnx.training.networks.residual_backbone import ResidualBackbone
from restonnx.training.objectives.config import NOISE, RESIDUAL, UNDECIDED, ResidualDenoising
from restonnx.training.recipe import Recipe, parse

if TYPE_CHECKING:
    import onnx

NETWORK, EMA, OPTIMIZER, OBJECTIVE = "network.", "ema.", "optimizer.", "objective."
RECIPE_KEY = "restonnx.recipe"
"""Where an exported model keeps the JSON of its recipe, beside its metadata."""
SCALE_SUFFIX = ".scales"
"""Where an exported model stores a weight as whole numbers, its factors bear the weight's name and this."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run, or with `ema` alone a finished model."""

    recipe: Recipe
    ema: dict[str, Tensor]
    """The averaged weights: what is evaluated and exported."""
    network: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    iteration: int
    seconds: float
    """Time trained so far."""
    parent: str | None = None
    """SHA-256 of the file that the run started from."""
    objective: dict[str, Tensor] = field(default_factory=dict)
    """What the objective has learned besides, such as the target of a distillation."""

    def build(self) -> Backbone | ResidualBackbone | Denoiser:
        """The network with the averaged weights, in evaluation mode."""
        network = self.recipe.build()
        try:
            network.load_state_dict(self.ema)
        except RuntimeError as error:
            raise ModelError(f"the weights do not fit the recipe: {' '.join(str(error).split())}") from None
        return network.eval()

    def settled(self) -> Checkpoint:
        """With a recipe that names the objective which the training has selected, where it was to select one.

        Raises ModelError if it has not selected any yet.
        """
        objective = self.recipe.objective
        if not isinstance(objective, ResidualDenoising) or objective.prediction != "auto":
            return self
        selected = {RESIDUAL: "pred_res", NOISE: "pred_noise"}.get(int(self.objective.get("decision", UNDECIDED)))
        if selected is None:
            raise ModelError(f"{self.recipe.name} has not selected its objective yet: train it longer")
        chosen = objective.model_copy(update={"prediction": selected})
        return replace(self, recipe=self.recipe.model_copy(update={"objective": chosen}))


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write atomically: a kill leaves the previous checkpoint whole."""
    tensors = {
        prefix + name: tensor.detach().contiguous().cpu()
        for prefix, group in (
            (EMA, checkpoint.ema),
            (NETWORK, checkpoint.network),
            (OPTIMIZER, checkpoint.optimizer),
            (OBJECTIVE, checkpoint.objective),
        )
        for name, tensor in group.items()
    }
    metadata = {
        "recipe": checkpoint.recipe.model_dump_json(by_alias=True),
        "iteration": str(checkpoint.iteration),
        "seconds": repr(checkpoint.seconds),
        "parent": checkpoint.parent or "",
    }
    with replaced(path, overwrite=True) as temporary:
        temporary.write_bytes(serialised(tensors, metadata))  # with the permissions that other files get


def load(path: str | Path) -> Checkpoint:
    """Read a .safetensors checkpoint, or the averaged weights and the recipe of an exported .onnx model.

    Raises InputError or ModelError in one line if the file is missing or none of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no checkpoint {path}")
    if path.suffix == ".onnx":
        return from_onnx(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a safetensors checkpoint: {error}") from None
    if "recipe" not in metadata:
        raise ModelError(f"{path} holds no recipe: it was not written by `restonnx train`")
    groups: dict[str, dict[str, Tensor]] = {EMA: {}, NETWORK: {}, OPTIMIZER: {}, OBJECTIVE: {}}
    try:
        for name, tensor in tensors.items():
            prefix = name.partition(".")[0] + "."
            groups[prefix][name[len(prefix) :]] = tensor
        content = json.loads(metadata["recipe"])
        iteration, seconds = int(metadata["iteration"]), float(metadata["seconds"])
        parent = metadata["parent"] or None
    except (KeyError, ValueError) as error:
        raise ModelError(f"{path} is damaged or of another version: {error}") from None
    recipe = parse(content, str(path))
    return Checkpoint(
        recipe, groups[EMA], groups[NETWORK], groups[OPTIMIZER], iteration, seconds, parent, groups[OBJECTIVE]
    )


def from_onnx(path: Path) -> Checkpoint:
    """The checkpoint inside a model that `restonnx export` wrote: recipe and averaged weights."""
    import onnx

    from restonnx.model import read

    file = read(path)
    if file.metadata.precision == "int8":
        raise ModelError(f"{path} computes in integers, which cannot be trained: give the float model it was made of")
    model = onnx.load(path)
    recipes = [entry.value for entry in model.metadata_props if entry.key == RECIPE_KEY]
    if not recipes:
        raise ModelError(
            f"{path} holds no recipe, so it cannot be trained further: it was not written by `restonnx export`"
        )
    recipe = parse(json.loads(recipes[0]), str(path))
    stored = stored_weights(model)
    network = recipe.build()
    missing = [name for name in network.state_dict() if name not in stored]
    if missing:
        raise ModelError(f"{path} lacks the weight {missing[0]!r} that its recipe names")
    weights = {name: stored[name] for name in network.state_dict()}
    return Checkpoint(recipe, weights, {}, {}, 0, 0.0, file.metadata.parent)


def stored_weights(model: onnx.ModelProto) -> dict[str, Tensor]:
    """The tensors in an exported model as float32, however they are stored."""
    from onnx import numpy_helper

    values = {tensor.name: numpy_helper.to_array(tensor).astype("float32") for tensor in model.graph.initializer}
    scaled = [name for name in values if name + SCALE_SUFFIX in values]
    for name in scaled:
        values[name] *= values.pop(name + SCALE_SUFFIX)
    return {name: torch.from_numpy(value) for name, value in values.items()}


def grown(value: Tensor, like: Tensor) -> Tensor:
    """A sibling's weight in the shape of `like`, where that makes sense; else as it is.

    A convolution (out, in, h, w) gets zeros for the input channels that only `like` has; the table (1, width) of a
    sibling with one step serves every step.
    """
    if value.ndim == like.ndim == 2 and len(value) == 1:
        return value.expand(len(like), -1).clone()
    if value.ndim != 4 or like.ndim != 4 or like.shape[1] <= value.shape[1]:
        return value
    return torch.cat([value, value.new_zeros(len(value), like.shape[1] - value.shape[1], *value.shape[2:])], dim=1)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as flat named tensors: "<parameter's index>.<key>"."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{key}": torch.as_tensor(value) for i, values in state.items() for key, value in values.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".")
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    # Saved without the memory layout of the parameters, which the fused operations want.
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            if value.shape == parameter.shape:
                values[key] = torch.empty_like(parameter).copy_(value)
