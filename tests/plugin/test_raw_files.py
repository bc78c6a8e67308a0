"""RAW files in napari: developed into layers, told in a line where they cannot be, and one as a sample."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from raw_files import (
    BAYER,
    BLACK,
    WHITE,
    X_TRANS,
    dng,
    libraw_render,
    mosaic_of,
    numbers,
    photograph,
    shape_of,
    with_exif,
    with_noise,
)
from tiny_source import source

from restonnx import InputError, isp, library
from restonnx.cli.outputs import RAW_SUFFIXES
from restonnx.plugin import catalogue, reader, samples
from restonnx.plugin.engine import Engine, Job
from restonnx.plugin.settings import Settings
from restonnx.plugin.source import raw_file, raw_pattern
from restonnx.session import Session

ROOT = Path(__file__).parents[2]
Drive = Callable[[Any], Any]
Models = Callable[..., str]
PROFILE = (2e-4, 3e-6)
PACKED: dict[str, Any] = {"channels": 4, "domain": "cfa", "draws": 0, "family": "direct"}
"""A model of packed Bayer mosaics."""


@pytest.fixture
def bayer(tmp_path: Path) -> Path:
    return with_exif(dng(tmp_path / "a.dng", numbers(), BAYER["GRBG"], noise=PROFILE, orientation=6))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where programs keep what they can make again."""
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_raw_file_becomes_libraws_picture_with_the_cameras_notes(bayer: Path) -> None:
    pixels, about, kind = reader.developed(str(bayer))
    assert kind == "image"
    assert about["rgb"]
    assert pixels.dtype == np.uint16
    assert np.array_equal(pixels, libraw_render(bayer))
    assert about["contrast_limits"] == (0, 65535), "napari would stretch it"
    assert pixels.shape[0] > pixels.shape[1], "it stands upright"
    assert about["metadata"]["raw"] == {
        "camera": "Testcam One",
        "iso": 800.0,
        "exposure_time": pytest.approx(0.02),
        "pattern": "GRBG",
        "noise_profile": {"a": (PROFILE[0],) * 3, "b": (PROFILE[1],) * 3, "source": "DNG"},
        "source": str(bayer),
    }


def test_a_monochrome_sensor_gives_a_grey_layer(tmp_path: Path) -> None:
    path = dng(tmp_path / "a.dng", numbers())
    pixels, about, _ = reader.developed(str(path))
    assert pixels.ndim == 2
    assert not about["rgb"]
    assert np.array_equal(pixels, libraw_render(path)[..., 0])
    assert about["metadata"]["raw"]["pattern"] == "monochrome"


@pytest.mark.parametrize(("kind", "pattern"), [("X-Trans", X_TRANS), ("linear", None)])
def test_other_kinds_are_developed_too(tmp_path: Path, kind: str, pattern: Any) -> None:
    path = dng(tmp_path / "a.dng", numbers(shape_of(kind)), pattern)
    pixels, about, _ = reader.developed(str(path))
    assert pixels.shape[-1] == 3
    assert about["metadata"]["raw"]["pattern"] == kind


def test_a_frame_without_a_profile_gets_an_estimate_or_none(tmp_path: Path) -> None:
    light = with_noise(mosaic_of(photograph(384, 384), BAYER["RGGB"]), 1e-3, 1e-5)
    counts = np.clip(np.rint(light * (WHITE - BLACK) + BLACK), 0, WHITE).astype(np.uint16)

    def noise_of(name: str, pixels: Any) -> Any:
        path = dng(tmp_path / name, pixels, BAYER["RGGB"])
        return reader.developed(str(path))[1]["metadata"]["raw"]["noise_profile"]

    assert noise_of("large.dng", counts)["source"] == "estimate"
    assert noise_of("small.dng", counts[:40, :50]) is None


def job_of(path: Path, model: str = "tiny-raw", **changes: Any) -> Job:
    pixels, about, _ = reader.developed(str(path))
    layer, rgb = SimpleNamespace(metadata=about["metadata"]), pixels.ndim == 3
    origin = {"raw": raw_file(layer), "raw_pattern": raw_pattern(layer)}
    made = replace(source(pixels.shape, rgb=rgb), data=pixels, **origin)
    return Job(replace(made, **changes), Settings(model=model, seed=2, device="cpu"))


