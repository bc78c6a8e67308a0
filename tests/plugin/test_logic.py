"""Settings, records, models and words of the plugin, without a viewer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import tiny_metadata, tiny_model

from restonnx import InputError, ModelError
from restonnx.model import Metadata
from restonnx.plugin import catalogue, words
from restonnx.plugin.preferences import Preferences, apply_model_folder
from restonnx.plugin.settings import Settings, asked_for, default_level, from_record, record


def meta(**options: object) -> Metadata:
    return Metadata.model_validate(tiny_metadata(**options))  # type: ignore[arg-type]


chosen = st.builds(
    Settings,
    model=st.sampled_from(["tiny", "other"]),
    strength=st.floats(0, 1),
    seed=st.integers(0, 2**31),
    samples=st.integers(1, 9),
    uncertainty=st.booleans(),
    planes=st.sampled_from(["all", "current"]),
    noise_level=st.one_of(st.just("estimate"), st.floats(0, 99)),
    mask=st.text(max_size=5),
    memory=st.floats(0.1, 99),
    replace=st.booleans(),
)


@given(chosen)
def test_a_record_gives_the_settings_back_even_through_a_file(settings: Settings) -> None:
    of = meta(extra=("noise_level", "mask", "kernel", "reference"))
    kept = record(settings, of, "photo", sha256="0" * 64, provider="CPUExecutionProvider", seconds=1.23456)
    assert from_record(kept) == settings
    assert from_record(json.loads(json.dumps(kept))) == settings


def test_a_record_holds_nothing_that_the_model_does_not_take() -> None:
    kept = record(Settings(mask="holes"), meta(), "photo", sha256="", provider="", seconds=0)
    assert not {"mask", "kernel", "reference", "noise_level"} & set(kept)
    assert kept["source"] == "photo"


@pytest.mark.parametrize("kept", [None, {}, {"model": 5}, [], "tiny"])
def test_what_is_no_record_is_refused(kept: object) -> None:
    with pytest.raises(InputError, match="does not say how it was restored"):
        from_record(kept)


def test_odd_values_in_a_record_are_left_out() -> None:
    found = from_record({"model": "tiny", "seed": "five", "samples": True, "strength": 1, "later": 3, "memory": 4})
    assert found == Settings(model="tiny", strength=1.0, memory=4.0)


def test_settings_are_cut_to_what_the_model_can_do() -> None:
    wanted = Settings(samples=4, uncertainty=True, strength=0.5)
    assert wanted.for_model(meta()) == wanted
    silent = wanted.for_model(meta(draws=0))
    assert (silent.samples, silent.uncertainty, silent.strength) == (1, False, 0.5)
    assert wanted.for_model(meta(scale=2)).strength == 1.0


def test_a_model_is_asked_what_it_needs() -> None:
    assert asked_for(meta()) == ()
    assert asked_for(meta(extra=("reference", "noise_level"))) == ("noise_level", "reference")


@pytest.mark.parametrize(("default", "level"), [(None, "estimate"), ("estimate", "estimate"), (0, 0.0)])
def test_the_noise_level_begins_with_what_the_model_takes_by_default(default: Any, level: Any) -> None:
    of = meta(extra=("noise_level",))
    inputs = [spec.model_copy(update={"default": default} if spec.role == "noise_level" else {}) for spec in of.inputs]
    assert default_level(of.model_copy(update={"inputs": tuple(inputs)})) == level


def test_models_stand_by_task_and_the_one_for_the_image_comes_first() -> None:
    entries = catalogue.by_task()["denoise"]
    gray, colour = (catalogue.best(entries, rgb=rgb) for rgb in (False, True))
    assert gray is not None
    assert colour is not None
    assert (gray.name, colour.name) == ("denoise-micrographs", "denoise")
    assert catalogue.best([], rgb=True) is None
    assert catalogue.title("super-resolution-x2") == "Super resolution x2"
    assert catalogue.summary(colour.metadata).startswith("Denoise (colour) ")


def test_those_who_watch_are_told_of_a_new_model_until_they_stop(tmp_path: Path) -> None:
    told: list[int] = []
    stop = catalogue.watch(lambda: told.append(1))
    path = tiny_model(tmp_path / "any.onnx", name="watched")
    catalogue.add(path)
    catalogue.add(path)
    assert len(told) == 2
    stop()
    catalogue.add(path)
    assert len(told) == 2
    assert [entry.name for entry in catalogue.by_task()["denoise"]].count("watched") == 1


def test_another_model_of_a_name_that_is_taken_needs_a_word(tmp_path: Path) -> None:
    first, second = (tiny_model(tmp_path / f"{n}.onnx", name="same", halo=n) for n in (8, 12))
    assert not catalogue.is_taken(first)
    catalogue.add(first)
    assert catalogue.is_taken(second)
    with pytest.raises(ModelError, match="already"):
        catalogue.add(second)
    assert catalogue.add(second, overwrite=True).metadata.tile.halo == 12
    with pytest.raises(InputError, match=r"photo\.jpg is no model"):
        catalogue.add("photo.jpg")


def test_the_folder_of_the_preferences_gives_way_to_the_users_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("RESTONNX_MODELS", "mine")
    apply_model_folder(Preferences(model_folder="theirs"))
    assert os.environ["RESTONNX_MODELS"] == "mine"
    monkeypatch.delenv("RESTONNX_MODELS")
    apply_model_folder(Preferences())
    assert "RESTONNX_MODELS" not in os.environ
    apply_model_folder(Preferences(model_folder="theirs"))
    assert os.environ["RESTONNX_MODELS"] == "theirs"
    apply_model_folder(Preferences(model_folder="others"))
    assert os.environ["RESTONNX_MODELS"] == "others"
    apply_model_folder(Preferences())
    assert "RESTONNX_MODELS" not in os.environ


@pytest.mark.parametrize(
    ("done", "seconds", "text"),
    [
        (0, 0.5, "0 of 40 tiles, plane 1 of 5"),
        (8, 2.0, "8 of 40 tiles, plane 2 of 5, 0.5 MP/s, 8 s left"),
        (20, 600.0, "20 of 40 tiles, plane 3 of 5, 0.0042 MP/s, 10 min left"),
        (40, 10.0, "40 of 40 tiles, plane 5 of 5, 0.5 MP/s, 0 s left"),
    ],
)
def test_progress_is_told_with_rate_and_remaining_time(done: int, seconds: float, text: str) -> None:
    assert words.describe(done, 40, planes=5, pixels=5e6, seconds=seconds) == text


def test_before_the_first_tile_the_model_is_loading() -> None:
    assert words.describe(0, 0, planes=1, pixels=1e6, seconds=3) == "loading the model"


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0 s"), (99, "99 s"), (100, "2 min"), (7830, "2 h 10 min")])
def test_durations_are_short(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


def test_errors_become_one_sentence() -> None:
    assert words.sentence(InputError("the image holds\n nan at Y=1")) == "The image holds nan at Y=1"
    assert words.sentence(KeyError("x")) == "KeyError: 'x'"
    assert words.sentence(MemoryError()).startswith("The memory of this computer ran out: choose")


def test_the_samples_need_no_viewer() -> None:
    from restonnx.plugin import samples

    ((photograph, about, kind),) = samples.photograph()
    assert photograph.ndim == 3
    assert about["rgb"]
    ((stack, about, _),) = samples.micrograph()
    assert stack.shape[0] == samples.PLANES
    assert np.array_equal(samples.micrograph()[0][0], stack)
    assert kind == "image"
