"""Networks that are told where the image is to be restored: trained, exported, and run on tiles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from restonnx.errors import InputError
from restonnx.model import read
from restonnx.onnx_export.export import export_checkpoint
from restonnx.restore import Restorer
from restonnx.training.degradations.light import to_display
from restonnx.training.error_curves import error_curves
from restonnx.training.loop import train
from restonnx.training.networks.values import back, into, relit
from restonnx.training.recipe import load

SHORT = ("training.iterations=3", "training.patch=32", "network.mask=true", 'degradation={kind="missing"}')
SMALL = ("network.widths=[8]", "network.down=[1]", "network.up=[]")
CHAIN = (*SHORT, *SMALL, "sampler.steps=2")
RDDM = (
    *SHORT,
    'network={kind="residual_backbone",mask=true,widths=[8],down=[1],up=[]}',
    'sampler={family="rddm",steps=2,sum_scale=0.1}',
    'objective={kind="rddm",prediction="pred_res"}',
)


LOG_LIGHT = (*RDDM, "network.values=log_light")
RELIT = (*LOG_LIGHT, "network.relights=true")


@pytest.mark.parametrize("overrides", [CHAIN, LOG_LIGHT], ids=["chain", "RDDM of log-light"])
def test_a_mask_goes_from_the_recipe_to_the_tiles(
    recipe: Path, photographs: Path, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    run = train(recipe, data=photographs, out=tmp_path / "run", overrides=overrides, quiet=True)
    path = export_checkpoint(run, tmp_path / "model.onnx", precision="float32").path
    file = read(path)
    assert [spec.role for spec in file.metadata.inputs] == ["image", "noise", "mask"]
    rng = np.random.default_rng(0)
    image, mask = rng.random((61, 74, 3), dtype=np.float32), np.zeros((61, 74), np.uint8)
    mask[20:40, 10:30] = 1
    restorer = Restorer(path, device="cpu")
    whole = restorer(image, mask=mask)
    assert whole.shape == image.shape
    assert np.abs(whole - restorer(image, mask=1 - mask)).max() > 1e-4
    rule = file.metadata.tile
    exact = rule.model_copy(update={"halo": rule.halo_exact, "preferred": 4 * rule.halo_exact})
    tiled = Restorer(
        replace(file, metadata=file.metadata.model_copy(update={"tile": exact})),
        device="cpu",
        tile=2 * rule.halo_exact + 8,
    )
    assert len(tiled.plan(61, 74)[0]) > 1
    np.testing.assert_allclose(tiled(image, mask=mask), whole, rtol=0, atol=2e-6)
    with pytest.raises(InputError, match="needs mask"):
        restorer(image)


@pytest.mark.parametrize("overrides", [CHAIN, RELIT], ids=["chain", "RDDM that relights"])
def test_errors_per_step_are_found_with_a_mask(
    recipe: Path, photographs: Path, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    from PIL import Image

    (tmp_path / "large").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (260, 260, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large" / "a.png")
    run = train(recipe, data=photographs, out=tmp_path / "run", overrides=overrides, quiet=True)
    assert len(error_curves(run, data=tmp_path / "large").steps) == 2


def test_a_shadow_is_an_offset_in_the_logarithm_of_light() -> None:
    light = torch.linspace(0.1, 1, 50)
    lit, shaded = (into(2 * to_display(share * light) - 1, "log_light") for share in (1.0, 0.4))
    offset = lit - shaded
    assert float(offset.max() - offset.min()) < 0.05 * float(offset.mean())
    values = torch.linspace(-1, 1.2, 200)
    torch.testing.assert_close(back(into(values, "log_light"), "log_light"), values, atol=1e-5, rtol=0)
    assert into(torch.tensor([-1.0, 1.0]), "log_light").tolist() == pytest.approx([-1, 1])
    assert torch.equal(back(into(values, "display"), "display"), values)


def test_relighting_undoes_a_shadow_of_one_darkness_and_leaves_what_it_cannot_compare() -> None:
    lit = into(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).mul(0.02) + 0.4, "log_light")
    mask = torch.ones(2, 1, 64, 64)
    mask[:, :, :, :24] = 0
    relighted = relit(lit - 0.3 * (1 - mask), mask)
    inner = (mask[:, :, :, 4:] == mask[:, :, :, :-4])[..., 8:]  # not at the border, which is soft
    difference = (relighted - lit).abs()[..., 10:-2][inner[..., :52].expand(-1, 3, -1, -1)]
    assert float(difference.max()) < 0.01
    for everywhere in (torch.zeros_like(mask), torch.ones_like(mask)):
        torch.testing.assert_close(relit(lit, everywhere), lit)


def test_a_model_that_relights_is_as_good_as_the_formula_before_it_has_learned_anything(
    recipe: Path, photographs: Path, tmp_path: Path
) -> None:
    run = train(recipe, data=photographs, out=tmp_path / "run", overrides=(*RELIT, "training.lr=1e-9"), quiet=True)
    path = export_checkpoint(run, tmp_path / "model.onnx", precision="float32").path
    assert read(path).metadata.tile.mode == "overlap"
    mask = np.zeros((64, 64), np.uint8)
    mask[:, :30] = 1
    image = np.full((64, 64, 3), 0.6, np.float32)
    image[mask > 0] = 0.3
    result = Restorer(path, device="cpu")(image, mask=mask)
    assert np.abs(result[:, :24] - 0.6).max() < 0.08
    assert np.abs(result[:, 36:] - 0.6).max() < 0.08


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (['degradation={kind="missing"}'], "needs network.mask = true"),
        (["network.mask=true"], "needs network.mask = false"),
        (["network.mask=true", "network.reference=true"], "reference and mask do not go together"),
        ([*RDDM, "network.relights=true"], 'relights goes with mask = true and values = "log_light"'),
    ],
)
def test_masks_that_do_not_fit_are_refused(recipe: Path, overrides: list[str], says: str) -> None:
    with pytest.raises(InputError) as error:
        load(recipe, overrides)
    assert says in str(error.value)