def test_a_model_of_mosaics_restores_the_file_behind_the_layer(models: Models, bayer: Path) -> None:
    models("tiny-raw", **PACKED)
    with patch("restonnx.restore.Session", wraps=Session) as sessions:
        outcome = Engine().run(job_of(bayer))
    assert sessions.call_count == 1
    wanted = isp.develop(bayer, [isp.RestorationStage("tiny-raw", device="cpu")], seed=2).pixels
    assert np.array_equal(outcome.restored, wanted)
    assert (outcome.restored != outcome.original).mean() > 0.5
    assert outcome.original.shape == outcome.restored.shape
    with pytest.raises(InputError, match='"any" was not developed from one'):
        Engine().run(job_of(bayer, raw=""))
    with pytest.raises(InputError, match=r'"any" is not the whole picture of .* any more'):
        Engine().run(job_of(bayer, data=np.zeros((9, 9, 3), np.uint16)))


def test_a_model_of_linear_colours_restores_x_trans_files_and_a_grey_one_those_without_colours(
    models: Models, tmp_path: Path
) -> None:
    stabilised = {"mosaic": {"reading": "variance-stabilised", "anchor": None}}
    models("tiny-linear", domain="camera_rgb", draws=0, family="direct", metadata=stabilised)
    models("tiny-grey", channels=1, draws=0, family="direct")
    for name, kind, pattern in (("tiny-linear", "X-Trans", X_TRANS), ("tiny-grey", "monochrome", None)):
        path = dng(tmp_path / f"{kind}.dng", numbers(shape_of(kind)), pattern, noise=PROFILE)
        job = job_of(path, name)
        outcome = Engine().run(job)
        wanted = isp.develop(path, [isp.RestorationStage(name, device="cpu")], seed=2).pixels
        assert outcome.restored.shape == job.source.data.shape
        assert np.allclose(outcome.restored, wanted if job.source.rgb else wanted[..., 0], atol=20), "but for threads"
        assert (outcome.restored != outcome.original).mean() > 0.5


def test_which_models_are_offered_hangs_on_the_sensor() -> None:
    entries = [entry for entry in library.models() if entry.task == "denoise" and entry.shipped]
    offered = {name: {entry.name for entry in catalogue.fitting(entries, name)} for name in ("GRBG", "X-Trans", "")}
    assert offered["GRBG"] - offered[""] == {"raw-denoise", "raw-denoise-fast", "linear-denoise"}
    assert offered["X-Trans"] - offered[""] == {"linear-denoise"}
    first = {"GRBG": "raw-denoise", "X-Trans": "linear-denoise", "linear": "denoise", "monochrome": "denoise-gray"}
    for pattern, name in first.items():
        found = catalogue.best(entries, rgb=pattern != "monochrome", pattern=pattern)
        assert found is not None
        assert found.name == name
        assert catalogue.restores_file(found.metadata, pattern) == (pattern != "linear")


def test_a_model_of_mosaics_is_the_first_choice_for_bayer_files_and_none_for_others(
    viewer: Any, drive: Drive, models: Models, bayer: Path, tmp_path: Path, photograph: np.ndarray
) -> None:
    viewer.open(str(bayer), plugin="restonnx")
    driver = drive(viewer)
    form = driver.widget.form
    assert form.entry.name == "raw-denoise"
    driver.choose(model=models("tiny-raw", **PACKED))
    driver.widget.panel.preview.click()
    driver.settle()
    assert driver.said() == ["Tiny-raw restores the RAW file as a whole: press Restore, or preview another model"]
    assert driver.restore().name == "a tiny-raw"
    assert viewer.layers["a tiny-raw"].data.dtype == np.uint16
    driver.choose(viewer.add_image(photograph, rgb=True))
    assert form.entry.name == "denoise"
    assert not form.choose_model("raw-denoise")
    viewer.open(str(dng(tmp_path / "linear.dng", numbers(shape_of("linear")))), plugin="restonnx")
    driver.choose(viewer.layers["linear"])
    assert form.entry.name == "denoise"
    viewer.open(str(dng(tmp_path / "grey.dng", numbers(shape_of("monochrome")), None)), plugin="restonnx")
    driver.choose(viewer.layers["grey"])
    assert form.entry.name == "denoise-gray"
    driver.choose(viewer.layers["linear"])
    assert form.entry.name == "denoise"


