"""Frames, their patterns, and packing of mosaics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from raw_files import BAYER, X_TRANS, frame

from restonnx.errors import InputError
from restonnx.isp import FrameMeta, NoiseProfile, cfa
from restonnx.isp.frame import MONOCHROME, checked, pattern_name, pattern_of

SIDES = st.integers(2, 9)


@given(name=st.sampled_from(sorted(BAYER)), height=SIDES, width=SIDES)
def test_packing_puts_red_first_and_unpacking_gives_the_mosaic_back(name: str, height: int, width: int) -> None:
    pattern = BAYER[name]
    colours = np.tile(np.array(pattern), (5, 5))[:height, :width]
    positions = np.arange(height * width, dtype=np.float32).reshape(height, width)
    seen = cfa.pack(colours.astype(np.float32), pattern)
    assert [set(plane.ravel()) for plane in seen] == [{0}, {1}, {1}, {2}]
    assert (cfa.unpack(cfa.pack(positions, pattern), pattern, (height, width)) == positions).all()


def test_the_first_green_stands_in_the_rows_of_red() -> None:
    for pattern in BAYER.values():
        rows = np.tile(np.arange(6, dtype=np.float32)[:, None], (1, 6))
        red, beside_red, beside_blue, blue = cfa.pack(rows, pattern)
        assert (red == beside_red).all()
        assert (beside_blue == blue).all()


def test_x_trans_does_not_pack() -> None:
    with pytest.raises(InputError, match="only a Bayer mosaic packs into four planes, not X-Trans"):
        cfa.pack(np.zeros((12, 12), np.float32), X_TRANS)


@given(
    bits=st.sampled_from([10, 12, 14, 16]),
    black=st.integers(0, 400),
    pattern=st.sampled_from([*BAYER.values(), X_TRANS, MONOCHROME, None]),
    seed=st.integers(0, 1000),
)
def test_every_number_of_a_sensor_comes_back_exactly(bits: int, black: int, pattern: object, seed: int) -> None:
    shape = (12, 13, 3) if pattern is None else (12, 13)
    raw = np.random.default_rng(seed).integers(0, 2**bits, shape).astype(np.uint16)
    count = 3 if pattern is None else np.size(pattern)
    levels = tuple(float(black + n) for n in range(count)), tuple(float(2**bits - 1 - n % 3) for n in range(count))
    unit = cfa.to_unit(raw, pattern, *levels)  # type: ignore[arg-type]
    assert unit.dtype == np.float32
    assert (cfa.from_unit(unit, pattern, *levels) == raw).all()  # type: ignore[arg-type]


def test_black_is_0_and_saturation_is_1_at_every_place_of_the_pattern() -> None:
    black, white = (100.0, 110.0, 120.0, 130.0), (1000.0, 1010.0, 1020.0, 1030.0)
    at_black = np.tile(np.array(black).reshape(2, 2), (3, 3)).astype(np.uint16)
    at_white = np.tile(np.array(white).reshape(2, 2), (3, 3)).astype(np.uint16)
    assert (cfa.to_unit(at_black, BAYER["GRBG"], black, white) == 0).all()
    assert (cfa.to_unit(at_white, BAYER["GRBG"], black, white) == 1).all()


@pytest.mark.parametrize(("name", "pattern"), BAYER.items())
def test_patterns_have_names(name: str, pattern: object) -> None:
    assert pattern_of(name.lower()) == pattern
    assert pattern_name(pattern_of(name)) == name


def test_other_patterns_have_names_too() -> None:
    assert [pattern_name(p) for p in (X_TRANS, MONOCHROME, None)] == ["X-Trans", "monochrome", "linear"]


@pytest.mark.parametrize("name", ["RGB", "RRGB", "RBGG", "GGRB", "rgxb"])
def test_no_bayer_pattern_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r'"RGGB"|green on a diagonal'):
        pattern_of(name)


def test_a_frame_is_checked() -> None:
    with pytest.raises(InputError, match="holds floats"):
        checked(frame(np.zeros((4, 4, 2))))
    with pytest.raises(InputError, match="not finite"):
        checked(frame(np.full((4, 4), np.nan), BAYER["RGGB"]))
    with pytest.raises(InputError, match="needs its pattern"):
        FrameMeta("cfa")
    with pytest.raises(InputError, match="one of cfa"):
        FrameMeta("srgb")  # type: ignore[arg-type]


def test_a_noise_profile_has_pairs_of_numbers_that_are_not_negative() -> None:
    assert NoiseProfile((1e-3,), (0.0,)).of(2) == (1e-3, 0.0)
    assert NoiseProfile((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)).of(2) == (3.0, 6.0)
    for a, b in (
        ((1.0, 2.0), (1.0, 2.0)),
        ((1.0,), ()),
        ((-1.0,), (1.0,)),
        ((0.0,), (0.0,)),
        ((float("nan"),), (1.0,)),
    ):
        with pytest.raises(InputError, match="noise profile"):
            NoiseProfile(a, b)
