from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason='exporting needs torch: pip install "restonnx[train]"')

import onnx
import torch
from tiny_published import ADM, CONSISTENCY, RDDM, RESSHIFT, VQ, built, traced_once
from torch import Tensor

from restonnx.diffusion import rddm_schedules
from restonnx.errors import InputError, ModelError
from restonnx.model import Metadata, read
from restonnx.onnx_export import dcdp_graphs, freeze, published
from restonnx.onnx_export.dcdp_export import export_dcdp
from restonnx.onnx_export.official_graphs import AdmDenoiser, ConsistencyDenoiser
from restonnx.onnx_export.options import parse
from restonnx.onnx_export.published import export_published, from_exported
from restonnx.restore import Restorer

HEADS = "network.num_head_channels=16"


@pytest.fixture
def untraced(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Everything but the trace; the modules that would have been frozen."""
    modules: list[Any] = []

    def described(module: Any, ports: Any, metadata: Metadata, out: Path, **_: Any) -> tuple[float, ...]:
        modules.append(module)
        assert tuple(port.spec() for port in ports) == metadata.inputs
        return (0.0,)

    monkeypatch.setattr(published, "freeze", described)
    return modules


def saved(path: Path, config: Any, *, prefix: str = "", wrapper: str | None = None, **more: Any) -> Path:
    """A checkpoint as others publish it."""
    state: dict[str, Any] = {prefix + name: value for name, value in built(config).state_dict().items()} | more
    torch.save({wrapper: state} if wrapper else state, path)
    return path


def test_resshift_takes_its_scale_from_network_and_autoencoder(tmp_path: Path, untraced: list[Any]) -> None:
    weights = saved(tmp_path / "ResShift_x2 v3.pth", RESSHIFT, prefix="module.", wrapper="state_dict")
    coder = saved(tmp_path / "vq.pth", VQ, wrapper="state_dict")
    meta = export_published(weights, "resshift", tmp_path / "x.onnx", autoencoder=coder).metadata
    assert meta.name == "resshift-x2-v3"
    assert (meta.scale, meta.task, meta.sampler.family) == (2, "superresolve", "resshift")
    assert (meta.sampler.steps, meta.sampler.draws, meta.sampler.kappa) == (4, 4, 2.0)
    assert (meta.sampler.noise_channels, meta.sampler.noise_stride) == (None, 2)
    assert meta.tile.mode == "overlap"
    assert meta.licence.startswith("unknown (")
    assert "S-Lab" in meta.licence
    assert len(str(meta.parent)) == 64
    np.testing.assert_allclose(untraced[0].schedule.sqrt_etas, [0.1, 0.520096, 0.761382, 0.99], atol=1e-6)


@pytest.mark.parametrize(("steps", "first"), [(4, 0.1), (15, 0.02)])
def test_the_published_schedules_are_the_defaults(steps: int, first: float) -> None:
    options, _ = parse("resshift", {"steps": steps})
    assert options.schedule().sqrt_etas[0] == pytest.approx(first)  # type: ignore[union-attr]
    with pytest.raises(InputError, match="with 8 steps min_noise_level must be given"):
        parse("resshift", {"steps": 8})


def test_resshift_without_its_autoencoder_is_refused_unless_it_works_on_pixels(
    tmp_path: Path, untraced: list[Any]
) -> None:
    weights = saved(tmp_path / "a.pth", RESSHIFT)
    with pytest.raises(InputError, match="--autoencoder FILE"):
        export_published(weights, "resshift", tmp_path / "x.onnx")
    meta = export_published(weights, "resshift", tmp_path / "x.onnx", settings=["space=pixel"]).metadata
    assert (meta.scale, meta.sampler.noise_stride) == (1, 1)
    assert untraced[0].reading.normalize == "pixel"
    with pytest.raises(InputError, match="goes with a latent resshift"):
        export_published(weights, "resshift", tmp_path / "x.onnx", autoencoder=weights, settings={"space": "pixel"})


@pytest.mark.parametrize(
    ("config", "settings", "steps", "roles", "prediction"),
    [
        (replace(RDDM, layout="two"), [], 5, ["image", "noise"], "pred_res_noise"),
        (replace(RDDM, layout="shared"), ["steps=2", "eta=1"], 2, ["image", "noise"], "pred_res_noise"),
        (RDDM, ["sum_scale=0"], 5, ["image"], "pred_res"),
        (replace(RDDM, in_channels=9), ["mask=signed"], 5, ["image", "noise", "mask"], "pred_res"),
        (replace(RDDM, in_channels=3), ["generate=true", "steps=10"], 10, ["image", "noise"], "pred_noise"),
    ],
)
def test_every_rddm_network_is_exported(
    tmp_path: Path,
    untraced: list[Any],
    config: Any,
    settings: list[str],
    steps: int,
    roles: list[str],
    prediction: str,
) -> None:
    weights = saved(tmp_path / "model-40.pt", config, prefix="model.", wrapper="model")
    meta = export_published(weights, "rddm", tmp_path / "x.onnx", settings=settings).metadata
    assert meta.sampler.steps == steps
    assert [spec.role for spec in meta.inputs] == roles
    assert untraced[0].reading.prediction == prediction
    assert meta.network["layout"] == config.layout


def test_rddm_is_sampled_along_the_schedule_that_its_file_holds(tmp_path: Path, untraced: list[Any]) -> None:
    schedule = rddm_schedules.power(50, sum_scale=0.01)
    buffers = {
        "alphas_cumsum": torch.from_numpy(schedule.alpha_bar).float(),
        "betas_cumsum": torch.from_numpy(schedule.beta_bar).float(),
    }
    weights = saved(tmp_path / "a.pt", RDDM, prefix="model.", **buffers)
    export_published(weights, "rddm", tmp_path / "x.onnx")
    found = untraced[0].schedule
    np.testing.assert_allclose(found.alpha_bar, schedule.alpha_bar, atol=1e-6)
    assert found.start_std == pytest.approx(0.1)
    export_published(weights, "rddm", tmp_path / "x.onnx", settings=["schedule=power", "alpha=average", "beta2=normal"])
    np.testing.assert_allclose(untraced[1].schedule.alphas, 1 / 1000)


def test_a_network_with_classes_must_be_told_one(tmp_path: Path, untraced: list[Any]) -> None:
    weights = saved(tmp_path / "a.pt", replace(ADM, num_classes=7))
    with pytest.raises(InputError, match="set the option label, 0 to 6"):
        export_published(weights, "adm", tmp_path / "x.onnx", settings=[HEADS])
    with pytest.raises(InputError, match="0 to 6"):
        export_published(weights, "adm", tmp_path / "x.onnx", settings=[HEADS, "label=7"])
    export_published(weights, "adm", tmp_path / "x.onnx", settings=[HEADS, "label=6"])
    assert untraced[0].label == 6
    plain = saved(tmp_path / "b.pt", ADM)
    with pytest.raises(InputError, match="trained without classes"):
        export_published(plain, "adm", tmp_path / "x.onnx", settings=[HEADS, "label=6"])


def test_an_edm_teacher_is_read_without_the_boundary(tmp_path: Path, untraced: list[Any]) -> None:
    weights = saved(tmp_path / "a.pt", CONSISTENCY)
    settings = [HEADS, "boundary=false", "image_size=64"]
    meta = export_published(weights, "consistency", tmp_path / "x.onnx", settings=settings, licence="MIT").metadata
    assert untraced[0].preconditioning.boundary is False
    assert (meta.sampler.family, meta.tile.preferred, meta.licence) == ("consistency", 64, "MIT")


@pytest.mark.parametrize(
    ("kind", "settings", "complaint"),
    [
        ("adm", ["kappa=2"], "adm has no option 'kappa'; it has beta_end, .*total"),
        ("resshift", ["kappa"], "NAME=VALUE"),
        ("resshift", ["kappa=much"], "resshift's option kappa: input should be a valid number"),
        ("rddm", ["order=both"], "rddm's option order: .*'residual_first'"),
        ("rddm", ["alpha=rising"], "unknown schedule 'rising'"),
        ("adm", ["network.heads=3"], "unknown option 'heads'"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(
    tmp_path: Path, untraced: list[Any], kind: str, settings: list[str], complaint: str
) -> None:
    weights = saved(tmp_path / "a.pt", {"adm": ADM, "rddm": RDDM, "resshift": RESSHIFT}[kind])
    with pytest.raises(InputError, match=complaint) as error:
        export_published(weights, kind, tmp_path / "x.onnx", settings=settings)
    assert "\n" not in str(error.value)
    assert not untraced


@pytest.mark.parametrize("kind", ["resshift", "rddm", "adm", "consistency"])
def test_a_file_that_lacks_weights_or_is_of_another_kind_is_refused_in_one_line(
    tmp_path: Path, untraced: list[Any], kind: str
) -> None:
    config = {"resshift": RESSHIFT, "rddm": RDDM, "adm": ADM, "consistency": CONSISTENCY}[kind]
    state: dict[str, Tensor] = dict(built(config).state_dict())
    last = list(state)[-1]
    torch.save({name: value for name, value in state.items() if name != last}, tmp_path / "cut.pth")
    torch.save({"other": torch.zeros(3), "layer.weight": torch.zeros(3)}, tmp_path / "other.pth")
    settings = ["space=pixel"] if kind == "resshift" else [] if kind == "rddm" else [HEADS]
    for name, complaint in (("cut.pth", last.rpartition(".")[0]), ("other.pth", "missing|no .*checkpoint")):
        with pytest.raises(ModelError, match=complaint) as error:
            export_published(tmp_path / name, kind, tmp_path / "x.onnx", settings=settings)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="resshift, rddm, adm, consistency"):
        export_published(tmp_path / "cut.pth", "gan", tmp_path / "x.onnx")


def test_weights_that_no_file_can_hold_are_refused_before_the_trace(
    tmp_path: Path, untraced: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "LARGEST", 1e5)
    weights = saved(tmp_path / "a.pt", ADM)
    with pytest.raises(InputError, match="--precision float16 halves it"):
        export_published(weights, "adm", tmp_path / "x.onnx", settings=[HEADS], precision="float32")


@pytest.mark.parametrize(("config", "graph"), [(ADM, AdmDenoiser), (CONSISTENCY, ConsistencyDenoiser)])
def test_an_exported_prior_is_built_again_from_its_file(
    tmp_path: Path, untraced: list[Any], config: Any, graph: type
) -> None:
    kind = "adm" if graph is AdmDenoiser else "consistency"
    meta = export_published(saved(tmp_path / "a.pt", config), kind, tmp_path / "x.onnx", settings=[HEADS]).metadata
    module = from_exported(meta, built(config).state_dict())
    assert isinstance(module, graph)
    assert asdict(module.network.config) == asdict(untraced[0].network.config)
    x, level = torch.rand(1, 3, 8, 8), torch.full((1, 1, 1, 1), 0.5)
    torch.testing.assert_close(module(x, level), untraced[0](x, level))


@pytest.fixture(scope="module")
def each_network_once() -> Iterator[None]:
    with traced_once(freeze, dcdp_graphs):
        yield


@pytest.fixture(scope="module")
def adm(tmp_path_factory: pytest.TempPathFactory, each_network_once: None) -> Path:
    folder = tmp_path_factory.mktemp("published")
    weights = saved(folder / "adm.pt", ADM, prefix="module.", wrapper="ema")
    return export_published(weights, "adm", folder / "adm.onnx", settings=[HEADS, "image_size=32"]).path


@pytest.mark.slow
def test_a_published_network_restores_an_image(adm: Path) -> None:
    file = read(adm)
    assert file.metadata.tile.preferred == 32
    image = np.random.default_rng(0).integers(0, 255, (36, 40, 3), dtype=np.uint8)  # in more than one tile
    restored = Restorer(file, device="cpu")(image, noise_level=25)
    assert restored.shape == image.shape
    assert restored.dtype == np.uint8


@pytest.mark.slow
def test_a_published_prior_becomes_the_solver_of_an_inverse_problem(adm: Path, tmp_path: Path) -> None:
    written = export_dcdp(adm, tmp_path / "x.onnx", operator="denoise", rounds=2, name="clean")
    assert max(written.errors) < 1e-4
    assert written.metadata.sampler.options["prior"] == "adm"
    image = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    assert Restorer(written.path, device="cpu")(image, noise_level=25).shape == image.shape


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_published_latent_model_enlarges_an_image(tmp_path: Path) -> None:
    weights, coder = saved(tmp_path / "a.pth", RESSHIFT), saved(tmp_path / "vq.pth", VQ, wrapper="state_dict")
    settings = ["steps=2", "min_noise_level=0.2"]
    written = export_published(weights, "resshift", tmp_path / "x.onnx", autoencoder=coder, settings=settings)
    image = np.random.default_rng(0).integers(0, 255, (21, 30, 3), dtype=np.uint8)
    assert Restorer(written.path, device="cpu")(image).shape == (42, 60, 3)


@pytest.mark.slow
def test_the_graph_of_a_prior_keeps_the_names_of_its_weights(adm: Path) -> None:
    names = {tensor.name for tensor in onnx.load(adm).graph.initializer}
    assert set(built(ADM).state_dict()) <= names
