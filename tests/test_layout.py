"""What must hold of the repository as a whole: short files, working links, a manifest that napari accepts."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_LINES = 600
TEXT = {"", ".cfg", ".json", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml"}
NOT_OURS = re.compile(r"build|dist|runs|__pycache__|\..*|.*\.egg-info")
# Folders of one person's machine; a path that goes on from a word, a dot or a dash is not absolute.
LOCAL_PATH = re.compile(r"(?<![\w.~$}/-])/(?:home|root|Users|work|tmp)/[\w.-]+|\b[A-Z]:\\\\?Users\b")
CHECKS = ROOT / ".ci" / "run"


@cache
def files() -> tuple[Path, ...]:
    """The repository's own files, links left out: git's answer, or without git all that no tool has made."""
    listed = subprocess.run(
        [
            "git",
            "-c",
            f"safe.directory={ROOT}",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0 and (ROOT / ".git").exists():
        found = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        found = [CHECKS]
        for folder, names, inside in os.walk(ROOT):
            names[:] = [name for name in names if not NOT_OURS.fullmatch(name)]
            found += [Path(folder, name) for name in inside]
    return tuple(path for path in sorted(found) if path.is_file() and not path.is_symlink())


def test_the_repository_has_its_files() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in files()}
    assert {"LICENSE", "README.md", "pyproject.toml", "src/restonnx/errors.py", ".ci/run"} <= names


def test_no_python_file_is_longer_than_600_lines() -> None:
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in files() if path.suffix == ".py"}
    assert len(lengths) > 20
    assert not [f"{path}: {lines} lines" for path, lines in lengths.items() if lines > MOST_LINES]


def test_no_file_names_a_path_of_someones_machine() -> None:
    seen = [
        f"{path.relative_to(ROOT)}:{number}: {found.group()}"
        for path in files()
        if path.suffix in TEXT and path != Path(__file__)
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1)
        if (found := LOCAL_PATH.search(line))
    ]
    assert not seen


@pytest.mark.parametrize(
    ("line", "local"),
    [
        ("model = '/home/ada/models/a.onnx'", True),
        ("see /Users/ada/data", True),
        (r"out: C:\Users\ada\out.tif", True),
        ("https://example.org/home/page", False),
        ("art/home/one.png and ../home/two.png", False),
        ("$SCRATCH/home/models and ~/home/a", False),
    ],
)
def test_a_path_of_someones_machine_is_recognised(line: str, local: bool) -> None:
    assert bool(LOCAL_PATH.search(line)) is local


@pytest.mark.parametrize("name", ["training", "onnx_export", "napari.yaml"])
def test_the_package_reaches_what_lies_at_the_top_through_links(name: str) -> None:
    assert os.readlink(ROOT / "src" / "restonnx" / name) == f"../../{name}"
    assert (ROOT / "src" / "restonnx" / name).exists()


def test_the_manifest_is_valid_and_bears_the_name_of_the_distribution() -> None:
    npe2 = pytest.importorskip("npe2")
    manifest = npe2.PluginManifest.from_file(ROOT / "napari.yaml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert manifest.name == project["name"]
    assert project["entry-points"]["napari.manifest"] == {"restonnx": "restonnx:napari.yaml"}


@pytest.mark.parametrize("name", ["quick start", "test command"])
def test_the_readme_has_the_commands_that_the_checks_run(name: str) -> None:
    marked = re.compile(rf"^<!-- {name} -->\n+```\w*\n(.+?)\n```$", re.MULTILINE | re.DOTALL)
    commands = marked.findall((ROOT / "README.md").read_text("utf-8"))
    assert len(commands) == 1
    assert f'"{name}"' in CHECKS.read_text("utf-8")
    assert "\n" not in re.sub(r"\\\n", " ", commands[0]), "one command: join its lines with && \\"
