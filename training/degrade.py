"""A degradation of training, done to whole images: to look at it, and to make sets of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from restonnx.errors import InputError
from restonnx.training.degradations.every import DEGRADATIONS, AnyDegradation, Degradation
from restonnx.training.recipe import RECIPES, load, set_value

Floats = NDArray[np.float32]
WHOLE: dict[str, dict[str, Any]] = {"dual_camera": {"view": "centre"}, "micrograph": {"drawn_share": 0.0}}
"""What is otherwise for a whole image than for a crop of one: unless it is set, this."""
LEAST = 8
"""Pixels a side: of fewer, reductions and gradients have nothing left."""
HIDDEN = ("none", "raw", "linear")
"""Kinds that make no image of an image."""


def degradation(task: str, settings: Sequence[str] = ()) -> AnyDegradation:
    """The degradation of a task, with "key=value" settings; of a range both ends, or one number for them.

    task: a shipped recipe's name, a recipe's file, or a kind of damage with its defaults.
    Raises InputError in one line.
    """
    kinds = {kind: model for kind, model in DEGRADATIONS.items() if kind not in HIDDEN}
    shipped = sorted(path.stem for path in RECIPES.glob("*.toml"))
    if task in shipped or Path(task).is_file():
        content = load(task).degradation.model_dump(mode="json")
    elif task.replace("-", "_") in kinds:
        content = {"kind": task.replace("-", "_")}
    else:
        raise InputError(f"no task {task!r}: give a recipe (a name or a .toml file) or one of {', '.join(kinds)}")
    if content["kind"] in HIDDEN:
        raise InputError(f"{task} does nothing to an image that could be written: give one of {', '.join(kinds)}")
    content |= WHOLE.get(content["kind"], {})
    fields = kinds[content["kind"]].model_fields
    for setting in settings:
        set_value(content, setting)
    for key, value in content.items():  # one number for both ends of a range
        if isinstance(value, (int, float)) and isinstance(fields[key].default if key in fields else None, tuple):
            content[key] = [value, value]
    try:
        made: AnyDegradation = TypeAdapter(Degradation).validate_python(content)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in problem["loc"][1:])
        if problem["type"] == "extra_forbidden":
            known = ", ".join(name for name in fields if name != "kind")
            raise InputError(f"{task} has no setting {key!r}; it has {known}") from None
        said = problem["msg"].removeprefix("Value error, ")
        raise InputError(f"{key}: {said}" if key else said) from None
    return made


def degrade(image: Floats, damage: AnyDegradation, seed: int) -> tuple[Floats, ...]:
    """(H, W) or (H, W, C) in [0, 1] -> the clean image that belongs to it, the degraded one, and maybe a guide:
    a reference, or a mask (H, W), 1 where the image is as it should be.

    Raises InputError for images of less than LEAST pixels a side, and for values that are not finite.
    """
    if min(image.shape[:2]) < LEAST:
        size = f"{image.shape[1]} x {image.shape[0]}"
        raise InputError(f"an image of {size} pixels is too small to degrade: {LEAST} x {LEAST} are needed")
    if not np.isfinite(image).all():
        raise InputError("the image holds values that are not finite: replace them")
    batch = torch.from_numpy(np.ascontiguousarray(np.atleast_3d(image).transpose(2, 0, 1)))[None]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        made = damage.degrade(batch, generator)
    given = [found[0].permute(1, 2, 0).numpy() for found in made]
    return tuple(found if image.ndim == 3 and found.shape[2] > 1 else found[..., 0] for found in given)
