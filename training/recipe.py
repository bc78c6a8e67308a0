"""A recipe: everything that decides what a training run does, in one TOML file checked before it starts."""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError, model_validator

from restonnx.diffusion.resshift import Reading
from restonnx.diffusion.schedules import ShiftSchedule, exponential
from restonnx.errors import InputError
from restonnx.model import DataSource
from restonnx.training.degradations.denoise import Denoise
from restonnx.training.networks.backbone import Backbone
from restonnx.training.objectives.config import DataConsistent, ForwardNoised

RECIPES = Path(__file__).parent / "recipes"


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NetworkSection(Section):
    kind: Literal["backbone"] = "backbone"
    channels: Literal[1, 3] = 3
    widths: tuple[PositiveInt, ...] = (32, 64, 128)
    down: tuple[NonNegativeInt, ...] = (1, 1, 3)
    up: tuple[NonNegativeInt, ...] = (1, 1)
    head_blocks: int = Field(1, ge=0, le=16)

    @model_validator(mode="after")
    def _levels_agree(self) -> NetworkSection:
        if len(self.down) != len(self.widths) or len(self.up) != len(self.widths) - 1:
            raise ValueError("down needs as many entries as widths, and up one fewer")
        return self

    def build(self, steps: int) -> Backbone:
        return Backbone(self.channels, steps, self.widths, self.down, self.up, self.head_blocks)


class SamplerSection(Section):
    family: Literal["resshift"] = "resshift"
    steps: int = Field(4, ge=1, le=1000)
    kappa: float = Field(0.1, gt=0)
    """Standard deviation of the noise that the chain starts with, black being 0 and white 1."""
    min_noise_level: float = Field(0.01, gt=0)
    etas_end: float = Field(0.99, gt=0, le=1)
    power: float = Field(0.3, gt=0)
    normalize: Literal["latent", "pixel", "none"] = "latent"
    parameterisation: Literal["xstart", "residual", "epsilon", "epsilon_scale"] = "xstart"

    @model_validator(mode="after")
    def _makes_a_schedule(self) -> SamplerSection:
        self.schedule()
        return self

    def schedule(self) -> ShiftSchedule:
        return exponential(
            self.steps,
            kappa=self.kappa,
            min_noise_level=self.min_noise_level,
            etas_end=self.etas_end,
            power=self.power,
        )

    def reading(self) -> Reading:
        return Reading(self.parameterisation, self.normalize)


class TrainingSection(Section):
    iterations: int | None = Field(None, ge=1)
    minutes: float | None = Field(None, gt=0)
    """Instead of iterations: the learning rate follows the clock, and a resumed run is equal only in kind."""
    batch: int = Field(8, ge=1)
    """Samples per iteration, over all processes together."""
    patch: int = Field(64, ge=16)
    """Side of a sample in pixels; well above the network's reach, or it never learns to use context."""
    lr: float = Field(1e-3, gt=0)
    min_lr: float = Field(1e-6, ge=0)
    warmup: int = Field(200, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.99)
    ema: float = Field(0.999, ge=0, lt=1)
    clip: float = Field(0.5, gt=0)
    """Largest norm of the gradient."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """auto: bf16 on a GPU, float32 on a CPU."""
    seed: int = Field(0, ge=0)
    checkpoint_minutes: float = Field(3.0, gt=0)

    @model_validator(mode="after")
    def _one_length(self) -> TrainingSection:
        if (self.iterations is None) == (self.minutes is None):
            raise ValueError("give either iterations or minutes")
        return self


class About(Section):
    title: str
    description: str
    version: str = "1.0.0"
    task: str
    domain: Literal["display_rgb", "display_gray", "linear_rgb", "camera_rgb", "cfa"]
    licence: str = "Apache-2.0"
    authors: tuple[str, ...] = ("The restonnx authors",)
    training_data: tuple[DataSource, ...] = ()


class Recipe(Section):
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    about: About
    network: NetworkSection = NetworkSection()
    sampler: SamplerSection = SamplerSection()
    degradation: Denoise
    objective: Annotated[DataConsistent | ForwardNoised, Field(discriminator="kind")]
    training: TrainingSection

    @model_validator(mode="after")
    def _crops_divide(self) -> Recipe:
        multiple = max(2 ** len(self.network.widths), 16 if self.degradation.jpeg_share else 1)
        if self.training.patch % multiple:
            raise ValueError(f"training.patch must be a multiple of {multiple} here, not {self.training.patch}")
        return self

    def hash(self) -> str:
        """SHA-256 of the recipe's content, whatever its layout on disk."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def load(path_or_name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file, or a shipped recipe by name; overrides are "training.lr=0.0005"-like strings.

    Raises InputError in one line: the key, what was wrong, and for an unknown key the nearest right one.
    """
    path = Path(path_or_name)
    if not path.is_file():
        shipped = {p.stem: p for p in sorted(RECIPES.glob("*.toml"))}
        if str(path_or_name) not in shipped:
            raise InputError(f"no recipe {str(path_or_name)!r}: give a .toml file or one of {', '.join(shipped)}")
        path = shipped[str(path_or_name)]
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML: {error}") from None
    for override in overrides:
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


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    where = [str(part) for part in problem["loc"]]
    if problem["type"] != "extra_forbidden":
        return f"{'.'.join(where)}: {problem['msg']}"
    nearest = difflib.get_close_matches(where[-1], _keys(where[:-1]), n=1, cutoff=0)
    return f"unknown key {'.'.join(where)!r}; the nearest right one is {nearest[0]!r}"


def _keys(where: list[str]) -> list[str]:
    sections: dict[str, type[BaseModel]] = {
        "about": About,
        "network": NetworkSection,
        "sampler": SamplerSection,
        "degradation": Denoise,
        "training": TrainingSection,
        "data_consistent": DataConsistent,
        "forward_noised": ForwardNoised,
    }
    for part in reversed(where):
        if part in sections:
            return list(sections[part].model_fields)
    return list(Recipe.model_fields)
