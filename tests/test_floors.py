"""The floors of the house: an import goes down only, and what is heavy is imported inside functions."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "restonnx"
WINGS = ("training", "onnx_export")

# From the ground up. A module may import from its own floor and from those below it.
FLOORS = (
    {"errors"},
    {"diffusion"},
    {
        "onnx_file",
        "trust",
        "machine",
        "model",
        "providers",
        "threads",
        "library",
        "session",
        "tiles",
        "blend",
        "pieces",
        "moments",
        "noise",
        "noise_level",
        "photograph",
        "parallax",
        "arrays",
        "extra_inputs",
        "files",
    }
    | {"region"},
    {"restore", "solve", "user_physics"},
    {"blocks", "homography", "images", "isp", "registration", "speed"},
    {"training"},
    {"onnx_export"},
    {"plugin", "cli", "__init__", "__main__"},
)
VIEW = "restonnx.plugin.view."
"""Loaded by napari alone, once its window is there."""
# What ruff bans at module level, so that the two cannot differ.
HEAVY = frozenset(
    tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["ruff"]["lint"]["flake8-tidy-imports"][
        "banned-module-level-imports"
    ]
)


@dataclass(frozen=True)
class Import:
    """One imported module, as an absolute dotted name, and where the import stands."""

    module: str
    """The importing module."""
    target: str
    line: int
    on_import: bool
    """Whether it runs when the module is imported: outside functions and outside `if TYPE_CHECKING`."""

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def read_modules() -> dict[str, Path]:
    """Every module of the package by its dotted name; the wings count as parts of it, as when installed."""
    found: dict[str, Path] = {}
    for top, prefix in ((SRC, ()), *((ROOT / wing, (wing,)) for wing in WINGS)):
        for path in sorted(top.rglob("*.py")):
            inside = path.relative_to(top).with_suffix("").parts
            if top == SRC and inside[0] in WINGS:  # some Pythons follow the links
                continue
            names = ("restonnx", *prefix, *inside)
            found[".".join(names[:-1] if names[-1] == "__init__" else names)] = path
    return found


def imports_of(module: str, source: str, package: bool, known: frozenset[str]) -> Iterator[Import]:
    """The imports in a module's source. `from a import b` counts as a.b where that is a module, else as a."""
    parent = module.split(".") if package else module.split(".")[:-1]

    def absolute(name: str, level: int) -> str:
        return ".".join([*parent[: len(parent) + 1 - level], *([name] if name else [])]) if level else name

    def walk(node: ast.AST, on_import: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(module, alias.name, node.lineno, on_import) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node.module or "", node.level)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield Import(module, full if full in known else base, node.lineno, on_import)
        elif isinstance(node, ast.Call) and (name := imported_by_call(node)):
            bare = name.lstrip(".")
            yield Import(module, absolute(bare, len(name) - len(bare)), node.lineno, on_import)
        inside_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for_types = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        never_run = node.body if isinstance(node, ast.If) and for_types else []
        for child in ast.iter_child_nodes(node):
            yield from walk(child, on_import and not inside_function and child not in never_run)

    return walk(ast.parse(source), True)


def imported_by_call(node: ast.Call) -> str | None:
    """The module's name in import_module("name") or __import__("name")."""
    if ast.unparse(node.func).endswith(("import_module", "__import__")):
        match node.args:
            case [ast.Constant(value=str(name)), *_]:
                return name
    return None


def all_imports() -> list[Import]:
    modules = read_modules()
    known = frozenset(modules)
    return [
        found
        for module, path in modules.items()
        for found in imports_of(module, path.read_text("utf-8"), path.name == "__init__.py", known)
    ]


def room(module: str) -> str:
    """The part of the package that a module belongs to: restonnx.images.tiff lies in images."""
    return [*module.split("."), "__init__"][1]