def test_files_that_napari_wants_stacked_become_one_layer(tmp_path: Path) -> None:
    paths = [str(dng(tmp_path / f"{n}.dng", numbers(seed=n), BAYER["RGGB"])) for n in range(2)]
    ((pixels, about, _),) = reader.open_raw(paths)
    assert pixels.shape == (2, *libraw_render(Path(paths[0])).shape)
    assert [one["source"] for one in about["metadata"]["raw"]] == paths


def test_napari_is_asked_for_just_the_files_that_develop_takes() -> None:
    npe2 = pytest.importorskip("npe2")
    manifest = npe2.PluginManifest.from_file(ROOT / "napari.yaml")
    (found,) = [one for one in manifest.contributions.readers if one.command == "restonnx.raw_reader"]
    assert found.filename_patterns == [f"*{suffix}" for suffix in RAW_SUFFIXES]


def test_a_manifest_that_is_registered_imports_nothing_of_ours() -> None:
    pytest.importorskip("npe2")
    code = (
        "import sys; from npe2 import PluginManager, PluginManifest; manager = PluginManager.instance()\n"
        f"manager.register(PluginManifest.from_file({str(ROOT / 'napari.yaml')!r}))\n"
        "print(len(list(manager.iter_compatible_readers(['a.NEF']))), [n for n in sys.modules if 'restonnx' in n])"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.stdout.strip() == "1 []", finished.stderr


def test_dropped_files_are_opened_whatever_their_case_and_broken_ones_told(
    viewer: Any, drive: Drive, tmp_path: Path, bayer: Path
) -> None:
    whole = bayer.rename(tmp_path / "DSC 1.DNG")
    (tmp_path / "cut.dng").write_bytes(whole.read_bytes()[:3000])
    (tmp_path / "text.NEF").write_text("no camera wrote this")
    driver = drive(viewer)
    viewer.open([str(tmp_path / "cut.dng"), str(tmp_path / "text.NEF"), str(whole)], plugin="restonnx")
    (layer,) = viewer.layers
    assert layer.name == "DSC 1"
    assert layer.rgb
    assert layer.metadata["raw"]["iso"] == 800
    assert [("cut.dng" in text, "text.NEF" in text) for text in driver.said()] == [(True, False), (False, True)]
    assert not any("\n" in text for text in driver.said())


def test_the_raw_sample_is_a_noisy_dng_that_develop_restores(cache: Path, tmp_path: Path) -> None:
    from restonnx import photograph

    ((pixels, about, _),) = samples.raw()
    (path,) = cache.iterdir()
    notes = about["metadata"]["raw"]
    assert notes["source"] == str(path)
    assert (notes["camera"], notes["iso"], notes["pattern"]) == ("restonnx drawn camera", samples.ISO, "RGGB")
    assert notes["noise_profile"] == {
        "a": pytest.approx((samples.PHOTON,) * 3),
        "b": pytest.approx((samples.FLOOR,) * 3),
        "source": "DNG",
    }
    estimate = isp.noise_profile(isp.Frame(isp.read_raw(path).image, isp.FrameMeta("cfa", cfa=((0, 1), (1, 2)))))
    assert all(0.5 < a / samples.PHOTON < 2 for a in estimate.a), "the noise is as strong as the file says"
    clean = photograph.clean() / 255
    assert np.allclose(pixels.mean((0, 1)) / 65535, clean.mean((0, 1)), rtol=0.04)
    assert 0.02 < np.abs(pixels / 65535 - clean).mean() < 0.1


def test_the_raw_sample_opens_from_the_menu(viewer: Any, drive: Drive, cache: Path) -> None:
    viewer.open_sample("restonnx", "raw")
    (layer,) = viewer.layers
    assert layer.name == "noisy RAW file"
    assert layer.data.dtype == np.uint16
    assert layer.rgb
