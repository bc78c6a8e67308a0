"""RestorationStage: models at every place of a pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from raw_files import BAYER, MATRIX, X_TRANS, frame, mosaic_of, photograph, with_noise
from tiny_model import tiny_model

from restonnx import isp
from restonnx.errors import InputError, ModelError
from restonnx.isp import RestorationStage
from restonnx.isp.frame import MONOCHROME
from restonnx.isp.restoration import FOR_RAW
from restonnx.isp.stabilise import Stabiliser
from restonnx.model import read
from restonnx.restore import restore

PROFILE = isp.NoiseProfile((1e-3,) * 3, (1e-5,) * 3)
SIGMA = Stabiliser(1e-3, 1e-5).sigma


def cfa_model(folder: Path, *, reading: str | None = None, anchor: Any = None, **options: Any) -> Path:
    """A tiny model of packed mosaics: it averages over 5x5 pixels of each plane."""
    mosaic = {"reading": reading, "anchor": anchor} if reading else None
    options = {"channels": 4, "domain": "cfa", "draws": 0, "family": "direct"} | options
    return tiny_model(folder / "packed.onnx", name="packed", metadata={"mosaic": mosaic}, **options)


def noisy_mosaic(pattern: Any, **fields: Any) -> isp.Frame:
    clean = mosaic_of(photograph(160, 190), pattern)
    return frame(with_noise(clean, 1e-3, 1e-5), pattern, **{"noise": PROFILE, **fields})


def stage(model: Any, **options: Any) -> RestorationStage:
    return RestorationStage(model, device="cpu", **options)


@pytest.mark.parametrize("name", BAYER)
@pytest.mark.parametrize(
    ("reading", "anchor"), [(None, None), ("k-sigma", (1e-3, 3e-6)), ("variance-stabilised", None)]
)
def test_a_packed_model_restores_mosaics_of_every_phase_and_reading(
    tmp_path: Path, name: str, reading: Any, anchor: Any
) -> None:
    pattern = BAYER[name]
    model = cfa_model(tmp_path, reading=reading, anchor=anchor)
    clean = mosaic_of(np.broadcast_to(np.array([0.2, 0.5, 0.3], np.float32), (61, 75, 3)), pattern)
    given = frame(with_noise(clean, 1e-3, 1e-5), pattern, noise=PROFILE)
    result = isp.apply(given, stage(model, keep_means=False))  # at its border the tiny model darkens
    assert result.meta.cfa == pattern
    inner = (slice(8, -8), slice(8, -8))
    assert np.std((result.image - clean)[inner]) < 0.4 * np.std((given.image - clean)[inner])
    for colour, value in enumerate((0.2, 0.5, 0.3)):
        chosen = mosaic_of(np.broadcast_to(np.arange(3) == colour, (61, 75, 3)), pattern)[inner]
        assert result.image[inner][chosen].mean() == pytest.approx(value, rel=0.02)


def test_every_pixel_is_restored_also_in_an_incomplete_period(tmp_path: Path) -> None:
    given = frame(with_noise(np.full((33, 37), 0.4, np.float32), 1e-3, 1e-5), BAYER["GBRG"], noise=PROFILE)
    result = isp.apply(given, stage(cfa_model(tmp_path), keep_means=False))
    assert (result.image[[0, -1]] != given.image[[0, -1]]).all()
    assert (result.image[:, [0, -1]] != given.image[:, [0, -1]]).all()


def test_a_model_without_blur_gives_every_reading_back(tmp_path: Path) -> None:
    given = noisy_mosaic(BAYER["GRBG"])
    for reading, anchor in ((None, None), ("k-sigma", (1e-3, 3e-6))):
        model = cfa_model(tmp_path, reading=reading, anchor=anchor, blur=False)
        assert isp.apply(given, stage(model)).image == pytest.approx(given.image, abs=1e-5)


def test_tiles_leave_no_seam(tmp_path: Path) -> None:
    given = noisy_mosaic(BAYER["BGGR"])
    model = cfa_model(tmp_path, draws=2, family="resshift")
    whole = isp.apply(given, stage(model), seed=3).image
    tiled = isp.apply(given, stage(model, tile=32), seed=3).image
    assert tiled == pytest.approx(whole, abs=1e-6)
    assert (isp.apply(given, stage(model), seed=4).image != whole).any()


def test_a_grey_model_restores_a_mosaic_plane_by_plane_at_its_noise_level(tmp_path: Path) -> None:
    model = tiny_model(
        tmp_path / "gray.onnx", name="gray", channels=1, draws=0, family="direct", extra=("noise_level",)
    )
    for pattern in (BAYER["GRBG"], MONOCHROME):
        clean = np.full((64, 80), 0.4, np.float32)
        given = frame(with_noise(clean, 1e-3, 1e-5), pattern, noise=PROFILE)
        seen = isp.apply(given, stage(model, keep_means=False)).image[8:-8, 8:-8]
        lifted = Stabiliser(1e-3, 1e-5).inverse(Stabiliser(1e-3, 1e-5).forward(seen[:1, :1] * 0 + 0.4) + SIGMA)
        assert seen.mean() == pytest.approx(float(lifted[0, 0]), rel=0.005), "the tiny model adds the level it is given"
        assert np.std(seen - 0.4) < 0.5 * np.std(given.image - 0.4)


def test_the_noise_profile_is_estimated_where_the_file_has_none(tmp_path: Path) -> None:
    model = cfa_model(tmp_path, reading="k-sigma", anchor=(1e-3, 3e-6))
    clean = mosaic_of(photograph(), BAYER["RGGB"])
    given = frame(with_noise(clean, 1e-3, 1e-5), BAYER["RGGB"])
    estimated = isp.apply(given, stage(model)).image
    told = isp.apply(given, stage(model, noise=PROFILE)).image
    assert estimated == pytest.approx(told, abs=0.01)
    small = frame(given.image[:40, :40], BAYER["RGGB"], iso=100.0)
    with pytest.raises(InputError, match="noise cannot be estimated"):
        isp.apply(small, stage(model))
    isp.apply(small, stage(model, noise_table={100.0: (1e-3, 1e-5)}))


@pytest.mark.parametrize("domain", ["linear_rgb", "camera_rgb"])
def test_a_display_model_sees_linear_colours_through_a_proxy(tiny: Path, domain: Any) -> None:
    clean = photograph(96, 96) * 0.05
    given = frame(with_noise(clean, 1e-5, 1e-7), wb=(2.0, 1.0, 1.5), xyz_to_cam=(MATRIX[:3], MATRIX[3:6], MATRIX[6:]))
    result = isp.apply(given, stage(tiny, domain=domain))
    assert result.meta.domain == "camera_rgb"
    assert result.image.mean((0, 1)) == pytest.approx(given.image.mean((0, 1)), rel=0.02)
    flat = (slice(-15, -4), slice(4, -4))
    assert np.std((result.image - clean)[flat]) < np.std((given.image - clean)[flat])


def test_the_proxy_gives_back_what_the_model_leaves_alone(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "same.onnx", name="same", draws=0, family="direct", blur=False)
    image = photograph(64, 64) * 1.5 - 0.05
    given = frame(image, wb=(2.0, 1.0, 1.5))
    assert isp.apply(given, stage(model)).image == pytest.approx(image, abs=2e-5)


def test_a_display_model_may_stand_at_the_picture(tiny: Path) -> None:
    picture = isp.Frame(photograph(64, 64), isp.FrameMeta("display_rgb", color_space="srgb", transfer="srgb"))
    result = isp.apply(picture, stage(tiny, domain="display_rgb"))
    assert result.image.shape == picture.image.shape
    assert (result.image != picture.image).any()


@pytest.mark.parametrize("domain", ["cfa", "camera_rgb", "linear_rgb"])
def test_highlights_pass_through(tmp_path: Path, tiny: Path, domain: str) -> None:
    pattern = BAYER["RGGB"] if domain == "cfa" else None
    image = photograph(64, 64) if pattern is None else mosaic_of(photograph(64, 64), pattern)
    image[10:20, 10:20] = 1.0
    image[30:40, 30:40] = 0.995
    image[50:60, 50:60] = 1.3
    model = cfa_model(tmp_path) if pattern else tiny
    given = frame(image, pattern, noise=PROFILE, **({} if pattern else {"wb": (2.0, 1.0, 1.5)}))
    result = isp.apply(given, stage(model, domain=domain)).image
    bright = given.image >= 0.99
    bright = bright if pattern else bright.any(axis=-1)
    assert (result[bright] == given.image[bright]).all()
    assert (result[~bright] != given.image[~bright]).mean() > 0.9


def test_each_colour_keeps_its_mean(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "up.onnx", name="up", channels=4, domain="cfa", draws=0, family="direct")
    given = noisy_mosaic(BAYER["RGGB"])
    result = isp.apply(given, stage(model)).image
    for colour in range(3):
        chosen = mosaic_of(np.broadcast_to(np.arange(3) == colour, (160, 190, 3)), BAYER["RGGB"])
        assert result[chosen].mean() == pytest.approx(given.image[chosen].mean(), rel=1e-4)


def test_a_monochrome_frame_keeps_its_mean(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "gray.onnx", name="gray", channels=1, draws=0, family="direct")
    given = noisy_mosaic(MONOCHROME, noise=PROFILE)
    result = isp.apply(given, stage(model)).image
    assert result.mean() == pytest.approx(given.image.mean(), rel=1e-4)


def test_a_model_that_changes_the_brightness_is_an_error_unless_it_is_meant(tmp_path: Path) -> None:
    model = tiny_model(
        tmp_path / "gray.onnx", name="gray", channels=1, draws=0, family="direct", extra=("noise_level",)
    )
    dark = frame(with_noise(np.full((64, 64), 0.004, np.float32), 1e-3, 1e-6), BAYER["RGGB"], noise=PROFILE)
    with pytest.raises(ModelError, match=r"changed the mean of red by .* keep_means=False"):
        isp.apply(dark, stage(model))
    isp.apply(dark, stage(model, keep_means=False))


@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0])
def test_strength_blends_in_the_domain_of_the_stage(tmp_path: Path, strength: float) -> None:
    given, whole = noisy_mosaic(BAYER["RGGB"]), stage(cfa_model(tmp_path))
    result = isp.apply(given, whole, strength=strength).image
    full = isp.apply(given, whole).image
    assert result == pytest.approx((1 - strength) * given.image + strength * full, abs=1e-6)


def test_progress_runs_to_its_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    isp.apply(
        noisy_mosaic(BAYER["RGGB"]), stage(cfa_model(tmp_path), tile=32), progress=lambda *both: seen.append(both)
    )
    assert seen[0][0] == 0
    assert seen[-1][0] == seen[-1][1] > 1
    assert seen == sorted(seen)


def test_a_model_that_enlarges_does_so_in_linear_light(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "x2.onnx", name="x2", draws=0, family="direct", scale=2, blur=False)
    given = frame(photograph(40, 48), wb=(2.0, 1.0, 1.5))
    result = isp.apply(given, stage(model))
    assert result.image == pytest.approx(given.image.repeat(2, 0).repeat(2, 1), abs=2e-5)


def test_wrong_places_are_refused_in_one_line(tmp_path: Path, tiny: Path, tiny_gray: Path) -> None:
    with pytest.raises(ModelError, match=r"tiny \(display_rgb\) can stand at linear_rgb .* not at cfa"):
        stage(tiny, domain="cfa")
    packed = stage(cfa_model(tmp_path))
    with pytest.raises(InputError, match="restores Bayer mosaics, not X-Trans; use a model of linear_rgb"):
        isp.apply(noisy_mosaic(X_TRANS), packed)
    with pytest.raises(InputError, match="restores packed Bayer mosaics, not monochrome"):
        isp.apply(noisy_mosaic(MONOCHROME, noise=None), packed)
    with pytest.raises(InputError, match="stands at cfa, but the frame is camera_rgb"):
        packed(photograph(32, 32), meta=isp.FrameMeta("camera_rgb"))


def test_a_grey_model_goes_to_the_colours_where_there_is_no_bayer_mosaic(tiny_gray: Path) -> None:
    free, bound = stage(tiny_gray), stage(tiny_gray, domain="cfa")
    assert free.placed(noisy_mosaic(BAYER["RGGB"]).meta).domain == "cfa"
    assert free.placed(noisy_mosaic(X_TRANS).meta).domain == "linear_rgb"
    assert bound.placed(noisy_mosaic(X_TRANS).meta).domain == "cfa"
    colours = frame(with_noise(photograph(96, 96), 1e-4, 1e-6))
    assert (isp.apply(colours, free).image != colours.image).any()
    with pytest.raises(InputError, match="cannot follow demosaicking"):
        isp.apply(colours, bound)


class TestMetadata:
    """The field `mosaic` of a model's metadata."""

    def test_it_is_read(self, tmp_path: Path) -> None:
        spec = read(cfa_model(tmp_path, reading="k-sigma", anchor=(1e-3, 3e-6))).metadata.mosaic
        assert spec is not None
        assert (spec.reading, spec.anchor) == ("k-sigma", (1e-3, 3e-6))

    @pytest.mark.parametrize(
        ("mosaic", "domain", "text"),
        [
            ({"reading": "k-sigma"}, "cfa", "anchor belongs to the reading k-sigma"),
            ({"reading": "linear", "anchor": [1e-3, 0.0]}, "cfa", "anchor belongs to the reading k-sigma"),
            ({"reading": "k-sigma", "anchor": [0.0, 0.0]}, "cfa", "anchor must be a > 0"),
            ({"reading": "linear"}, "linear_rgb", "mosaic belongs to the domains cfa and camera_rgb"),
        ],
    )
    def test_nonsense_is_refused(self, tmp_path: Path, mosaic: Any, domain: str, text: str) -> None:
        path = tiny_model(
            tmp_path, channels=4 if domain == "cfa" else 3, domain=domain, draws=0, metadata={"mosaic": mosaic}
        )
        with pytest.raises(ModelError, match=text):
            read(path)


