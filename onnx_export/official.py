"""Published checkpoints: their files are read without unpickling, and their architecture is recognised."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from restonnx.errors import InputError, ModelError
from restonnx.training.networks.official import adm_unet, resshift_unet, vq

State = dict[str, Tensor]

NETWORKS: dict[str, Any] = {
    "resshift": resshift_unet,
    "vq": vq,
    "adm": adm_unet,
    "consistency": adm_unet,
    "latent-diffusion": adm_unet,
}
"""Modules with `config_from_state_dict` and `build`, by kind."""
PICKLED = frozenset({".pth", ".pt", ".ckpt", ".bin"})
WRAPPERS = ("ema", "params_ema", "state_dict", "model", "params")
"""Entries under which files keep their weights; averaged ones come first."""
PREFIXES = ("module.", "_orig_mod.", "model.", "first_stage_model.", "diffusion_model.")
"""What is taken off the names where all of them have it."""
PARTS = {
    "vq": ("first_stage_model.",),
    "latent-diffusion": ("model.diffusion_model.",),
}
"""Where a kind is found inside the file of a larger model."""
SURPLUS = {"vq": ("loss.",)}
"""Weights that published files hold besides: the critic of the autoencoder's training."""
NAMED = 3
"""How many keys an error names."""


def read_published(path: str | Path) -> State:
    """The weights in a .pth, .pt, .ckpt, .bin or .safetensors file by name, without wrappers and common prefixes.

    Averaged weights are preferred where the file holds both.  Nothing is ever unpickled but plain containers and
    tensors.  Raises InputError where there is no such file, ModelError where it is damaged, holds Python objects or
    no weights.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no checkpoint {path}")
    if path.suffix == ".safetensors":
        content: Any = _safetensors(path)
    elif path.suffix in PICKLED:
        content = _pickled(path)
    else:
        raise InputError(f"{path} must be a .pth, .pt, .ckpt, .bin or .safetensors file")
    while isinstance(content, Mapping):
        inside = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inside is None:
            break
        content = inside
    entries = content if isinstance(content, Mapping) else {}
    state = {name: value for name, value in entries.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not state:
        raise ModelError(f"{path} holds no weights by name, but {_summary(content)}")
    return _without_prefixes(_part(state, "ema_model.") or state)


def recognise(state: Mapping[str, Tensor], kind: str, overrides: Mapping[str, Any] | None = None) -> nn.Module:
    """The network of that kind with these weights, in float32 and in evaluation mode; the names must match exactly.

    overrides: options of the network's configuration, for what cannot be seen in the weights, such as
    num_head_channels.  Raises InputError for an unknown kind or option, ModelError where the weights are of another
    network, incomplete or not finite.
    """
    if kind not in NETWORKS:
        raise InputError(f"unknown kind {kind!r}; it must be one of {', '.join(NETWORKS)}")
    state = _selected(dict(state), kind)
    module = NETWORKS[kind]
    try:
        config = module.config_from_state_dict(state, **(overrides or {}))
        with torch.device("meta"):  # no weights are drawn that would be replaced at once
            network: nn.Module = module.build(config)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise ModelError(f"this is no {kind} checkpoint: {error}") from None
    except ModelError as error:
        raise ModelError(f"this is no {kind} checkpoint: {error}") from None
    if kind != "consistency" and getattr(config, "attention_dims", 1) == 2:
        raise ModelError(f"this is no {kind} checkpoint: its attention is that of a consistency model")
    if kind == "consistency" and config.attention_dims == 1:
        raise ModelError("this is no consistency checkpoint: its attention is that of ADM")
    return load(network, state, f"this is no complete {kind} checkpoint")


def load(network: nn.Module, state: Mapping[str, Tensor], complaint: str) -> nn.Module:
    """Give the network its weights, all of them and no others; ModelError in one line where they do not fit."""
    wanted = network.state_dict()
    missing = [name for name in wanted if name not in state]
    unexpected = [name for name in state if name not in wanted]
    shapes = [
        f"{name} {tuple(state[name].shape)} in place of {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in state and state[name].shape != value.shape
    ]
    found = ((missing, "missing"), (unexpected, "unexpected"), (shapes, "of another shape"))
    problems = [f"{len(names)} {what} ({_first(names)})" for names, what in found if names]
    if problems:
        raise ModelError(f"{complaint}: of {len(wanted)} weights, {', '.join(problems)}")
    weights = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    broken = [name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise ModelError(f"{complaint}: {len(broken)} weights are not finite ({_first(broken)})")
    network.load_state_dict(weights, strict=True, assign=True)
    return network.eval()


def _selected(state: State, kind: str) -> State:
    """The kind's own weights, out of a larger model's file where it is one."""
    for prefix in PARTS.get(kind, ()):
        if part := _part(state, prefix):
            state = _averaged(state, part)
            break
    surplus = SURPLUS.get(kind, ())
    return {name: value for name, value in state.items() if not name.startswith(surplus)} if surplus else state


def _averaged(state: State, part: State) -> State:
    """Latent diffusion keeps averaged weights under names without dots."""
    averaged = {name: state.get("model_ema." + f"diffusion_model.{name}".replace(".", "")) for name in part}
    return {name: part[name] if value is None else value for name, value in averaged.items()}


def _part(state: State, prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _without_prefixes(state: State) -> State:
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None):
        state = _part(state, prefix)
    return state


def _safetensors(path: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a safetensors file: {_line(error)}") from None


def _pickled(path: Path) -> Any:
    try:
        # A zip is mapped into memory: the file of a large model is not read twice.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if foreign := re.search(r"(?:GLOBAL|[Cc]lass|function) '?([\w.]+\.[\w.]+)'?", str(error)):
            raise ModelError(
                f"{path} holds the Python object {foreign[1]} besides tensors, and such files are never unpickled; "
                "save its state dict alone"
            ) from None
        raise ModelError(f"{path} is damaged or no torch checkpoint") from None
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can fail in any way
        raise ModelError(f"{path} is damaged or no torch checkpoint: {_line(error)}") from None


def _summary(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"the entries {_first([str(key) for key in content])}" if content else "an empty dictionary"
    return f"a {type(content).__name__}"


def _first(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def _line(error: Exception) -> str:
    """The first line of a message, short."""
    text = str(error).strip().splitlines() or [type(error).__name__]
    return text[0][:200]
