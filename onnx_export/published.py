"""A published checkpoint becomes one .onnx file: recognised, unrolled, described, compared with torch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from restonnx.errors import InputError
from restonnx.model import Metadata, SamplerSpec, TileSpec
from restonnx.onnx_export.consistency_graphs import ConsistencyChain
from restonnx.onnx_export.export import Export
from restonnx.onnx_export.freeze import freeze
from restonnx.onnx_export.official import NETWORKS, State, load, read_published, recognise
from restonnx.onnx_export.official_graphs import AdmDenoiser, ConsistencyDenoiser, LatentResShift
from restonnx.onnx_export.options import (
    KINDS,
    PUBLISHED,
    AdmOptions,
    ConsistencyOptions,
    Options,
    RddmOptions,
    ResShiftOptions,
    parse,
)
from restonnx.onnx_export.rddm_graphs import Rddm, RddmConverted, standardised
from restonnx.onnx_export.stored import BYTES, check_precision
from restonnx.tiles import smallest_tile
from restonnx.training.networks.official import rddm_unet

Graph = LatentResShift | Rddm | RddmConverted | AdmDenoiser | ConsistencyDenoiser | ConsistencyChain
SIZES = ((1, 1, 1), (2, 1, 2))
"""N, and H and W in units, at which graphs are compared: these networks are heavy."""
LEAST_UNIT = 32
CHOP = 64, 16
"""Side of a tile and its overlap in ResShift's published code, in pixels of an image to be enlarged four times; the
least of three choices, as the autoencoder's attention takes memory with the fourth power of the side."""
RDDM_SIDE = 256
"""On which RDDM was trained and tested."""
FADE = 4
"""What part of a tile's side is blended, as one in so many, where nothing is published."""
LARGEST = 2 * 10**9
"""Bytes that one file can hold."""
WEIGHTS = {
    "resshift": "the authors' weights of ResShift are for non-commercial use (S-Lab License 1.0)",
    "rddm": "the authors' repository of RDDM states no licence",
    "adm": "OpenAI's weights of guided diffusion are published under the MIT licence",
    "consistency": "OpenAI's consistency models are published under the MIT licence",
}


def export_published(
    checkpoint: str | Path,
    kind: str,
    out: str | Path,
    *,
    autoencoder: str | Path | None = None,
    settings: Mapping[str, Any] | Sequence[str] = (),
    name: str | None = None,
    title: str | None = None,
    licence: str | None = None,
    precision: str = "float16",
) -> Export:
    """Write the checkpoint of `kind` (resshift, rddm, adm or consistency) as one .onnx file.

    checkpoint: .pth, .pt, .ckpt, .bin or .safetensors, never unpickled.  autoencoder: of a latent ResShift.
    settings:   what cannot be seen in the weights, by name or as "NAME=VALUE": the options of the kind in `options`,
                and those of its network's configuration as "network.NAME".
    licence:    of the weights; by default it is said to be unknown, with what is known of the published ones.
    Raises InputError, ModelError in one line, and writes nothing then.
    """
    if kind not in PUBLISHED:
        raise InputError(f"unknown kind {kind!r}; it must be one of {', '.join(PUBLISHED)}")
    check_precision(precision)
    checkpoint = Path(checkpoint)
    chosen, architecture = parse(kind, settings)
    if autoencoder is not None and not (isinstance(chosen, ResShiftOptions) and chosen.space == "latent"):
        raise InputError("an autoencoder goes with a latent resshift alone")
    coder = None if autoencoder is None else read_published(autoencoder)
    module = graph_of(kind, read_published(checkpoint), chosen, architecture, coder)
    weights = sum(p.numel() for p in module.parameters()) * BYTES[precision]
    if weights > LARGEST:
        smaller = "; --precision float16 halves it" if precision == "float32" else ""
        raise InputError(f"the weights take {weights / 1e9:.1f} GB, more than the 2 GB of one .onnx file{smaller}")
    name = name or _slug(checkpoint.stem) or kind
    metadata = describe(
        module, kind, chosen, name=name, title=title or name, licence=licence, parent=_sha256(checkpoint)
    )
    multiple = metadata.tile.multiple
    unit = multiple * -(-LEAST_UNIT // multiple)
    errors = freeze(module, module.ports, metadata, out, unit=unit, precision=precision, sizes=SIZES)
    return Export(Path(out), metadata, errors)


def graph_of(
    kind: str, state: State, options: Options, network: Mapping[str, Any], autoencoder: State | None = None
) -> Graph:
    """The network with these weights, and its sampler, as a module."""
    try:
        match options:
            case ResShiftOptions():
                return _resshift(state, options, network, autoencoder)
            case RddmOptions():
                return _rddm(state, options, network)
            case AdmOptions():
                unet: Any = recognise(state, kind, network)
                label = _label(unet, options.label)
                return AdmDenoiser(unet, options.alphas_cumprod(), steps=options.steps, label=label).eval()
            case ConsistencyOptions():
                unet = recognise(state, kind, network)
                one = ConsistencyDenoiser(unet, options.preconditioning(), label=_label(unet, options.label))
                shares = options.shares()
                return (one if len(shares) == 1 else ConsistencyChain(one, shares)).eval()
            case _:
                raise InputError(f"{kind} is no published network")
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"this {kind} cannot be sampled so: {error}") from None


