"""A recipe: everything that decides what a training run does, in one TOML file checked before it starts."""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveInt,
    Tag,
    ValidationError,
    model_validator,
)

from restonnx.diffusion.consistency import Preconditioning
from restonnx.diffusion.resshift import Reading
from restonnx.diffusion.schedules import ShiftSchedule, exponential
from restonnx.errors import InputError
from restonnx.model import DataSource
from restonnx.training.degradations.clean import Clean
from restonnx.training.degradations.denoise import Denoise
from restonnx.training.networks.backbone import Backbone
from restonnx.training.networks.denoiser import Denoiser
from restonnx.training.objectives.config import DataConsistent, Denoising, Distillation, ForwardNoised

RECIPES = Path(__file__).parent / "recipes"


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _UNet(Section):
    channels: Literal[1, 3] = 3
    widths: tuple[PositiveInt, ...] = (32, 64, 128)
    down: tuple[NonNegativeInt, ...] = (1, 1, 3)
    up: tuple[NonNegativeInt, ...] = (1, 1)
    head_blocks: int = Field(1, ge=0, le=16)

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        if len(self.down) != len(self.widths) or len(self.up) != len(self.widths) - 1:
            raise ValueError("down needs as many entries as widths, and up one fewer")
        return self


class BackboneSection(_UNet):
    """The network of a chain: heavy encoder of the degraded image, light head per step."""

    kind: Literal["backbone"] = "backbone"

    def build(self, steps: int) -> Backbone:
        return Backbone(self.channels, steps, self.widths, self.down, self.up, self.head_blocks)


class DenoiserSection(_UNet):
    """The network of a prior: one pass, told the noise level."""

    kind: Literal["denoiser"] = "denoiser"

    def build(self, steps: int) -> Denoiser:
        return Denoiser(self.channels, self.widths, self.down, self.up, self.head_blocks)


class ResShiftSection(Section):
    family: Literal["resshift"] = "resshift"
    steps: int = Field(4, ge=1, le=1000)
    kappa: float = Field(0.1, ge=0)
    """Standard deviation of the noise that the chain starts with, black being 0 and white 1; 0 for a chain without."""
    min_noise_level: float = Field(0.01, gt=0)
    etas_end: float = Field(0.99, gt=0, le=1)
    power: float = Field(0.3, gt=0)
    normalize: Literal["latent", "pixel", "none"] = "latent"
    parameterisation: Literal["xstart", "residual", "epsilon", "epsilon_scale"] = "xstart"

    @model_validator(mode="after")
    def _makes_a_schedule(self) -> Self:
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


class DenoiserSampling(Section):
    """A denoiser for every noise level, as EDM (Karras et al. 2022, arXiv 2206.00364) conditions it; images in [-1, 1].

    family = "consistency" for one that maps every level straight to the clean image (Song et al. 2023,
    arXiv 2303.01469).
    """

    family: Literal["direct", "consistency"]
    sigma_data: float = Field(0.5, gt=0)
    sigma_min: float = Field(0.002, gt=0)
    sigma_max: float = Field(80.0, gt=0)

    @property
    def steps(self) -> int:
        return 1

    def preconditioning(self) -> Preconditioning:
        return Preconditioning(self.sigma_data, self.sigma_min, self.sigma_max, boundary=self.family == "consistency")


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


def _named(key: str, default: str) -> Discriminator:
    """Chooses a union's member by its `key`, which may be left out for the default one."""
    return Discriminator(lambda v: v.get(key, default) if isinstance(v, dict) else getattr(v, key))


Network = Annotated[
    Annotated[BackboneSection, Tag("backbone")] | Annotated[DenoiserSection, Tag("denoiser")],
    _named("kind", "backbone"),
]
Sampler = Annotated[
    Annotated[ResShiftSection, Tag("resshift")]
    | Annotated[DenoiserSampling, Tag("direct")]
    | Annotated[DenoiserSampling, Tag("consistency")],
    _named("family", "resshift"),
]


class Recipe(Section):
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    about: About
    network: Network = BackboneSection()
    sampler: Sampler = ResShiftSection()
    degradation: Annotated[Denoise | Clean, Field(discriminator="kind")]
    objective: Annotated[DataConsistent | ForwardNoised | Denoising | Distillation, Field(discriminator="kind")]
    training: TrainingSection

    @model_validator(mode="after")
    def _parts_fit(self) -> Recipe:
        chain = isinstance(self.sampler, ResShiftSection)
        if chain != isinstance(self.network, BackboneSection):
            raise ValueError("a backbone goes with a resshift sampler, a denoiser with a direct or consistency sampler")
        if chain != isinstance(self.objective, (DataConsistent, ForwardNoised)):
            raise ValueError(f"objective.kind = {self.objective.kind!r} does not train a {self.network.kind}")
        if isinstance(self.objective, Distillation) != (self.sampler.family == "consistency"):
            raise ValueError('objective.kind = "distillation" goes with sampler.family = "consistency", and only so')
        return self

    @model_validator(mode="after")
    def _crops_divide(self) -> Recipe:
        multiple = max(2 ** len(self.network.widths), 16 if getattr(self.degradation, "jpeg_share", 0) else 1)
        if self.training.patch % multiple:
            raise ValueError(f"training.patch must be a multiple of {multiple} here, not {self.training.patch}")
        return self

    def build(self) -> Backbone | Denoiser:
        """The network, untrained."""
        return self.network.build(self.sampler.steps)

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


KINDS: dict[str, type[BaseModel]] = {
    "backbone": BackboneSection,
    "denoiser": DenoiserSection,
    "resshift": ResShiftSection,
    "direct": DenoiserSampling,
    "consistency": DenoiserSampling,
    "denoise": Denoise,
    "none": Clean,
    "data_consistent": DataConsistent,
    "forward_noised": ForwardNoised,
    "denoising": Denoising,
    "distillation": Distillation,
}
"""What a section may be, by the name that pydantic puts behind the section's own where an error is."""


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    where = [str(part) for part in problem["loc"]]
    key = ".".join(part for i, part in enumerate(where) if i != 1 or part not in KINDS)
    if problem["type"] != "extra_forbidden":
        return f"{key}: {problem['msg']}"
    sections = KINDS | {"about": About, "training": TrainingSection}
    section = next((sections[part] for part in reversed(where[:-1]) if part in sections), Recipe)
    nearest = difflib.get_close_matches(where[-1], section.model_fields, n=1, cutoff=0)
    return f"unknown key {key!r}; the nearest right one is {nearest[0]!r}"
