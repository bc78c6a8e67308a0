"""What the user has chosen, what is kept of it in a result's metadata, and how it is read back from there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from restonnx.errors import InputError

if TYPE_CHECKING:
    from restonnx.model import Metadata

KEY = "restonnx"
"""Under which a result's `layer.metadata` holds its record."""
RAW_KEY = "raw"
"""Under which the metadata of a layer that was developed from a RAW file says what the camera noted."""
FILE_KEY = "file"
"""Under which a record names the file that the input was read from."""
LAYER_ROLES = ("mask", "kernel", "reference")
"""Further inputs of a model that come from other layers."""
ROLES = ("noise_level", *LAYER_ROLES)


@dataclass(frozen=True)
class Settings:
    """Of one run. Arrays for the further inputs come beside them; here stand the names of their layers."""

    model: str = "denoise"
    """A name of the library."""
    strength: float = 1.0
    seed: int = 0
    samples: int = 1
    uncertainty: bool = False
    """Whether the samples' standard deviation becomes a layer; for two samples or more."""
    planes: Literal["all", "current"] = "all"
    noise_level: float | Literal["estimate"] = "estimate"
    mask: str = ""
    kernel: str = ""
    reference: str = ""
    device: str = "auto"
    memory: float = 2.0
    """GB that tiles and a result in memory may take; a larger result goes to the disk."""
    replace: bool = True
    """Whether a new result takes the place of the previous one of the same input."""

    @property
    def memory_bytes(self) -> float:
        return self.memory * 1e9

    def for_model(self, meta: Metadata) -> Settings:
        """With what this model cannot do left out: several samples without noise, a blend of two sizes."""
        samples = self.samples if meta.sampler.draws else 1
        return replace(
            self,
            samples=samples,
            uncertainty=self.uncertainty and samples > 1,
            strength=self.strength if meta.scale == 1 else 1.0,
        )


def asked_for(meta: Metadata) -> tuple[str, ...]:
    """The further inputs that the model takes and the user has to give, in the order in which they are shown."""
    roles = {spec.role for spec in meta.inputs}
    return tuple(role for role in ROLES if role in roles)


def default_level(meta: Metadata) -> float | Literal["estimate"]:
    """The noise level to begin with: what the model takes where the caller gives none, else an estimate."""
    found = next((spec.default for spec in meta.inputs if spec.role == "noise_level"), None)
    return "estimate" if found is None or found == "estimate" else float(found)


def record(
    settings: Settings, meta: Metadata, source: str, *, sha256: str, provider: str, seconds: float, file: str = ""
) -> dict[str, Any]:
    """What a result's metadata says about how it was made: plain values that any file format can hold.

    source: the name of the input.  file: what it was read from, "" where that is not known.
    """
    from restonnx import __version__

    taken = asked_for(meta)
    kept = {name: value for name, value in asdict(settings).items() if name not in ROLES or name in taken}
    about = {
        "model_version": meta.version,
        "model_sha256": sha256,
        "task": meta.task,
        "source": source,
        "provider": provider,
        "seconds": round(seconds, 3),
        "restonnx": __version__,
    }
    return kept | about | ({FILE_KEY: file} if file else {})


def from_record(kept: Any) -> Settings:
    """The settings in a record, those of another version as far as they are known here. Raises InputError."""
    if not isinstance(kept, Mapping) or not isinstance(kept.get("model"), str):
        raise InputError("this layer does not say how it was restored; choose one that restonnx made")
    defaults = Settings()
    found: dict[str, Any] = {}
    for field in fields(Settings):
        value, default = kept.get(field.name), getattr(defaults, field.name)
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, type(default)) and isinstance(value, bool) == isinstance(default, bool):
            found[field.name] = value
        elif field.name in ("noise_level", "strength", "memory") and isinstance(value, (int, float)):
            found[field.name] = float(value)
    return Settings(**found)