def describe(
    module: Graph, kind: str, options: Options, *, name: str, title: str, licence: str | None, parent: str | None
) -> Metadata:
    """The metadata of a published network; what is not known is said not to be."""
    channels = int(module.ports[0].shape[1])
    if channels not in (1, 3):
        raise InputError(f"images have 1 or 3 channels, but this network takes {channels}")
    scale = getattr(module, "scale", 1)
    noise = next((port for port in module.ports if port.role == "noise"), None)
    stride = getattr(module, "stride", 1)
    try:
        return Metadata(
            schema_=1,
            name=name,
            title=title,
            version="1.0.0",
            task=_task(module, scale),
            description=_description(module, kind),
            sampler=SamplerSpec(
                family="direct" if kind == "adm" else kind,
                steps=module.steps,
                draws=module.draws,
                noise_channels=None if noise is None or noise.shape[2] == channels else int(noise.shape[2]),
                noise_stride=stride,
                kappa=getattr(options, "kappa", None),
                options=_stated(options),
            ),
            domain="display_rgb" if channels == 3 else "display_gray",
            channels=channels,
            range=module.range,
            scale=scale,
            inputs=tuple(port.spec() for port in module.ports),
            tile=_tiles(module, options, scale),
            precision="float32",
            licence=licence or f"unknown ({WEIGHTS[kind]})",
            authors=(),
            training_data=(),
            recipe="",
            recipe_hash="",
            network=_architecture(module, kind),
            parent=parent,
        )
    except ValueError as error:
        lines = str(error).splitlines()
        raise InputError(f"no such model can be described: {lines[min(2, len(lines) - 1)].strip()}") from None


def from_exported(metadata: Metadata, state: State) -> AdmDenoiser | ConsistencyDenoiser:
    """The prior that was exported with this metadata, from the weights in its file."""
    architecture = dict(metadata.network)
    kind = str(architecture.pop("kind", ""))
    if kind not in ("adm", "consistency"):
        raise InputError(f"{metadata.name} is no prior: it was made from {kind or 'an unknown network'}")
    lists = {key: tuple(value) if isinstance(value, list) else value for key, value in architecture.items()}
    module = NETWORKS[kind]
    network: Any = module.build(module.AdmConfig(**lists))
    wanted = network.state_dict()
    network = load(network, {key: state[key] for key in wanted if key in state}, f"{metadata.name} is incomplete")
    known = {key: value for key, value in metadata.sampler.options.items() if key in KINDS[kind].model_fields}
    options, _ = parse(kind, known)
    if isinstance(options, AdmOptions):
        return AdmDenoiser(network, options.alphas_cumprod(), steps=1, label=options.label).eval()
    assert isinstance(options, ConsistencyOptions)
    return ConsistencyDenoiser(network, options.preconditioning(), label=options.label).eval()


