"""RDDM's parity vectors: where they lie, what configuration they were made with, which cases they hold."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "excerpt": Path(__file__).parent / "excerpt" / "rddm",
    "full": Path(os.environ.get("RESTONNX_PARITY", ROOT.parent / "shared" / "parity")) / "rddm",
}


@dataclass(frozen=True)
class Folder:
    """One configuration: its numbers and its files."""

    path: Path

    @cached_property
    def config(self) -> dict[str, Any]:
        return dict(json.loads((self.path / "config.json").read_text()))

    @cached_property
    def total(self) -> int:
        """T of the models that are sampled on a grid."""
        return 1 + max(int(times[0]) for key, times in self.arrays("sampling").items() if key.startswith("times/"))

    def arrays(self, file: str) -> dict[str, Any]:
        return read_arrays(self.path / f"{file}.npz")

    def stand_in(self, degraded: Any, total: int, cosine: Any, sine: Any) -> Callable[[Any, Any], tuple[Any, Any]]:
        """The analytic network: (x, (time of the residual, of the noise)) -> (residual, noise)."""
        res, eps = self.config["stand_in"]["res"], self.config["stand_in"]["eps"]

        def network(x: Any, times: Any) -> tuple[Any, Any]:
            tau_r, tau_n = (as_column(time, total) for time in times)
            residual = res["pull"] * (degraded - x) + res["sin_gain"] * sine(res["sin_freq"] * x)
            noise = eps["x"] * x + eps["y"] * degraded
            wave = eps["cos_gain"] * cosine(eps["cos_freq"] * x + eps["tau_freq"] * tau_n)
            return residual + res["tau"] * tau_r + res["bias"], noise + wave

        return network


@cache
def read_arrays(path: Path) -> dict[str, Any]:
    with np.load(path) as file:
        return {key: file[key] for key in file}


def cases(file: str, names: Callable[[dict[str, Any]], list[str]]) -> list[Any]:
    found: list[Any] = []
    for source, path in FOLDERS.items():
        if not (path / f"{file}.npz").exists():
            reason = f"no parity vectors at {path}; set RESTONNX_PARITY"
            found.append(pytest.param(None, "", id=source, marks=pytest.mark.skip(reason=reason)))
            continue
        folder = Folder(path)
        found.extend(pytest.param(folder, name, id=f"{source}-{name}") for name in names(folder.arrays(file)))
    return found


def groups(pattern: str) -> Callable[[dict[str, Any]], list[str]]:
    """The distinct first groups of the pattern among the names of a file."""
    compiled = re.compile(pattern)
    return lambda arrays: list(dict.fromkeys(found[1] for key in arrays if (found := compiled.fullmatch(key))))


def under(arrays: dict[str, Any], name: str) -> dict[str, Any]:
    return {key.removeprefix(f"{name}/"): value for key, value in arrays.items() if key.startswith(f"{name}/")}


def as_column(time: Any, total: int) -> Any:
    """A time as a share of all, ready to be added to images."""
    return time.reshape(-1, 1, 1, 1) / total if hasattr(time, "reshape") else time / total
