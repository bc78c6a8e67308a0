"""One self-describing .onnx file: the metadata that it carries, and reading it with every check but a run.

The graph's contract: the first input `image` is float32 (N, C, H, W) in `Metadata.range`; the second,
`noise`, is float32 (N, K, C', H', W') standard normal with K = `sampler.draws`, and absent where K is 0; the
output `restored` is float32 (N, C, H * scale, W * scale). H and W are multiples of `tile.multiple`. The noise
has C' = C channels and the size of the output, unless the sampler says otherwise (that of a latent model).
Further inputs, at most one of each role, are float32 too:
    noise_level  (N, 1, 1, 1)    standard deviation of the image's noise, in the units of `Metadata.range`
    mask         (N, 1, H, W)    1: the pixel is known, 0: it is missing
    kernel       (N, 1, kh, kw)  point spread function of odd sides, its sum 1
    reference    (N, C, H * scale, W * scale)  another image of the same place, in `Metadata.range`
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from restonnx.errors import ModelError
from restonnx.onnx_file import OnnxFile, TensorInfo, parse
from restonnx.trust import quoted, trusted

METADATA_KEY = "restonnx"
"""The key of `ModelProto.metadata_props` under which the JSON of `Metadata` stands."""

SCHEMA = 1
"""The one schema number that this version reads and writes."""

MAX_DRAWS = 1000
MAX_TILE_SIDE = 65536

Text = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


Role = Literal["image", "noise", "noise_level", "mask", "kernel", "reference", "strength"]


class InputSpec(_Part):
    """One input of the graph: its name there, and what the caller has to put into it."""

    name: Text
    role: Role
    default: Literal[0, "estimate"] | None = None
    """Of a noise level that the caller may leave out: taken to be none, or found from the image."""

    @model_validator(mode="after")
    def _belongs_to_a_noise_level(self) -> Self:
        if self.default is not None and self.role != "noise_level":
            raise ValueError(f"a default belongs to the role noise_level, not to {self.role}")
        return self


class TileSpec(_Part):
    """How an image may be cut into tiles. All lengths are in pixels of the input."""

    mode: Literal["halo", "overlap"]
    """halo: only a tile's core is written; overlap: tiles are blended (networks with global statistics), and
    `preferred` is the side that they have."""
    multiple: int = Field(ge=1)
    """Height, width and every tile's start are multiples of this."""
    halo: int = Field(ge=0)
    """Border that is read and thrown away; measured: a tiled result is within 0.25/255 of the whole. In the
    mode overlap: width over which neighbouring tiles fade into each other."""
    halo_exact: int = Field(ge=0)
    """The true receptive radius of all steps: with this halo a tiled result equals the whole one."""
    preferred: int = Field(ge=1, le=MAX_TILE_SIDE)
    """Side of a whole tile, halo included; of a halo that would cost much, tiles are larger."""

    @model_validator(mode="after")
    def _leaves_a_core(self) -> Self:
        if self.halo * 2 >= self.preferred:
            raise ValueError(f"preferred ({self.preferred}) must be more than twice the halo ({self.halo})")
        if self.multiple > self.preferred:
            raise ValueError(f"preferred ({self.preferred}) must be at least multiple ({self.multiple})")
        return self


class SamplerSpec(_Part):
    """The sampler that is unrolled in the graph."""

    family: Literal["resshift", "rddm", "dcdp", "consistency", "direct"]
    steps: int = Field(ge=1, le=MAX_DRAWS)
    draws: int = Field(ge=0, le=MAX_DRAWS)
    """K of the `noise` input: normal images per sample, in the sampler's order; 0 without noise."""
    noise_channels: int | None = Field(None, ge=1, le=1024)
    """Of each normal image; None: as many as the image has."""
    noise_stride: int = Field(1, ge=1, le=256)
    """Pixels of the restored image per pixel of the noise, along a side; more than 1 for latent models."""
    kappa: float | None
    options: dict[str, float | int | str | bool | list[Any]] = {}


