"""Stages inside rawpy, numpy, fast-openISP and Infinite-ISP pipelines."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rawpy
from raw_files import BAYER, X_TRANS, Changed, dng, libraw_render, mosaic_of, numbers, photograph, with_noise
from tiny_model import tiny_model

from restonnx import isp
from restonnx.errors import InputError

SETTINGS = {"use_camera_wb": True, "no_auto_bright": True, "adjust_maximum_thr": 0.0, "output_bps": 16}


def packed(folder: Path) -> isp.RestorationStage:
    model = tiny_model(folder / "p.onnx", name="p", channels=4, domain="cfa", draws=0, family="direct")
    return isp.RestorationStage(model, device="cpu")


def sensor(pattern: Any, white: int = 4095, black: int = 0) -> Any:
    noisy = with_noise(mosaic_of(photograph(96, 128), pattern), 1e-3, 1e-5)
    return np.clip(np.rint(noisy * (white - black) + black), 0, 65535).astype(np.uint16)


def test_inject_changes_what_rawpy_renders(tmp_path: Path) -> None:
    path = dng(tmp_path / "a.dng", numbers(), BAYER["GRBG"], area=(4, 6, 64, 90))
    with rawpy.imread(str(path)) as raw:
        given = raw.raw_image.copy()
        frame = isp.inject(raw, Changed("cfa", gain=0.5))
        assert frame.meta.cfa == BAYER["GRBG"]
        assert (raw.raw_image != given).any()
        assert (raw.raw_image[:4] == given[:4]).all(), "the masked border stays"
        darker = raw.postprocess(**SETTINGS)
    whole = libraw_render(path, gamma=(2.222, 4.5))
    assert darker.mean() < 0.85 * whole.mean()


@pytest.mark.parametrize("pattern", [BAYER["BGGR"], X_TRANS, None])
def test_injecting_nothing_leaves_the_render_as_it_is(tmp_path: Path, pattern: Any) -> None:
    path = dng(tmp_path / "a.dng", numbers((530, 526)), pattern)
    with rawpy.imread(str(path)) as raw:
        isp.inject(raw, Changed("cfa"))
        assert (raw.postprocess(**SETTINGS) == libraw_render(path, gamma=(2.222, 4.5))).all()


def test_inject_takes_stages_on_colours_for_linear_files_only(tmp_path: Path) -> None:
    linear = dng(tmp_path / "a.dng", numbers((70, 92, 3)))
    with rawpy.imread(str(linear)) as raw:
        before = raw.raw_image.copy()
        isp.inject(raw, Changed("linear_rgb", gain=0.5))
        assert (raw.raw_image != before).any()
    mosaic = str(dng(tmp_path / "b.dng", numbers(), BAYER["RGGB"]))
    with rawpy.imread(mosaic) as raw, pytest.raises(InputError, match="must be demosaicked before"):
        isp.inject(raw, Changed("linear_rgb"))
    with rawpy.imread(str(linear)) as raw, pytest.raises(InputError, match="2 times as large"):
        isp.inject(raw, Changed("linear_rgb", scale=2))


def test_inject_with_a_model_reduces_the_noise(tmp_path: Path) -> None:
    clean = mosaic_of(np.full((96, 128, 3), 0.4, np.float32), BAYER["GBRG"])
    pixels = np.rint(with_noise(clean, 1e-3, 1e-5) * (4095 - 256) + 256).astype(np.uint16)
    path = dng(tmp_path / "a.dng", pixels, BAYER["GBRG"])
    with rawpy.imread(str(path)) as raw:
        isp.inject(raw, packed(tmp_path))
        assert raw.raw_image[8:-8, 8:-8].std() < 0.4 * pixels.std()


@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
def test_a_mosaic_in_numpy_keeps_its_dtype_and_levels(dtype: str) -> None:
    given = sensor(BAYER["RGGB"], black=200).astype(dtype)
    same = isp.restore_mosaic(given, Changed("cfa"), white=4095, black=200)
    assert same.dtype == dtype
    assert (same == given).all()
    assert same is not given
    half = isp.restore_mosaic(given, Changed("cfa", gain=0.5), white=4095, black=200)
    assert half.dtype == dtype
    assert half == pytest.approx((given - 200.0) * 0.5 + 200, abs=0.6)


def test_a_mosaic_may_have_a_black_level_for_each_place(tmp_path: Path) -> None:
    black = (100.0, 110.0, 120.0, 130.0)
    given = np.tile(np.array(black).reshape(2, 2), (20, 20)).astype(np.uint16)
    stage = Changed("cfa")
    isp.restore_mosaic(given, stage, white=(1000.0, 1010.0, 1020.0, 1030.0), black=black)
    assert (stage.seen[0][0] == 0).all()


def test_the_noise_profile_reaches_the_stage() -> None:
    known, stage = isp.NoiseProfile((1e-3,) * 3, (1e-5,) * 3), Changed("cfa")
    isp.restore_mosaic(sensor(BAYER["RGGB"]), stage, white=4095, noise=known)
    assert stage.seen[0][1].noise is known


@pytest.mark.parametrize(
    ("mosaic", "options", "text"),
    [
        (np.zeros((4, 4, 3), np.uint16), {"white": 10}, r"an array of numbers \(rows, columns\)"),
        (np.zeros((4, 4), np.uint16), {"white": 10, "pattern": "RGB"}, "Bayer pattern"),
        (np.zeros((4, 4), np.uint16), {"white": 10, "black": 10}, "white must be above black"),
    ],
)
def test_what_is_no_mosaic_is_refused(mosaic: Any, options: Any, text: str) -> None:
    with pytest.raises(InputError, match=text):
        isp.restore_mosaic(mosaic, Changed("cfa"), **options)


class OpenIspStub:
    """Calls modules as fast-openISP does: made with the configuration, then run on one dict of data."""

    def __init__(self, modules: list[type], cfg: Any) -> None:
        self.modules = [module(cfg) for module in modules]

    def execute(self, bayer: Any) -> Any:
        data = OrderedDict(bayer=bayer)
        for module in self.modules:
            module.execute(data)
        return data


class Blc:
    def __init__(self, cfg: Any) -> None:
        self.black = 200

    def execute(self, data: Any) -> None:
        data["bayer"] = np.clip(data["bayer"].astype(np.int32) - self.black, 0, None).astype(np.uint16)


@pytest.mark.parametrize("as_dict", [False, True])
def test_a_module_runs_between_those_of_fast_openisp(tmp_path: Path, as_dict: bool) -> None:
    parts: dict[str, Any] = {"hardware": {"bayer_pattern": "gbrg"}, "saturation_values": {"hdr": 3895, "raw": 4095}}
    cfg: Any = parts if as_dict else SimpleNamespace(**{k: SimpleNamespace(**v) for k, v in parts.items()})
    stage, given = Changed("cfa", gain=0.5), sensor(BAYER["GBRG"], black=200)
    data = OpenIspStub([Blc, isp.openisp_module(stage)], cfg).execute(given)
    image, meta, _ = stage.seen[0]
    assert meta.cfa == BAYER["GBRG"]
    after_blc = np.clip(given.astype(int) - 200, 0, None)
    assert image == pytest.approx(after_blc / 3895, abs=1e-6)
    assert data["bayer"].dtype == np.uint16
    assert data["bayer"] == pytest.approx(after_blc * 0.5, abs=0.51)


def test_a_configuration_without_the_pattern_is_refused() -> None:
    with pytest.raises(InputError, match="has no hardware"):
        isp.openisp_module(Changed("cfa"))({})


def test_a_module_stands_where_infinite_isp_reduces_noise(tmp_path: Path) -> None:
    given, stage = sensor(BAYER["GRBG"]), packed(tmp_path)
    module = isp.infinite_isp_module(stage)
    info, platform = {"bayer_pattern": "grbg", "bit_depth": 12, "width": 128, "height": 96}, {"save_format": "png"}
    result = module(given, info, {"is_enable": True, "is_save": False}, platform).execute()
    assert (result.dtype, result.shape) == (given.dtype, given.shape)
    assert (result != given).mean() > 0.5
    assert (module(given, info, {"is_enable": False}, platform).execute() == given).all()
