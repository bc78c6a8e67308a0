"""A recipe: everything that decides what a training run does, in one TOML file checked before it starts."""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from restonnx.diffusion.rddm import Reading as RddmReading
from restonnx.errors import InputError
from restonnx.training.degradations.every import DEGRADATIONS, Degradation
from restonnx.training.networks.backbone import Backbone
from restonnx.training.networks.denoiser import Denoiser
from restonnx.training.networks.residual_backbone import ResidualBackbone
from restonnx.training.objectives.config import (
    ConsistencyTraining,
    DataConsistent,
    Denoising,
    Distillation,
    ForwardNoised,
    ResidualDenoising,
)
from restonnx.training.sections import (
    About,
    BackboneSection,
    DenoiserSampling,
    DenoiserSection,
    Network,
    RddmSection,
    ResidualBackboneSection,
    ResShiftSection,
    Sampler,
    Section,
    TrainingSection,
)

RECIPES = Path(__file__).parent / "recipes"
OF_THE_SHIPPED_MODEL = ("training_data", "licence", "authors")
"""What of a shipped recipe's `about` holds for the model that was trained by it, and for no other."""

Objective = Annotated[
    DataConsistent | ForwardNoised | ResidualDenoising | Denoising | Distillation | ConsistencyTraining,
    Field(discriminator="kind"),
]
FITTING = {
    "resshift": ("backbone", ("data_consistent", "forward_noised")),
    "rddm": ("residual_backbone", ("rddm",)),
    "direct": ("denoiser", ("denoising",)),
    "consistency": ("denoiser", ("distillation", "consistency_training")),
}
"""For each sampler the network and the objectives that go with it."""