class MosaicSpec(_Part):
    """How a model sees a mosaic, or one of camera_rgb the colours made of it: 0 is black, 1 saturation, not balanced.

    With four channels the mosaic is packed: red, green beside red, green beside blue, blue, in any camera's phase.
    """

    reading: Literal["linear", "k-sigma", "variance-stabilised"] = "linear"
    """k-sigma: scaled and shifted by the frame's noise profile until it has the noise of `anchor`.
    variance-stabilised: through a generalised Anscombe transform, after which 0 is black, 1 is saturation, and the
    noise has one standard deviation everywhere (which an input of the role noise_level is given)."""
    anchor: tuple[float, float] | None = None
    """(a, b) of the noise with variance a x + b that k-sigma leads to."""

    @model_validator(mode="after")
    def _has_its_anchor(self) -> Self:
        if (self.anchor is not None) != (self.reading == "k-sigma"):
            raise ValueError("anchor belongs to the reading k-sigma, and to no other")
        if self.anchor is not None and (self.anchor[0] <= 0 or self.anchor[1] < 0):
            raise ValueError(f"anchor must be a > 0 and b >= 0, not {self.anchor}")
        return self


class DataSource(_Part):
    """A data set that the network was trained on."""

    name: Text
    licence: Text


class Metadata(_Part):
    """Everything that is needed to run the model correctly, and to know where it comes from."""

    schema_: Literal[1] = Field(1, alias="schema")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)
    """The name in the library, such as "denoise-detail"."""
    title: Text
    version: Text
    task: Text
    description: str
    sampler: SamplerSpec
    domain: Literal["display_rgb", "display_gray", "linear_rgb", "camera_rgb", "cfa"]
    channels: int = Field(ge=1, le=64)
    range: tuple[float, float]
    """The values that stand for black and white at the graph's input and output."""
    scale: int = Field(ge=1, le=16)
    """Side of the restored image over the side of the degraded one."""
    inputs: tuple[InputSpec, ...]
    """In the graph's order: `image`, then `noise` unless the sampler draws none, then others."""
    tile: TileSpec
    mosaic: MosaicSpec | None = None
    """For the domains cfa and camera_rgb alone; None there is the linear reading."""
    precision: Literal["float32", "float16", "mixed", "int8"]
    licence: Text
    authors: tuple[str, ...]
    training_data: tuple[DataSource, ...]
    recipe: str
    """Name of the training recipe; `recipe_hash` is the SHA-256 of its content."""
    recipe_hash: str
    network: dict[str, JsonValue]
    """Kind and options, enough for training to build the network again."""
    measured: dict[str, float] = {}
    """Measured quality, such as {"cbsd68_sigma25_psnr": 30.9}."""
    parent: str | None = None
    """SHA-256 of the checkpoint that training started from."""

    @property
    def for_raw(self) -> bool:
        """Whether it sees a sensor's data as a RAW pipeline alone gives them: `restonnx develop`, `restonnx.isp`."""
        return self.domain == "cfa" or self.mosaic is not None

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        low, high = self.range
        if low >= high:
            raise ValueError(f"range must rise from black to white, not from {low:g} to {high:g}")
        allowed = _CHANNELS_OF_DOMAIN[self.domain]
        if self.channels not in allowed:
            raise ValueError(
                f"channels must be {' or '.join(map(str, allowed))} for {self.domain}, not {self.channels}"
            )
        if self.mosaic is not None and self.domain not in ("cfa", "camera_rgb"):
            raise ValueError(f"mosaic belongs to the domains cfa and camera_rgb, not to {self.domain}")
        roles = [spec.role for spec in self.inputs]
        wanted = ["image", "noise"] if self.sampler.draws else ["image"]
        if roles[: len(wanted)] != wanted or roles.count("image") != 1 or roles.count("noise") != len(wanted) - 1:
            raise ValueError(f"inputs must begin with the roles {', '.join(wanted)} (draws is {self.sampler.draws})")
        if [spec.name for spec in self.inputs[: len(wanted)]] != wanted:
            raise ValueError(f"inputs of the roles {', '.join(wanted)} must bear these very names")
        if len({spec.name for spec in self.inputs}) != len(self.inputs):
            raise ValueError("inputs must have different names")
        if len(set(roles)) != len(roles):
            raise ValueError("inputs must have different roles")
        if self.tile.multiple * self.scale % self.sampler.noise_stride:
            raise ValueError(
                f"tile.multiple ({self.tile.multiple}) times scale ({self.scale}) must be a multiple of "
                f"sampler.noise_stride ({self.sampler.noise_stride})"
            )
        return self

    @property
    def noise_channels(self) -> int:
        """Channels of the input `noise`."""
        return self.sampler.noise_channels or self.channels

    def noise_window(self, rows: slice, cols: slice) -> tuple[slice, slice]:
        """The pixels of the noise that belong to a window of the image which lies on multiples."""
        scale, stride = self.scale, self.sampler.noise_stride
        return (
            slice(rows.start * scale // stride, rows.stop * scale // stride),
            slice(cols.start * scale // stride, cols.stop * scale // stride),
        )

    def to_json(self) -> str:
        """The text that the file holds under `METADATA_KEY`; `Metadata.model_validate_json` reads it."""
        return self.model_dump_json(by_alias=True)


_CHANNELS_OF_DOMAIN: dict[str, tuple[int, ...]] = {
    "display_rgb": (3,),
    "display_gray": (1,),
    "linear_rgb": (3,),
    "camera_rgb": (3, 4),
    "cfa": (1, 4),
}


@dataclass(frozen=True)
class ModelFile:
    """A model file that was read, found sound, and may be given to a session."""

    path: Path
    metadata: Metadata
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    size_bytes: int
    """Of the file and of the data outside it."""
    external: tuple[Path, ...] = ()
    """Files that hold weights outside the .onnx file, all inside its folder."""

    @functools.cached_property
    def sha256(self) -> str:
        """Of the .onnx file, as 64 hexadecimal digits."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: str | Path) -> ModelFile:
    """Read the .onnx file at `path` and check all that can be checked without running it.

    Raises ModelError, in one line, for what is no ONNX file, was not made for restonnx, contradicts its own
    metadata, needs foreign operators, is absurdly large, or points at data outside its folder.
    """
    path = Path(path).expanduser()
    onnx = parse(path)
    metadata = _metadata(path, onnx)
    external = trusted(path, onnx)
    _check_inputs(path, metadata, onnx.inputs)
    _check_output(path, metadata, onnx.outputs)
    size_bytes = onnx.size_bytes + sum(file.stat().st_size for file in external)
    return ModelFile(path, metadata, onnx.inputs, onnx.outputs, size_bytes, external)


def _metadata(path: Path, onnx: OnnxFile) -> Metadata:
    from pydantic_core import from_json

    text = onnx.metadata.get(METADATA_KEY)
    if text is None:
        by = f"another program ({quoted(onnx.producer)})" if onnx.producer else "another program"
        raise ModelError(
            f'{path} was made by {by} and has no metadata under the key "{METADATA_KEY}": '
            "export it with `restonnx export`, or add the metadata"
        )
    try:
        content = from_json(text)
    except ValueError:
        raise ModelError(f'{path}: the metadata under the key "{METADATA_KEY}" is not valid JSON') from None
    if not isinstance(content, dict):
        raise ModelError(f'{path}: the metadata under the key "{METADATA_KEY}" must be a JSON object')
    schema = content.get("schema")
    if schema != SCHEMA or isinstance(schema, bool):
        shown = "no schema number" if schema is None else f"schema {quoted(schema)}"
        raise ModelError(
            f"{path}: the metadata has {shown}, but this restonnx reads schema {SCHEMA}: "
            "export the model again with `restonnx export`, or upgrade restonnx"
        )
    try:
        return Metadata.model_validate_json(text)
    except ValidationError as error:
        raise ModelError(f"{path}: {_first_problem(error)}") from None


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    where = f"the metadata's field {quoted(field)}" if field else "the metadata"
    return f"{where} is not valid: {message[:1].lower()}{message[1:]}{more}"


def _check_inputs(path: Path, metadata: Metadata, inputs: tuple[TensorInfo, ...]) -> None:
    wanted, found = [spec.name for spec in metadata.inputs], [tensor.name for tensor in inputs]
    if wanted != found:
        raise ModelError(
            f"{path}: the metadata names the inputs {', '.join(map(quoted, wanted))}, "
            f"but the graph takes {', '.join(map(quoted, found)) or 'none'}"
        )
    for spec, tensor in zip(metadata.inputs, inputs, strict=True):
        _check_dtype(path, "input", tensor)
        if (lengths := _lengths(metadata, spec.role)) is not None:
            _check_tensor(path, "input", tensor, lengths, spec.role)


def _check_output(path: Path, metadata: Metadata, outputs: tuple[TensorInfo, ...]) -> None:
    if [tensor.name for tensor in outputs] != ["restored"]:
        found = ", ".join(quoted(tensor.name) for tensor in outputs) or "none"
        raise ModelError(f'{path}: the graph must have the one output "restored", not {found}')
    _check_tensor(path, "output", outputs[0], {"N": None, "C": metadata.channels, "H": None, "W": None})


def _lengths(metadata: Metadata, role: Role) -> dict[str, int | None] | None:
    """The axes of an input, with the lengths that are fixed; None for a role whose form is left to the model."""
    match role:
        case "noise":
            return {"N": None, "K": metadata.sampler.draws, "C": metadata.noise_channels, "H": None, "W": None}
        case "noise_level":
            return {"N": None, "C": 1, "H": 1, "W": 1}
        case "mask" | "kernel":
            return {"N": None, "C": 1, "H": None, "W": None}
        case "image" | "reference":
            return {"N": None, "C": metadata.channels, "H": None, "W": None}
        case "strength":
            return None


def _check_tensor(
    path: Path, what: str, tensor: TensorInfo, wanted: dict[str, int | None], role: Role = "image"
) -> None:
    """`wanted`: the lengths of the axes. Those that are None must be open, so that any size runs."""
    _check_dtype(path, what, tensor)
    subject = f'{path}: the {what} "{tensor.name}"'
    if tensor.shape is None or len(tensor.shape) != len(wanted):
        rank = "no known shape" if tensor.shape is None else f"{len(tensor.shape)} dimensions"
        raise ModelError(f"{subject} has {rank}; it must have {len(wanted)} ({', '.join(wanted)})")
    is_open = [axis for axis, length in wanted.items() if length is None]
    for (axis, right), length in zip(wanted.items(), tensor.shape, strict=True):
        if right is None and length is not None and what == "input":
            names = f"{', '.join(is_open[:-1])} and {is_open[-1]}" if len(is_open) > 1 else axis
            raise ModelError(f"{subject} is fixed to {axis} = {length}; {names} must be left open")
        if right is not None and length != right:
            kind = {"K": "draws", "C": "channels", "H": "rows", "W": "columns"}[axis]
            says = "the metadata says" if role in ("image", "noise", "reference") else f"a {role} has"
            raise ModelError(f"{subject} has {length or 'an open number of'} {kind}, but {says} {right}")


def _check_dtype(path: Path, what: str, tensor: TensorInfo) -> None:
    if tensor.dtype != "float32":
        raise ModelError(f'{path}: the {what} "{tensor.name}" is {tensor.dtype}; it must be float32')