def floor(module: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if room(module) in rooms:
            return number
    raise AssertionError(
        f"{module} stands on no floor: give {room(module)} its place in FLOORS of {Path(__file__).name}"
    )


def is_ours(name: str) -> bool:
    return name.split(".")[0] == "restonnx"


def goes_up(found: Import) -> bool:
    return is_ours(found.target) and floor(found.target) > floor(found.module)


def reaches_a_wing_from_outside_a_command(found: Import) -> bool:
    if room(found.target) not in WINGS or not is_ours(found.target) or room(found.module) in WINGS:
        return False
    return room(found.module) != "cli" or found.on_import


def is_heavy_on_import(found: Import) -> bool:
    return (
        room(found.module) not in WINGS
        and found.on_import
        and found.target.split(".")[0] in HEAVY
        and not found.module.startswith(VIEW)
    )


def reaches_the_view_without_napari(found: Import) -> bool:
    """Only napari's manifest names what imports Qt; a command of it gets there inside its function."""
    return found.on_import and found.target.startswith(VIEW) and not found.module.startswith(VIEW)


def trains_through_more_than_models(found: Import) -> bool:
    """Training stands on the models' floor; only what measures a finished model runs it as a user would, and what
    reads a user's own files reads them as everything else does."""
    if found.module in ("restonnx.training.files", "restonnx.training.pairs") and room(found.target) == "images":
        return False
    measures = found.module == "restonnx.training.evaluate" or found.module.startswith("restonnx.training.evaluation.")
    return (
        room(found.module) == "training"
        and is_ours(found.target)
        and floor("restonnx.model") < floor(found.target) < floor("restonnx.training")
        and not measures
    )


def is_foreign_to_diffusion(found: Import) -> bool:
    top = found.target.split(".")[0]
    return (
        room(found.module) == "diffusion"
        and not is_ours(found.target)
        and top != "numpy"
        and top not in sys.stdlib_module_names
    )


def reaches_a_wing_by_a_short_name(found: Import) -> bool:
    """`import training` works in the root of a checkout and loads everything a second time."""
    return found.target.split(".")[0] in WINGS


RULES = (
    goes_up,
    reaches_a_wing_from_outside_a_command,
    is_heavy_on_import,
    reaches_the_view_without_napari,
    trains_through_more_than_models,
    is_foreign_to_diffusion,
    reaches_a_wing_by_a_short_name,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_import_breaks_a_rule(rule: object) -> None:
    assert callable(rule)
    imports = all_imports()
    assert len(imports) > 50
    assert not [str(found) for found in imports if rule(found)]


@pytest.mark.parametrize("wing", [*WINGS, "diffusion", "cli"])
def test_the_rules_see_every_wing(wing: str) -> None:
    assert any(room(found.module) == wing for found in all_imports())


@pytest.mark.parametrize(
    ("module", "source", "broken"),
    [
        ("restonnx.tiles", "from .restore import restore", {"goes_up"}),
        ("restonnx.tiles", "from . import restore", {"goes_up"}),
        ("restonnx.tiles", "def f():\n    import restonnx.images.tiff", {"goes_up"}),
        ("restonnx.tiles", "from . import __version__", {"goes_up"}),
        ("restonnx.images.tiff", "from ..errors import InputError", set()),
        ("restonnx.images.tiff", "from ..cli import main", {"goes_up"}),
        ("restonnx.restore", "from . import tiles, noise", set()),
        ("restonnx.training.loop", "from ..onnx_export.export import export", {"goes_up"}),
        ("restonnx.training.loop", "import torch\nfrom ..model import Metadata", set()),
        ("restonnx.training.loop", "from ..restore import restore", {"trains_through_more_than_models"}),
        ("restonnx.training.evaluate", "from ..restore import restore", set()),
        ("restonnx.training.pairs", "from ..images import read", set()),
        ("restonnx.training.pairs", "from ..restore import restore", {"trains_through_more_than_models"}),
        ("restonnx.training.loop", "from ..cli.console import say", {"goes_up"}),
        ("restonnx.cli.train", "def f():\n    from restonnx.training import loop", set()),
        (
            "restonnx.cli.train",
            "from restonnx.training import loop",
            {"reaches_a_wing_from_outside_a_command"},
        ),
        (
            "restonnx.plugin.view",
            "def f():\n    from ..training import loop",
            {"reaches_a_wing_from_outside_a_command"},
        ),
        ("restonnx.plugin.view.form", "from napari.layers import Image", set()),
        ("restonnx.plugin.source", "from napari.layers import Image", {"is_heavy_on_import"}),
        ("restonnx.plugin.source", "from restonnx.plugin.view.run import Run", {"reaches_the_view_without_napari"}),
        ("restonnx.plugin.commands", "def f():\n    from restonnx.plugin.view.open import opened", set()),
        ("restonnx.session", "import onnxruntime as ort", {"is_heavy_on_import"}),
        ("restonnx.session", "class A:\n    from PIL import Image", {"is_heavy_on_import"}),
        ("restonnx.session", "def f():\n    import onnxruntime as ort", set()),
        ("restonnx.session", "if TYPE_CHECKING:\n    import onnxruntime as ort", set()),
        ("restonnx.session", "if TYPE_CHECKING:\n    pass\nelse:\n    import torch", {"is_heavy_on_import"}),
        ("restonnx.session", "import importlib\nimportlib.import_module('torch.nn')", {"is_heavy_on_import"}),
        ("restonnx.session", "def f():\n    importlib.import_module('.cli', 'restonnx')", {"goes_up"}),
        ("restonnx.diffusion.rddm", "import math\nimport numpy as np\nfrom . import schedules", set()),
        ("restonnx.diffusion.rddm", "def f():\n    import scipy.fft", {"is_foreign_to_diffusion"}),
        ("restonnx.diffusion.rddm", "from ..arrays import layout", {"goes_up"}),
        (
            "restonnx.onnx_export.export",
            "from training.loop import train",
            {"reaches_a_wing_by_a_short_name"},
        ),
    ],
)
def test_each_rule_sees_what_breaks_it(module: str, source: str, broken: set[str]) -> None:
    known = frozenset(
        (
            "restonnx.restore",
            "restonnx.plugin.view.run",
            "restonnx.tiles",
            "restonnx.noise",
            "restonnx.diffusion.schedules",
        )
    )
    found = list(imports_of(module, source, False, known))
    assert {rule.__name__ for rule in RULES if any(rule(one) for one in found)} == broken


def test_every_module_stands_on_a_floor() -> None:
    assert {floor(module) for module in read_modules()} == set(range(len(FLOORS)))


def test_a_module_without_a_floor_is_refused() -> None:
    with pytest.raises(AssertionError, match="give managers its place"):
        floor("restonnx.managers.base")
