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
from restonnx.training.networks.values import back, into
from restonnx.training.recipe import load

SHORT = ("training.iterations=3", "training.patch=32", "network.mask=true", 'degradation={kind="missing"}')
SMALL = ("network.widths=[8]", "network.down=[1]", "network.up=[]")
CHAIN = (*SHORT, *SMALL, "sampler.steps=2")
KEEPS = (*CHAIN, "network.keeps=true")
RDDM = (
    *SHORT,
    'network={kind="residual_backbone",mask=true,widths=[8],down=[1],up=[]}',
    'sampler={family="rddm",steps=2,sum_scale=0.1}',
    'objective={kind="rddm",prediction="pred_res"}',
)


LOG_LIGHT = (*RDDM, "network.values=log_light")


@pytest.mark.parametrize(
    "overrides", [CHAIN, KEEPS, RDDM, LOG_LIGHT], ids=["chain", "chain that keeps", "RDDM", "RDDM of log-light"]
)
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
    assert np.array_equal(whole[mask == 0], image[mask == 0]) == (overrides is KEEPS)
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


@pytest.mark.parametrize("overrides", [CHAIN, LOG_LIGHT], ids=["chain", "RDDM of log-light"])
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


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (['degradation={kind="missing"}'], "needs network.mask = true"),
        (["network.mask=true"], "needs network.mask = false"),
        (["network.mask=true", "network.reference=true"], "reference and mask do not go together"),
        (["network.keeps=true"], "keeps goes with mask = true and scale = 1"),
    ],
)
def test_masks_that_do_not_fit_are_refused(recipe: Path, overrides: list[str], says: str) -> None:
    with pytest.raises(InputError) as error:
        load(recipe, overrides)
    assert says in str(error.value)