class Recipe(Section):
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    about: About
    network: Network = BackboneSection()
    sampler: Sampler = ResShiftSection()
    degradation: Degradation
    objective: Objective
    training: TrainingSection

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        family = self.sampler.family
        network, objectives = FITTING[family]
        if self.network.kind != network:
            raise ValueError(
                f'sampler.family = "{family}" goes with network.kind = "{network}", not "{self.network.kind}"'
            )
        if self.objective.kind not in objectives:
            fitting = " or ".join(f'"{kind}"' for kind in objectives)
            raise ValueError(
                f'sampler.family = "{family}" goes with objective.kind = {fitting}, not "{self.objective.kind}"'
            )
        return self

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if not isinstance(self.network, ResidualBackboneSection):
            return self
        assert isinstance(self.sampler, RddmSection)
        layout, prediction = self.network.layout, self.prediction()
        heads = RddmReading(prediction).heads
        if layout != "single" and heads == 1:
            raise ValueError(f'network.layout = "{layout}" is for two outputs, but this objective.prediction has one')
        if self.sampler.generate and self.degradation.kind != "none":
            raise ValueError('sampler.generate = true goes with degradation.kind = "none"')
        if self.network.wide_noise and (self.sampler.generate or not self.sampler.sum_scale):
            raise ValueError("network.wide_noise goes with sampler.sum_scale greater than 0 and without generate")
        if layout == "single" and heads == 2 and self.sampler.time == "cumulative":
            raise ValueError(
                'with sampler.time = "cumulative" residual and noise hear different times: network.layout must be '
                '"shared" or "two"'
            )
        return self

    @model_validator(mode="after")
    def _degradation_fits(self) -> Self:
        damage, network = self.degradation, self.network
        of_damage = getattr(damage, "scale", 1)
        if self.scale != of_damage:
            raise ValueError(f'degradation.kind = "{damage.kind}" needs network.scale = {of_damage}, not {self.scale}')
        gives, takes = (getattr(part, "guide", None) for part in (damage, network))
        if gives != takes:
            wanted = f"{gives} = true" if gives else f"{takes} = false"
            raise ValueError(f'degradation.kind = "{damage.kind}" needs network.{wanted}')
        if (damage.kind == "raw") != (network.channels == 4):
            raise ValueError('degradation.kind = "raw" goes with network.channels = 4, and only so')
        return self

    @model_validator(mode="after")
    def _crops_divide(self) -> Recipe:
        multiple = 2 ** len(self.network.widths) * max(self.scale // 2, getattr(self.degradation, "packing", 1))
        if self.training.patch % multiple:
            raise ValueError(f"training.patch must be a multiple of {multiple} here, not {self.training.patch}")
        return self

    @model_validator(mode="after")
    def _energy_has_noise(self) -> Self:
        key = "kappa" if isinstance(self.sampler, ResShiftSection) else "sum_scale"
        if self.objective.loss == "energy" and not getattr(self.sampler, key):
            raise ValueError(f'objective.loss = "energy" needs noise: sampler.{key} must be greater than 0')
        return self

    @property
    def training_draws(self) -> int:
        """Normal images per sample that the objective asks for."""
        return self.sampler.training_draws * self.objective.draws

    @property
    def image_channels(self) -> int:
        """Of the clean images to train on."""
        return int(getattr(self.degradation, "image_channels", self.network.channels))

    @property
    def scale(self) -> int:
        """How many times larger the result is than what the network is given."""
        return self.network.scale if isinstance(self.network, BackboneSection) else 1

    def build(self) -> Backbone | ResidualBackbone | Denoiser:
        """The network, untrained."""
        if isinstance(self.network, ResidualBackboneSection):
            assert isinstance(self.sampler, RddmSection)
            return self.network.build(self.sampler, self.prediction())
        if isinstance(self.network, BackboneSection):
            assert isinstance(self.sampler, ResShiftSection)
            return self.network.build(self.sampler.steps, self.sampler.schedule().etas.tolist())
        return self.network.build(self.sampler.steps)

    def prediction(self) -> str:
        """What a network of RDDM gives: while that is still to be selected, as one output, the residual."""
        assert isinstance(self.objective, ResidualDenoising)
        return "pred_res" if self.objective.prediction == "auto" else self.objective.prediction

    def hash(self) -> str:
        """SHA-256 of the recipe's content, whatever its layout on disk."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def load(path_or_name: str | Path, overrides: Sequence[str] = (), *, anew: bool = False) -> Recipe:
    """Read a recipe file, or a shipped recipe by name; overrides are "training.lr=0.0005"-like strings.

    anew: a shipped recipe, given by its name, is to be trained by whoever runs it: what it says of the shipped model's
        data, licence and authors is not theirs and is left out. A file speaks for itself.
    Raises InputError in one line: the key, what was wrong, and for an unknown key the nearest right one.
    """
    path = Path(path_or_name)
    shipped = not path.is_file()
    if shipped:
        known = {p.stem: p for p in sorted(RECIPES.glob("*.toml"))}
        if str(path_or_name) not in known:
            raise InputError(f"no recipe {str(path_or_name)!r}: give a .toml file or one of {', '.join(known)}")
        path = known[str(path_or_name)]
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML: {error}") from None
    for key in OF_THE_SHIPPED_MODEL if shipped and anew else ():
        content["about"].pop(key, None)
    for override in overrides:
        for length, other in (("iterations", "minutes"), ("minutes", "iterations")):
            if override.partition("=")[0].strip() == f"training.{length}":
                content.get("training", {}).pop(other, None)
        set_value(content, override)
    return parse(content, str(path))


def parse(content: dict[str, Any], source: str = "the recipe") -> Recipe:
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{source}: {_first_problem(error)}") from None


def set_value(content: dict[str, Any], text: str) -> None:
    """Change a recipe's content by a text such as "training.lr=0.0005"."""
    key, separator, value = text.partition("=")
    if not separator:
        raise InputError(f"an override has the form section.key=value, got {text!r}")
    *sections, last = key.strip().split(".")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise InputError(f"{section!r} in {text!r} is a value, not a section")
    try:
        content[last] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        content[last] = value.strip()  # an unquoted string


KINDS: dict[str, dict[str, type[BaseModel]]] = {
    "network": {
        "backbone": BackboneSection,
        "residual_backbone": ResidualBackboneSection,
        "denoiser": DenoiserSection,
    },
    "sampler": {
        "resshift": ResShiftSection,
        "rddm": RddmSection,
        "direct": DenoiserSampling,
        "consistency": DenoiserSampling,
    },
    "degradation": DEGRADATIONS,
    "objective": {
        "data_consistent": DataConsistent,
        "forward_noised": ForwardNoised,
        "rddm": ResidualDenoising,
        "denoising": Denoising,
        "distillation": Distillation,
        "consistency_training": ConsistencyTraining,
    },
}
"""What a section may be, by the name that pydantic puts behind the section's own where an error is."""


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    where = [str(part) for part in problem["loc"]]
    kinds = KINDS.get(where[0], {}) if where else {}
    key = ".".join(part for i, part in enumerate(where) if i != 1 or part not in kinds)
    if problem["type"] != "extra_forbidden":
        said = problem["msg"].removeprefix("Value error, ")
        return f"{key}: {said}" if key else said
    plain: dict[str, type[BaseModel]] = {"about": About, "training": TrainingSection}
    section = next((kinds[part] for part in where[1:-1] if part in kinds), plain.get(where[0], Recipe))
    nearest = difflib.get_close_matches(where[-1], section.model_fields, n=1, cutoff=0)
    return f"unknown key {key!r}; the nearest right one is {nearest[0]!r}"
