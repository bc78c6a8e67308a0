"""Fixtures that every test may use: two tiny models, and a library of the user's own that is empty."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings
from tiny_model import tiny_model

# LibRaw's demosaicking of X-Trans differs from run to run with more than one thread; and the arrays here are so small
# that torch's threads would only wait for each other beside another worker's.
os.environ["OMP_NUM_THREADS"] = "1"

settings.register_profile("restonnx", deadline=None)  # a busy machine is no failure
settings.load_profile("restonnx")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of three channels (display_rgb), two noise draws, multiple 4."""
    return tiny_model(tmp_path_factory.mktemp("tiny") / "tiny.onnx")


@pytest.fixture(scope="session")
def tiny_gray(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of one channel (display_gray), two noise draws, multiple 4."""
    return tiny_model(tmp_path_factory.mktemp("tiny") / "tiny-gray.onnx", name="tiny-gray", channels=1)


@pytest.fixture(autouse=True)
def user_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of models, which does not exist yet: no test sees or touches the real one."""
    folder = tmp_path / "user_models"
    monkeypatch.setenv("RESTONNX_MODELS", str(folder))
    return folder
