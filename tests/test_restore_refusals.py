"""What restore() refuses, and how models are loaded."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_model import tiny_metadata, tiny_model

from restonnx.errors import InputError, ModelError
from restonnx.model import Metadata, ModelFile
from restonnx.providers import CPU
from restonnx.restore import BYTES_PER_PIXEL, Restorer, _refuse_other_models, load_model, restore
from restonnx.session import LANES
from restonnx.tiles import worthwhile_tile


@pytest.fixture
def color(tiny: Path) -> Restorer:
    return Restorer(tiny, device="cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 1.1}, "strength must be from 0 to 1, not 1.1"),
        ({"strength": -0.1}, "strength must be from 0 to 1, not -0.1"),
        ({"strength": float("nan")}, "strength must be from 0 to 1, not nan"),
        ({"strength": "1"}, "strength must be from 0 to 1, not '1'"),
        ({"samples": 0}, "samples must be an integer of at least 1, not 0"),
        ({"samples": 2.0}, "samples must be an integer of at least 1, not 2.0"),
        ({"return_std": True}, "return_std needs samples of at least 2"),
        ({"seed": -1}, "seed must be an integer"),
        ({"axes": "YXY"}, "axes"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_one_line(color: Restorer, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        color(colors(20, 20), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tile", [0, -1, 19, 64.0, True, "64"])
def test_a_tile_without_room_for_a_core_is_refused_with_the_least_that_works(tiny: Path, tile: Any) -> None:
    with pytest.raises(InputError, match="tile must be an integer of at least 20 pixels for tiny"):
        Restorer(tiny, device="cpu", tile=tile)
    assert Restorer(tiny, device="cpu", tile=20)(colors(50, 50)).shape == (50, 50, 3)


def test_values_that_are_not_finite_are_refused_with_their_position(color: Restorer) -> None:
    image = colors(100, 120)
    image[90, 100, 1] = np.nan
    with pytest.raises(InputError, match=r"nan at Y=90, X=100.*nan_to_num"):
        color(image)


def test_samples_of_a_model_without_noise_are_refused(tmp_path: Path) -> None:
    still = Restorer(tiny_model(tmp_path, name="still", draws=0), device="cpu")
    with pytest.raises(InputError, match="samples must be 1, as still draws no noise"):
        still(colors(20, 20), samples=2)


def test_a_blend_of_two_sizes_is_refused(tmp_path: Path) -> None:
    restorer = Restorer(tiny_model(tmp_path, scale=2), device="cpu")
    with pytest.raises(InputError, match="strength must be 1, as tiny makes images 2 times as large"):
        restorer(colors(20, 20), strength=0.5)


def test_a_model_with_an_input_that_restore_does_not_give_is_refused() -> None:
    plain = tiny_metadata(extra=("mask",))
    plain["inputs"].append({"name": "how_much", "role": "strength"})
    with pytest.raises(ModelError, match=r"tiny also needs how_much \(strength\), which restore\(\) does not give"):
        _refuse_other_models(Metadata.model_validate(plain))


def test_restore_takes_a_path_a_string_or_a_loaded_model(tiny: Path) -> None:
    image = colors(20, 20)
    expected = Restorer(tiny, device="cpu")(image, seed=4)
    for model in (tiny, str(tiny), load_model(tiny)):
        assert np.array_equal(restore(image, model, seed=4, device="cpu"), expected)
    assert isinstance(load_model(str(tiny)), ModelFile)


def test_a_restorer_says_what_it_runs(tiny: Path) -> None:
    restorer = Restorer(tiny, device="cpu")
    assert (restorer.provider, restorer.device, restorer.fallback) == (CPU, "cpu", None)
    assert restorer.metadata.name == "tiny"
    assert restorer.tile == worthwhile_tile(8) // 4 * 4 == 152


def test_the_tile_shrinks_where_memory_is_short(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restonnx.session.memory", lambda: 4 * LANES * BYTES_PER_PIXEL * 40**2)
    assert Restorer(tiny, device="cpu").tile == 40


def colors(height: int, width: int) -> np.ndarray:
    """A float32 image (height, width, 3) in [0, 1]."""
    return np.random.default_rng(0).random((height, width, 3), np.float32)
