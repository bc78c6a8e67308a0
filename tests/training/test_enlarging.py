"""Networks that enlarge, and those that take a reference: as modules, trained, exported, and run on tiles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from restonnx.diffusion.resizing import enlarging_taps
from restonnx.diffusion.resshift import Reading
from restonnx.diffusion.schedules import exponential
from restonnx.errors import InputError
from restonnx.model import read
from restonnx.onnx_export.export import export_checkpoint
from restonnx.onnx_export.halo import receptive_radius
from restonnx.onnx_export.unroll import Unrolled
from restonnx.restore import Restorer
from restonnx.training import checkpoint as checkpoints
from restonnx.training.error_curves import error_curves
from restonnx.training.loop import train
from restonnx.training.networks.backbone import Backbone, Enlarged
from restonnx.training.objectives.config import DataConsistent
from restonnx.training.objectives.resshift import ResShiftObjective
from restonnx.training.recipe import load

SCALE_2 = ("network.scale=2", "network.head_width=8", "network.widths=[8]", "network.down=[1]", "network.up=[]")
SUPER_RESOLUTION = (*SCALE_2, 'degradation={kind="super_resolution",scale=2}')
DUAL = (*SCALE_2, "network.reference=true", 'degradation={kind="dual_camera"}')


@pytest.mark.parametrize("factor", [2, 4])
def test_the_image_is_enlarged_as_pillow_does_it(factor: int) -> None:
    image = torch.rand(2, 3, 12, 14, generator=torch.Generator().manual_seed(0))
    large = Enlarged(3, factor)(image)
    assert large.shape == (2, 3, 12 * factor, 14 * factor)
    for n in range(2):
        for c in range(3):
            plane = Image.fromarray(image[n, c].numpy())
            expected = np.asarray(plane.resize((14 * factor, 12 * factor), Image.Resampling.BICUBIC))
            inner = (slice(2 * factor, -2 * factor),) * 2  # which weighs what lies beyond the border otherwise
            np.testing.assert_allclose(large[n, c].numpy()[inner], expected[inner], atol=1e-5)


def test_enlarging_keeps_even_images_and_slopes() -> None:
    assert enlarging_taps(4).sum(axis=1) == pytest.approx(1)
    even = torch.full((1, 1, 6, 6), 0.7)
    torch.testing.assert_close(Enlarged(1, 2)(even), torch.full((1, 1, 12, 12), 0.7))
    slope = torch.arange(10.0).expand(1, 1, 10, 10)
    steps = Enlarged(1, 4)(slope)[..., 12:-12].diff(dim=-1)
    torch.testing.assert_close(steps, torch.full_like(steps, 0.25), atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [2, 4])
def test_the_estimate_is_as_much_larger_as_the_network_says(scale: int) -> None:
    network = Backbone(3, 3, (8, 16), (1, 1), (1,), scale=scale, head_width=8)
    image = torch.rand(2, 3, 6, 10)
    x_t = torch.rand(2, 3, 6 * scale, 10 * scale)
    assert network.multiple == 2
    assert network(x_t, image, 1).shape == x_t.shape


def test_weights_of_enlarging_are_no_part_of_the_networks_state() -> None:
    names = Backbone(3, 3, (8, 16), (1, 1), (1,)).state_dict()
    assert not [name for name in names if "enlarged" in name or "reference" in name]


def test_the_reference_changes_the_estimate_where_it_differs() -> None:
    network = Backbone(3, 3, (8, 16), (1, 1), (1,), scale=2, guide="reference")
    image, x_t, reference = torch.rand(1, 3, 64, 4), torch.rand(1, 3, 128, 8), torch.rand(1, 3, 128, 8)
    torch.nn.init.normal_(network.head.conv_out.weight, std=0.1)
    other = reference.clone()
    other[..., 100:, :] = 0
    difference = (network(x_t, image, 0, reference) - network(x_t, image, 0, other)).abs().amax(dim=(0, 1, 3))
    assert difference[110:].min() > 0
    assert difference[:30].max() == 0


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["network.scale=2"], 'degradation.kind = "denoise" needs network.scale = 1, not 2'),
        (['degradation={kind="super_resolution"}'], "needs network.scale = 4, not 1"),
        (['degradation={kind="dual_camera"}', "network.scale=2"], "needs network.reference = true"),
        (["network.reference=true"], "needs network.reference = false"),
        (["network.reference=true", "network.scale=4"], "reference goes with scale = 1 or 2"),
        (["network.head_width=8"], "head_width is for scale = 2 or 4"),
        (
            ['degradation={kind="super_resolution"}', "network.scale=4", "training.patch=36"],
            "training.patch must be a multiple of 8 here, not 36",
        ),
    ],
)
def test_parts_of_a_recipe_that_do_not_fit_are_refused(recipe: Path, overrides: list[str], says: str) -> None:
    with pytest.raises(InputError) as error:
        load(recipe, overrides)
    assert says in str(error.value)


def exported(recipe: Path, photographs: Path, tmp_path: Path, overrides: tuple[str, ...], **settings: Any) -> Path:
    """A run of a few iterations, frozen."""
    short = ("training.iterations=3", "training.optimizer=muon", "training.patch=32", "sampler.steps=1", *overrides)
    run = train(recipe, data=photographs, out=tmp_path / "run", overrides=short, quiet=True)
    return export_checkpoint(run, tmp_path / "model.onnx", **settings).path


def on_tiles(path: Path) -> Restorer:
    """The model with its exact halo, on the smallest tiles."""
    file = read(path)
    rule = file.metadata.tile
    exact = rule.model_copy(update={"halo": rule.halo_exact, "preferred": 4 * rule.halo_exact})
    metadata = file.metadata.model_copy(update={"tile": exact})
    return Restorer(replace(file, metadata=metadata), device="cpu", tile=2 * rule.halo_exact + 8)


def test_super_resolution_runs_from_the_recipe_to_a_larger_image(
    recipe: Path, photographs: Path, tmp_path: Path
) -> None:
    path = exported(recipe, photographs, tmp_path, SUPER_RESOLUTION)
    metadata = read(path).metadata
    assert (metadata.scale, metadata.tile.multiple, metadata.sampler.draws) == (2, 1, 1)
    assert metadata.tile.halo <= metadata.tile.halo_exact
    image = np.random.default_rng(0).random((61, 74, 3), dtype=np.float32)
    whole = Restorer(path, device="cpu")(image)
    assert whole.shape == (122, 148, 3)
    tiled = on_tiles(path)
    assert len(tiled.plan(61, 74)[0]) > 1
    np.testing.assert_allclose(tiled(image), whole, rtol=0, atol=2e-6)
    assert checkpoints.load(path).recipe.scale == 2
    curves = error_curves(path, data=_larger(photographs, tmp_path))
    assert [step.t for step in curves.steps] == [0]


def test_dual_cameras_run_from_the_recipe_to_tiles_with_a_reference(
    recipe: Path, photographs: Path, tmp_path: Path
) -> None:
    path = exported(recipe, photographs, tmp_path, DUAL, precision="float32")
    assert [spec.role for spec in read(path).metadata.inputs] == ["image", "noise", "reference"]
    rng = np.random.default_rng(0)
    image = rng.random((61, 74, 3), dtype=np.float32)
    reference, other = rng.random((2, 122, 148, 3), dtype=np.float32)
    restorer = Restorer(path, device="cpu")
    whole = restorer(image, reference=reference)
    assert whole.shape == (122, 148, 3)
    assert np.abs(whole - restorer(image, reference=other)).max() > 1e-4
    np.testing.assert_allclose(on_tiles(path)(image, reference=reference), whole, rtol=0, atol=2e-6)
    with pytest.raises(InputError, match="needs reference"):
        restorer(image)


def test_half_precision_leaves_the_enlarged_image_exact() -> None:
    network, kinds = Backbone(3, 1, (8,), (1,), (), scale=2), []
    network.enlarged.register_forward_hook(lambda *given: kinds.append(given[2].dtype))
    objective = ResShiftObjective(
        network, exponential(1, kappa=0.1, min_noise_level=0.01), DataConsistent(loss_on="end"), Reading()
    )
    clean = torch.rand(1, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        objective(clean, clean[..., ::2, ::2], torch.randn(1, *clean.shape), torch.rand(3), 1.0)
    assert kinds == [torch.float32]


def test_the_reach_counts_what_the_reference_reaches_too() -> None:
    schedule = exponential(1, kappa=0.0, min_noise_level=0.02)
    reaches = [
        receptive_radius(Unrolled(Backbone(3, 1, (8,), (1,), (), **options), schedule, Reading()), 3, 2)
        for options in ({}, {"scale": 2}, {"scale": 2, "guide": "reference"}, {"scale": 4})
    ]
    assert reaches[2] >= reaches[1] > 0
    assert all(reach % 2 == 0 for reach in reaches)


def _larger(photographs: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "larger"
    folder.mkdir()
    with Image.open(next(photographs.iterdir())) as image:
        image.resize((200, 192)).save(folder / "a.png")
    return folder