def _resshift(
    state: State, options: ResShiftOptions, network: Mapping[str, Any], autoencoder: State | None
) -> LatentResShift:
    unet: Any = recognise(state, "resshift", network)
    if options.space == "latent" and autoencoder is None:
        raise InputError(
            "resshift works on latents: pass its autoencoder (--autoencoder FILE), or --set space=pixel for a network "
            "of pixels"
        )
    coder: Any = None if autoencoder is None else recognise(autoencoder, "vq")
    scale = options.scale
    if scale is None:
        scale = coder.factor // unet.lq_factor if coder is not None and unet.config.cond_lq else 1
    return LatentResShift(
        unet, coder, options.schedule(), scale, reading=options.reading(), latent_scale=options.latent_scale
    ).eval()


def _rddm(state: State, options: RddmOptions, network: Mapping[str, Any]) -> Rddm | RddmConverted:
    weights = rddm_unet.network_state(state)
    config = rddm_unet.config_from_state_dict(weights, **network)
    with torch.device("meta"):
        empty = rddm_unet.build(config)
    unet: Any = standardised(load(empty, weights, "this is no complete rddm checkpoint"))  # type: ignore[arg-type]
    stored = rddm_unet.schedule_buffers(state)
    schedule = options.residual_schedule(stored)
    if options.converted:
        clip = (-1.0, 1.0) if options.clip else None
        return RddmConverted(unet, schedule, steps=options.steps, eta=options.eta, clip=clip).eval()
    heads = 1 if config.layout == "single" and config.heads_per_network == 1 else 2
    return Rddm(
        unet,
        schedule,
        options.reading(heads),
        steps=options.steps,
        eta=options.eta,
        order=options.order,
        form=options.form,
        generate=options.generate,
        signed_mask=options.mask == "signed",
        as_published=options.as_published,
    ).eval()


def _label(network: Any, label: int | None) -> int | None:
    classes = network.config.num_classes
    if classes is None and label is not None:
        raise InputError("the network was trained without classes: leave the option label out")
    if classes is not None and (label is None or label >= classes):
        raise InputError(f"the network was trained with classes: set the option label, 0 to {classes - 1}")
    return label


def _task(module: Graph, scale: int) -> str:
    if isinstance(module, AdmDenoiser | ConsistencyDenoiser):
        return "prior"
    if isinstance(module, ConsistencyChain):  # which takes noise: a denoiser, but no prior to be asked over and over
        return "denoise"
    if isinstance(module, RddmConverted) or getattr(module, "generate", False):
        return "generate"
    if scale > 1:
        return "superresolve"
    return "inpaint" if any(port.role == "mask" for port in module.ports) else "restore"


def _description(module: Graph, kind: str) -> str:
    text = {
        "resshift": "A published network of ResShift (arXiv 2307.12348)",
        "rddm": "A published network of RDDM (arXiv 2308.13712)",
        "adm": "A published network of guided diffusion (arXiv 2105.05233), as a denoiser of any noise level",
        "consistency": "A published consistency model (arXiv 2303.01469), as a denoiser of any noise level",
    }[kind]
    if getattr(module, "autoencoder", None) is not None:
        text += " in the latent space of its autoencoder"
    return f"{text}. What it is for and what it was trained on stands with its weights."


def _tiles(module: Graph, options: Options, scale: int) -> TileSpec:
    """Global statistics in these networks: tiles have the size of the training images where it is known, and fade."""
    if isinstance(module, LatentResShift):
        side, halo = (length * max(1, 4 // scale) for length in CHOP)
    else:
        side = options.image_size if isinstance(options, AdmOptions | ConsistencyOptions) else RDDM_SIDE
        halo = side // FADE
    side = max(side, smallest_tile(-(-halo // 2), module.multiple))
    return TileSpec(
        mode="overlap",
        multiple=module.multiple,
        halo=halo,
        halo_exact=0,
        preferred=side // module.multiple * module.multiple,
    )


def _stated(options: Options) -> dict[str, Any]:
    """The options as metadata hold them: what was left to a default of another kind is left out."""
    dumped = json.loads(options.model_dump_json(exclude_none=True, exclude={"steps", "kappa"}))
    return {key: value for key, value in dumped.items() if not isinstance(value, dict)}


def _architecture(module: Graph, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": kind, **_plain(module.network)}
    coder = getattr(module, "autoencoder", None)
    return found if coder is None else found | {"autoencoder": _plain(coder)}


def _plain(network: nn.Module) -> dict[str, Any]:
    """The configuration of a network as JSON has it."""
    config: Any = network.config
    found: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return found


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:64].strip("-")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