def test_a_packed_model_may_name_another_for_frames_without_a_bayer_mosaic(tmp_path: Path, tiny_gray: Path) -> None:
    packed = stage(cfa_model(tmp_path), otherwise=tiny_gray)
    assert packed.placed(noisy_mosaic(BAYER["GBRG"]).meta) is packed
    at_mono = packed.placed(noisy_mosaic(MONOCHROME, noise=None).meta)
    at_x_trans = packed.placed(noisy_mosaic(X_TRANS).meta)
    assert (at_mono.domain, at_x_trans.domain) == ("cfa", "linear_rgb")
    assert at_mono.metadata.channels == at_x_trans.metadata.channels == 1


def sensor_model(folder: Path, **options: Any) -> Path:
    """A tiny model of the sensor's linear colours, in the reading of linear-denoise."""
    mosaic = {"mosaic": {"reading": "variance-stabilised"}}
    options = {"domain": "camera_rgb", "draws": 0, "family": "direct", "metadata": mosaic} | options
    return tiny_model(folder / "sensor.onnx", name="sensor", **options)


def test_a_model_of_the_sensors_colours_sees_them_through_the_transform_of_the_mosaics_noise(tmp_path: Path) -> None:
    clean = np.broadcast_to(np.array([0.02, 0.5, 0.3], np.float32), (61, 75, 3))
    given = frame(with_noise(clean, 1e-3, 1e-5), noise=PROFILE)
    inner = (slice(8, -8), slice(8, -8))
    result = isp.apply(given, stage(sensor_model(tmp_path), keep_means=False)).image
    assert np.std((result - clean)[inner]) < 0.4 * np.std((given.image - clean)[inner])
    assert result[inner].mean((0, 1)) == pytest.approx(clean[0, 0], rel=0.02), "a mean of roots is a smaller one"
    same = isp.apply(given, stage(sensor_model(tmp_path, blur=False), keep_means=False)).image
    bias = (same - given.image)[inner].mean((0, 1))
    assert bias == pytest.approx([0.25e-3] * 3, rel=0.3), "what was not averaged is taken for its expectation"
    balanced = isp.Frame(given.image, isp.FrameMeta("linear_rgb", color_space="srgb", wb_applied=True))
    assert isp.apply(balanced, stage(sensor_model(tmp_path), noise=PROFILE)).meta.domain == "linear_rgb"


