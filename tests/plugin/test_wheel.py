"""What a stranger installs: the built wheel, in which napari finds the plugin and all that it offers."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILDERS = 77
"""The major version of setuptools that pyproject.toml asks for."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the content of the wheel alone, as pip would unpack it."""
    try:
        found = int(importlib.metadata.version("setuptools").partition(".")[0])
    except importlib.metadata.PackageNotFoundError:
        found = 0
    if found < BUILDERS:
        pytest.skip(f"setuptools {BUILDERS} or newer builds the wheel: pip install --upgrade setuptools")
    tree, wheels, target = (tmp_path_factory.mktemp(name) for name in ("tree", "wheels", "installed"))
    unneeded = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.png", "*.onnx")
    shutil.copytree(ROOT / "src", tree / "src", ignore=unneeded)  # links become what they point to
    for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, tree / name)
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(wheels)!r})"
    built = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = wheels.iterdir()
    with zipfile.ZipFile(wheel) as content:
        content.extractall(target)
    return target


def test_napari_finds_the_plugin_in_the_installed_wheel(display: None, installed: Path) -> None:
    code = """
import restonnx
from npe2 import PluginManager
manager = PluginManager.instance()
manager.discover()
found = manager.get_manifest("restonnx")
widget = manager.commands.get("restonnx.widget")
readers = [one.command for one in manager.iter_compatible_readers(["a.onnx"])]
print(restonnx.__file__, found.package_version, widget.__name__, readers, len(found.contributions.sample_data))
"""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    finished = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, cwd=installed, capture_output=True, text=True, check=False
    )
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    wanted = f"{installed / 'restonnx' / '__init__.py'} {version} RestoreWidget ['restonnx.reader'] 3"
    assert finished.stdout.strip().splitlines()[-1:] == [wanted], finished.stdout + finished.stderr
