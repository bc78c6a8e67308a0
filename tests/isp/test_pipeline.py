"""develop: what LibRaw renders and nothing else without a restoring stage, and with one the result of it."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rawpy
from raw_files import (
    BAYER,
    BLACK,
    WHITE,
    X_TRANS,
    Changed,
    dng,
    libraw_render,
    mosaic_of,
    numbers,
    shape_of,
    with_exif,
    with_noise,
)

from restonnx import images, isp
from restonnx.errors import Cancelled, InputError
from restonnx.isp import Rendering

KINDS: dict[str, Any] = {**BAYER, "X-Trans": X_TRANS, "monochrome": None, "linear": None}


def raw_file(path: Path, kind: str, **options: Any) -> Path:
    return dng(path, numbers(shape_of(kind)), KINDS[kind], **options)


def rgb(picture: Any) -> Any:
    return np.repeat(picture, 3, axis=-1) if picture.shape[-1] == 1 else picture


@pytest.mark.parametrize("kind", KINDS)
def test_without_stages_every_pixel_is_libraws_own(tmp_path: Path, kind: str) -> None:
    path = raw_file(tmp_path / "a.dng", kind)
    assert (isp.develop(path).pixels == rgb(libraw_render(path))).all()


@pytest.mark.parametrize("domain", ["cfa", "camera_rgb", "linear_rgb", "display_rgb"])
@pytest.mark.parametrize("kind", KINDS)
def test_with_a_stage_that_changes_nothing_every_pixel_is_libraws_own(tmp_path: Path, kind: str, domain: str) -> None:
    if kind == "linear" and domain == "cfa":
        pytest.skip("there is no mosaic")
    path, stage = raw_file(tmp_path / "a.dng", kind, orientation=6), Changed(domain)
    picture = isp.develop(path, [stage])
    assert len(stage.seen) == 1
    assert (picture.pixels == rgb(libraw_render(path))).all()


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_it_holds_for_every_depth_with_a_masked_border(tmp_path: Path, bits: int) -> None:
    path = dng(tmp_path / "a.dng", numbers(bits=bits), BAYER["GRBG"], white=2**bits - 1, area=(4, 6, 64, 90))
    assert (isp.develop(path, [Changed("cfa")]).pixels == libraw_render(path)).all()


@pytest.mark.parametrize("space", ["srgb", "display-p3", "rec2020", "prophoto"])
def test_the_colour_space_is_rendered_and_embedded(tmp_path: Path, space: Any) -> None:
    path = raw_file(tmp_path / "a.dng", "RGGB")
    names = {"srgb": "sRGB", "display-p3": "P3D65", "rec2020": "Rec2020", "prophoto": "ProPhoto"}
    gammas = {"srgb": (2.4, 12.92), "display-p3": (2.4, 12.92), "rec2020": (1 / 0.45, 4.5), "prophoto": (1.8, 0)}
    expected = libraw_render(path, output_color=rawpy.ColorSpace[names[space]], gamma=gammas[space])
    for name in ("b.tif", "b.png"):
        isp.develop(path, [], tmp_path / name, rendering=Rendering(space))
        written = images.read(tmp_path / name)
        assert (written.pixels == expected).all()
        assert written.pixels.dtype == np.uint16
        assert written.icc is not None
        assert len(written.icc) < 1000


def test_exposure_and_demosaicking_are_libraws(tmp_path: Path) -> None:
    path = raw_file(tmp_path / "a.dng", "RGGB")
    rendering = Rendering(exposure=1.0, demosaic="VNG")
    expected = libraw_render(path, bright=2.0, demosaic_algorithm=rawpy.DemosaicAlgorithm.VNG)
    assert (isp.develop(path, rendering=rendering).pixels == expected).all()


def test_a_darker_mosaic_is_rendered_darker_by_as_much(tmp_path: Path) -> None:
    """LibRaw would take the brightest pixel of the frame for white if it were let."""
    path = raw_file(tmp_path / "a.dng", "RGGB")
    linear = {"gamma": (1, 1), "demosaic_algorithm": rawpy.DemosaicAlgorithm.LINEAR}
    isp.develop(path, [Changed("cfa", gain=0.8)], tmp_path / "b.dng")
    whole, part = (libraw_render(tmp_path / name, **linear).astype(float) for name in ("a.dng", "b.dng"))
    between = (whole > 3000) & (whole < 60000)
    assert np.median(part[between] / whole[between]) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("kind", ["RGGB", "X-Trans", "monochrome", "linear"])
def test_a_stage_on_linear_colours_changes_the_picture(tmp_path: Path, kind: str) -> None:
    path = raw_file(tmp_path / "a.dng", kind)
    stage = Changed("linear_rgb", gain=0.5)
    picture = isp.develop(path, [stage])
    image, meta, _ = stage.seen[0]
    assert meta.domain == "linear_rgb"
    assert image.shape == (*shape_of(kind)[:2], 3)
    expected = rgb(libraw_render(path, bright=0.5)).astype(float)
    inside = (expected > 5000) & (rgb(libraw_render(path)) < 60000)
    assert np.median((picture.pixels / np.maximum(expected, 1))[inside]) == pytest.approx(1, abs=0.015), (
        "highlights are clipped before or after"
    )


@pytest.mark.parametrize("kind", ["RGGB", "X-Trans"])
def test_stages_on_colours_see_noise_below_black_and_the_profile_of_the_mosaic(tmp_path: Path, kind: str) -> None:
    pattern, dark = KINDS[kind], np.broadcast_to(np.array([0.002, 0.004, 0.003], np.float32), (530, 526, 3))
    noisy = with_noise(mosaic_of(dark, pattern), 4e-3, 4e-5) * (WHITE - BLACK) + BLACK
    path = dng(tmp_path / "a.dng", np.rint(noisy).clip(0, WHITE).astype(np.uint16), pattern, noise=(4e-3, 4e-5))
    stage = Changed("camera_rgb")
    isp.develop(path, [stage])
    image, meta, _ = stage.seen[0]
    assert image.min() < -0.01
    assert image[8:-8, 8:-8].mean((0, 1)) == pytest.approx(dark[0, 0], abs=2e-4), "cut off: 0.0018 brighter"
    assert meta.noise is not None
    assert (meta.noise.source, meta.noise.a, meta.noise.b) == ("DNG", (4e-3,) * 3, (4e-5,) * 3)


def test_a_stage_is_placed_by_the_files_own_frame_and_never_again(tmp_path: Path) -> None:
    """Colours that were made of a mosaic look like those of a linear file, for which another model may be taken."""
    seen: list[isp.FrameMeta] = []

    class Choosing(Changed):
        def placed(self, meta: isp.FrameMeta) -> Changed:
            seen.append(meta)
            return taken

    taken = Choosing("camera_rgb")
    isp.develop(raw_file(tmp_path / "a.dng", "X-Trans"), [Choosing("cfa")])
    assert [meta.cfa for meta in seen] == [X_TRANS]
    assert len(taken.seen) == 1


def test_stages_follow_one_another(tmp_path: Path) -> None:
    path = raw_file(tmp_path / "a.dng", "RGGB")
    stages = [Changed("cfa", 0.9), Changed("linear_rgb", 0.9), Changed("camera_rgb", 0.9), Changed("display_rgb", 0.9)]
    seen: list[tuple[int, int]] = []
    isp.develop(path, stages, progress=lambda *both: seen.append(both))
    assert [len(stage.seen) for stage in stages] == [1, 1, 1, 1]
    assert [done / total for done, total in seen] == [0.25, 0.5, 0.75, 1.0]


def test_a_stage_that_enlarges_enlarges_the_picture(tmp_path: Path) -> None:
    for kind in ("RGGB", "linear", "monochrome"):
        picture = isp.develop(raw_file(tmp_path / f"{kind}.dng", kind), [Changed("linear_rgb", scale=2)])
        assert picture.pixels.shape == (140, 184, 3)


def test_options_reach_the_stages(tmp_path: Path) -> None:
    stage = Changed("cfa")
    isp.develop(raw_file(tmp_path / "a.dng", "RGGB"), [stage], strength=0.3, seed=7)
    options = stage.seen[0][2]
    assert (options["strength"], options["seed"]) == (0.3, 7)


def test_exif_goes_into_the_picture_upright_and_with_the_software(tmp_path: Path) -> None:
    path = with_exif(raw_file(tmp_path / "a.dng", "RGGB", orientation=6))
    for name in ("b.tif", "b.png"):
        isp.develop(path, [Changed("cfa")], tmp_path / name)
        written = images.read(tmp_path / name)
        assert written.pixels.shape == (92, 70, 3), "turned upright"
        values = exif_of(written.exif)
        assert values[271] == "Testcam"
        assert values.get(274, 1) == 1
        camera = values.get_ifd(0x8769)
        assert (camera[0x8827], camera[0xA434]) == (800, "Testlens 50mm")
        assert values.get_ifd(0x8825)[1] == "N"
    assert "changed on cfa" in exif_of(images.read(tmp_path / "b.png").exif)[305]


def exif_of(content: bytes | None) -> Any:
    from PIL import Image

    values = Image.Exif()
    assert content is not None
    values.load(content)
    return values


def test_the_input_is_never_overwritten(tmp_path: Path) -> None:
    path = raw_file(tmp_path / "a.dng", "RGGB")
    before = hashlib.sha256(path.read_bytes()).digest()
    (tmp_path / "link.dng").symlink_to(path)
    for target in (path, tmp_path / "link.dng"):
        with pytest.raises(InputError, match="is the input, which is never overwritten"):
            isp.develop(path, [], target, overwrite=True)
    assert hashlib.sha256(path.read_bytes()).digest() == before


def test_another_file_is_overwritten_only_where_that_is_allowed(tmp_path: Path) -> None:
    path, target = raw_file(tmp_path / "a.dng", "RGGB"), tmp_path / "b.tif"
    target.write_bytes(b"mine")
    with pytest.raises(InputError, match="exists already"):
        isp.develop(path, [], target)
    assert target.read_bytes() == b"mine"
    isp.develop(path, [], target, overwrite=True)
    assert target.read_bytes() != b"mine"


@pytest.mark.parametrize("name", ["b.tif", "b.png", "b.dng"])
def test_a_cancelled_run_leaves_nothing(tmp_path: Path, name: str) -> None:
    path, cancel = raw_file(tmp_path / "a.dng", "RGGB"), threading.Event()

    class Interrupted(Changed):
        def __call__(self, image: Any, **options: Any) -> Any:
            cancel.set()
            return super().__call__(image, **options)

    with pytest.raises(Cancelled):
        isp.develop(path, [Interrupted("cfa")], tmp_path / name, cancel=cancel)
    assert [file.name for file in tmp_path.iterdir()] == ["a.dng"]


@pytest.mark.parametrize(
    ("stages", "name", "options", "text"),
    [
        ([Changed("linear_rgb"), Changed("cfa")], "b.tif", {}, "a stage of cfa comes after one of linear_rgb"),
        ([Changed("display_rgb"), Changed("linear_rgb")], "b.tif", {}, "linear_rgb comes after one of display_rgb"),
        ([Changed("display_rgb")], "b.dng", {}, "a DNG holds no display image"),
        ([], "b.jpg", {}, "another suffix than .tif|.tiff|.png|.dng"),
        ([], "b.png", {"to": "dng"}, "another suffix than .dng"),
        ([], "b.png", {"to": "jpeg"}, "tiff, png or dng, not 'jpeg'"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    tmp_path: Path, stages: Any, name: str, options: Any, text: str
) -> None:
    with pytest.raises(InputError, match=text.replace("|", r"\|")):
        isp.develop(raw_file(tmp_path / "a.dng", "RGGB"), stages, tmp_path / name, **options)
    assert not any(stage.seen for stage in stages)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"color_space": "adobe"}, "srgb, display-p3, rec2020, prophoto, not 'adobe'"),
        ({"demosaic": "AMAZE"}, "AHD, LINEAR, VNG"),
        ({"exposure": 20.0}, "from -10 to 10"),
    ],
)
def test_settings_of_the_rendering_are_checked(wrong: Any, text: str) -> None:
    with pytest.raises(InputError, match=text):
        Rendering(**wrong)


def test_the_mosaic_keeps_its_masked_border(tmp_path: Path) -> None:
    pixels = numbers()
    path = dng(tmp_path / "a.dng", pixels, BAYER["GRBG"], area=(4, 6, 64, 90))
    isp.develop(path, [Changed("cfa", gain=0.5)], tmp_path / "b.dng")
    with rawpy.imread(str(tmp_path / "b.dng")) as raw:
        written = raw.raw_image.copy()
    assert (written[:4] == pixels[:4]).all()
    assert (written[:, :6] == pixels[:, :6]).all()
    inside = (pixels[4:64, 6:90].astype(float) - BLACK) * 0.5 + BLACK
    assert written[4:64, 6:90] == pytest.approx(inside, abs=0.51)
    assert written.max() <= WHITE