def test_models_for_raw_are_tried_in_turn(tmp_path: Path, tiny_gray: Path) -> None:
    first = stage(cfa_model(tmp_path), otherwise=(sensor_model(tmp_path), tiny_gray))
    kinds = {"Bayer": BAYER["RGGB"], "X-Trans": X_TRANS, "monochrome": MONOCHROME}
    taken = {kind: first.placed(noisy_mosaic(pattern, noise=None).meta) for kind, pattern in kinds.items()}
    taken["linear"] = first.placed(isp.FrameMeta("camera_rgb"))
    names = {kind: (one.metadata.name, one.domain) for kind, one in taken.items()}
    assert names == {
        "Bayer": ("packed", "cfa"),
        "X-Trans": ("sensor", "camera_rgb"),
        "monochrome": ("tiny-gray", "cfa"),
        "linear": ("tiny-gray", "linear_rgb"),
    }
    again = first.placed(noisy_mosaic(X_TRANS, noise=None).meta)
    assert again is taken["X-Trans"], "a model is loaded once"


def test_the_shipped_models_suit_every_kind_of_file() -> None:
    first = stage(FOR_RAW[0], otherwise=FOR_RAW[1:])
    places = [first.placed(noisy_mosaic(pattern, noise=None).meta).domain for pattern in (BAYER["RGGB"], MONOCHROME)]
    assert places == ["cfa", "cfa"]
    colours = [first.placed(meta) for meta in (noisy_mosaic(X_TRANS, noise=None).meta, isp.FrameMeta("camera_rgb"))]
    assert all(one.domain in ("camera_rgb", "linear_rgb") for one in colours)


def test_a_model_of_the_sensors_colours_refuses_ordinary_images(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="restores the linear colours of a camera RAW file, not an image"):
        restore(np.zeros((32, 32, 3), np.uint8), sensor_model(tmp_path), device="cpu")
