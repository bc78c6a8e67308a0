from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason='exporting needs torch: pip install "restonnx[train]"')

import onnx
import onnxruntime
import torch
from tiny_prior import tiny_prior
from tiny_published import ADM, CONSISTENCY, built, drawn, prior, traced_once
from torch import Tensor

from restonnx import noise as noises
from restonnx import solve
from restonnx.diffusion import purify
from restonnx.diffusion.blurs import Blur, gaussian_kernel
from restonnx.diffusion.data_consistency import conjugate_gradient, filled, proximal, rho_from
from restonnx.diffusion.dcdp import dcdp
from restonnx.diffusion.operators import Identity, Mask
from restonnx.diffusion.purify import linear_abar
from restonnx.diffusion.resizing import Downsample
from restonnx.errors import InputError
from restonnx.model import read
from restonnx.onnx_export import dcdp_export, dcdp_graphs, published
from restonnx.onnx_export.dcdp_export import export_dcdp
from restonnx.onnx_export.dcdp_graphs import LAST_SIGMA, LEAST_NOISE, PUBLISHED, Dcdp, Setting
from restonnx.onnx_export.freeze import SIZES, Port, compare
from restonnx.onnx_export.official_graphs import AdmDenoiser, ConsistencyDenoiser
from restonnx.restore import Restorer

OPERATORS = ("blur", "inpaint", "superresolve", "denoise")
SIDE = 16
LOPSIDED = gaussian_kernel(5, 1.0) * np.linspace(0.2, 1.8, 25, dtype=np.float32).reshape(5, 5)
LOPSIDED /= LOPSIDED.sum()


def feeds(module: Dcdp, noise_level: float, samples: int = 1) -> tuple[Tensor, ...]:
    """Inputs of a module, of images of SIDE pixels (measured ones are smaller in super-resolution)."""
    small = SIDE // module.scale
    image, noise = drawn(samples, 3, small, small).tanh(), drawn(samples, module.draws, 3, SIDE, SIDE, seed=1)
    kernel = torch.from_numpy(LOPSIDED).expand(samples, 1, 5, 5)
    mask = (drawn(samples, 1, SIDE, SIDE, seed=2) > 0).float()
    given = {"blur": (kernel,), "inpaint": (mask,)}.get(module.operator, ())
    return (image, noise, *given, torch.full((samples, 1, 1, 1), noise_level))


@pytest.mark.parametrize("noise_level", [0.0, 0.2])
@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.parametrize("operator", OPERATORS)
def test_the_published_setting_is_dcdp_with_the_operators_of_diffusion(
    operator: str, passes: int, noise_level: float
) -> None:
    module = Dcdp(
        prior(), operator, scale=2, border="mirrored", rounds=3, passes=passes, iterations=4, setting=PUBLISHED
    )
    image, noise, *given, level = feeds(module, noise_level, samples=2)
    sigma_y = max(noise_level, LEAST_NOISE)
    physics: Any = {
        "blur": lambda: Blur(given[0].flip(-2, -1)),
        "inpaint": lambda: Mask(given[0]),
        "superresolve": lambda: Downsample(2),
        "denoise": Identity,
    }[operator]()
    measured = physics.forward(image) if operator == "inpaint" else image
    levels = PUBLISHED.levels(3)
    assert levels is not None
    assert levels[0] > 1.5  # step 400 of 1000
    assert levels[-1] < 2 * LAST_SIGMA  # so low that one pass removes it

    def fit(v: Tensor, k: int) -> Tensor:
        rho = rho_from(sigma_y, levels[max(k - 1, 0)])
        if operator in ("blur", "superresolve"):
            found: Tensor = conjugate_gradient(physics, measured, v, rho, iterations=4)
            return found
        closed: Tensor = proximal(physics, measured, v, rho)
        return closed

    def denoise(x: Tensor, sigma: float) -> Tensor:
        return module.prior(x, torch.full((len(x), 1, 1, 1), sigma))

    purifier = purify.Denoised(denoise, None, passes, LAST_SIGMA)
    ends = dcdp(torch.zeros_like(noise[:, 0]), fit, purifier, levels, noise.unbind(1))
    expected = ends.purified if noise_level else ends.consistent
    np.testing.assert_allclose(module(image, noise, *given, level), expected, atol=2e-5)


@pytest.fixture(scope="module")
def written_prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_prior(tmp_path_factory.mktemp("prior") / "tiny-prior.onnx")


WRITTEN: Any = SimpleNamespace(
    ports=(Port("image", "image", ("N", 3, "H", "W")), Port("sigma", "noise_level", ("N", 1, 1, 1))),
    network=SimpleNamespace(multiple=4),
)
"""What a graph needs to know of a prior that is in a file."""


@pytest.mark.parametrize("noise_level", [0.0, 0.04])
@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.parametrize("operator", ["blur", "inpaint", "denoise"])
def test_the_graph_gives_what_solve_gives(
    operator: str, passes: int, noise_level: float, written_prior: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    height, width, seed = 24, 32, 5
    traced = onnx.load(written_prior)
    monkeypatch.setattr(dcdp_graphs, "to_onnx", lambda *_, **__: traced)
    module = Dcdp(WRITTEN, operator, border="mirrored", passes=passes)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width] / 16
    image = np.stack([0.5 + 0.4 * np.sin(3 * x + y), 0.5 + 0.4 * np.cos(5 * y), x / 2], -1).astype(np.float32)
    kernel, mask = LOPSIDED, (rng.random((height, width)) > 0.4).astype(np.float32)
    physics = {"blur": Blur(kernel[::-1, ::-1]), "inpaint": Mask(mask), "denoise": Identity()}[operator]
    measured = physics.forward(image.transpose(2, 0, 1)[None])
    measured = (measured + noise_level * rng.standard_normal(measured.shape)).astype(np.float32)
    measured = measured * mask if operator == "inpaint" else measured
    found: list[Any] = []
    expected = solve(
        measured[0].transpose(1, 2, 0),
        operator=physics,
        prior=written_prior,
        device="cpu",
        noise_level=noise_level,
        passes=passes,
        seed=seed,
        value_range=(0, 1),
        on_step=lambda k, consistent, purified: found.append(purified),
    )
    assert len(found) == module.draws
    session = onnxruntime.InferenceSession(module.to_onnx(16).SerializeToString(), providers=["CPUExecutionProvider"])
    given = {"blur": {"kernel": kernel[None, None]}, "inpaint": {"mask": mask[None, None]}, "denoise": {}}[operator]
    feeds = {
        "image": 2 * measured - 1,
        "noise": noises.normal(seed, module.draws, 3, slice(0, height), slice(0, width))[None],
        "noise_level": np.full((1, 1, 1, 1), 2 * noise_level, np.float32),
        **{name: np.asarray(value, np.float32) for name, value in given.items()},
    }
    (restored,) = session.run(None, feeds)
    assert np.abs(restored).max() > 0.5
    np.testing.assert_allclose(restored[0].transpose(1, 2, 0) / 2 + 0.5, expected, rtol=0, atol=1e-4)


def test_a_blur_is_what_a_point_becomes_whatever_lies_beyond_the_border() -> None:
    module = Dcdp(prior(), "blur", rounds=1)
    image, _, kernel, _ = feeds(module, 0.0)
    physics = module.physics(image, kernel)
    high, wide = module.frame(kernel)
    assert (high, wide) == (module.multiple, module.multiple)
    point = torch.zeros(1, 3, SIDE + 2 * high, SIDE + 2 * wide)
    point[..., high + 6, wide + 9] = 1
    expected = torch.zeros(1, 3, SIDE, SIDE)
    expected[..., 4:9, 7:12] = kernel
    torch.testing.assert_close(physics.forward(point), expected)
    seen, back = drawn(1, 3, SIDE, SIDE, seed=3), drawn(*point.shape, seed=4)
    torch.testing.assert_close((physics.forward(back) * seen).sum(), (back * physics.adjoint(seen)).sum())


def test_each_sample_has_the_schedule_of_its_own_noise() -> None:
    module = Dcdp(prior(), "denoise", rounds=3, passes=3)
    image, noise, _ = feeds(module, 0.0, samples=2)
    levels = torch.tensor([0.0, 0.3]).reshape(2, 1, 1, 1)
    apart = [module(image[n : n + 1], noise[n : n + 1], levels[n : n + 1]) for n in range(2)]
    torch.testing.assert_close(module(image, noise, levels), torch.cat(apart))


def test_without_noise_the_result_agrees_with_the_measurement() -> None:
    module = Dcdp(prior(), "inpaint", rounds=2)
    image, noise, mask, level = feeds(module, 0.0)
    np.testing.assert_allclose(module(image, noise, mask, level) * mask, image * mask, atol=1e-4)


def test_holes_may_keep_a_share_of_the_smooth_filling() -> None:
    plain, shared = (Dcdp(prior(), "inpaint", rounds=2, setting=Setting(smooth=share)) for share in (0.0, 0.4))
    image, noise, mask, level = feeds(plain, 0.0)
    known = image * mask
    expected = plain(image, noise, mask, level) * (1 - 0.4 * (1 - mask)) + 0.4 * (1 - mask) * filled(known, mask)
    torch.testing.assert_close(shared(image, noise, mask, level), expected, rtol=0, atol=1e-5)


def test_who_says_nothing_of_the_noise_gets_what_suits_the_operator() -> None:
    defaults = {operator: Dcdp(prior(), operator, scale=2).ports[-1].spec().default for operator in OPERATORS}
    assert defaults == {"blur": "estimate", "inpaint": 0, "superresolve": 0, "denoise": "estimate"}


def test_missing_pixels_may_hold_anything() -> None:
    module = Dcdp(prior(), "inpaint", rounds=2)
    image, noise, mask, level = feeds(module, 0.1)
    other = torch.where(mask > 0, image, torch.nan)
    torch.testing.assert_close(module(other, noise, mask, level), module(image, noise, mask, level))


def priors() -> dict[str, Any]:
    abar = torch.from_numpy(linear_abar())
    return {
        "ours": prior,
        "adm": lambda: AdmDenoiser(built(ADM), abar),
        "consistency": lambda: ConsistencyDenoiser(built(CONSISTENCY)),
    }


def errors_without_noise(content: bytes, module: Dcdp) -> float:
    """As `compare`, where the measurement is trusted and the other end of the last round is the result."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    values = feeds(module, 0.0, samples=2)
    (found,) = session.run(None, {port.name: v.numpy() for port, v in zip(module.ports, values, strict=True)})
    return float(np.abs(found - module(*values).numpy()).max())


@pytest.fixture(scope="module")
def each_prior_once() -> Iterator[None]:
    with traced_once(dcdp_graphs):
        yield


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("each_prior_once")
@pytest.mark.parametrize(
    ("operator", "kind", "options"),
    [
        ("blur", "ours", {"iterations": 6}),
        ("superresolve", "ours", {"scale": 2, "iterations": 6, "passes": 2}),
        ("inpaint", "ours", {"passes": 3, "setting": PUBLISHED}),
        ("denoise", "adm", {"clip": True}),
        ("inpaint", "consistency", {"clip": True}),
    ],
)
def test_the_graph_equals_torch_at_every_size(operator: str, kind: str, options: dict[str, Any]) -> None:
    module = Dcdp(priors()[kind](), operator, rounds=3, **options).eval()
    unit = module.multiple * -(-16 // module.multiple)
    content = module.to_onnx(unit).SerializeToString()
    sizes = SIZES if kind == "ours" else published.SIZES  # in published networks every pixel attends to every other
    assert max(compare(content, module, module.ports, unit, sizes)) < 1e-4
    assert errors_without_noise(content, module) < 1e-4


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, each_prior_once: None) -> Path:
    out = tmp_path_factory.mktemp("dcdp") / "inpaint.onnx"
    return export_dcdp(prior(), out, operator="inpaint", rounds=7, passes=2).path


@pytest.mark.slow
def test_the_weights_and_the_network_stand_in_the_file_once(exported: Path) -> None:
    graph = onnx.load(exported).graph
    names = [tensor.name for tensor in graph.initializer]
    weights = list(prior().network.state_dict())
    assert all(names.count(name) == 1 for name in weights)

    def nodes(part: Any) -> Any:
        for node in part.node:
            yield node
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    yield from nodes(attribute.g)

    uses = [name for node in nodes(graph) if node.op_type == "Conv" for name in node.input]
    assert uses.count("encoder.down_blocks.0.0.conv1.weight.float32") == 1


@pytest.mark.slow
def test_the_file_describes_itself_and_restores_an_image(exported: Path) -> None:
    file = read(exported)
    meta = file.metadata
    assert (meta.sampler.family, meta.sampler.steps, meta.sampler.draws) == ("dcdp", 7, 7)
    assert meta.sampler.options["purifier"] == "ddim"
    assert [spec.role for spec in meta.inputs] == ["image", "noise", "mask", "noise_level"]
    assert meta.tile.mode == "overlap"
    image = np.random.default_rng(0).integers(0, 255, (30, 37, 3), dtype=np.uint8)
    missing = np.zeros((30, 37), bool)
    missing[10:15, 10:20] = True
    restored = Restorer(file, device="cpu")(image, mask=missing, noise_level=0)
    assert restored.dtype == np.uint8
    np.testing.assert_allclose(restored[~missing].astype(int), image[~missing], atol=1)
    assert (restored[missing] != image[missing]).any()


def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Describe, but do not trace."""
    monkeypatch.setattr(dcdp_export, "freeze", lambda *_, **__: (0.0,))


def test_a_tile_is_as_large_in_the_result_for_every_scale(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stub(monkeypatch)
    plain = export_dcdp(prior(), tmp_path / "x.onnx", operator="denoise").metadata
    fourfold = export_dcdp(prior(), tmp_path / "x.onnx", operator="superresolve", scale=4).metadata
    assert fourfold.scale == 4
    assert fourfold.tile.preferred * 4 == plain.tile.preferred
    assert fourfold.tile.halo * 4 == plain.tile.halo
    assert fourfold.name == "prior-superresolve"
    assert fourfold.task == "super-resolution"


def test_the_published_setting_can_be_chosen_and_changed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    modules: list[Dcdp] = []
    monkeypatch.setattr(dcdp_export, "freeze", lambda module, *_, **__: modules.append(module) or (0.0,))
    adm = AdmDenoiser(built(ADM), torch.from_numpy(linear_abar()))
    export_dcdp(adm, tmp_path / "x.onnx")
    export_dcdp(adm, tmp_path / "x.onnx", setting="published", weight=0.3)
    ours, published = modules
    assert (ours.setting, ours.noise_share, ours.clip) == (Setting(), 0.3, None)
    assert published.setting == Setting(400, "linear", 0, 0.3, 1.0, "zero")
    assert (published.noise_share, published.clip) == (1.0, (-1.0, 1.0))


def test_a_consistency_model_purifies_in_one_pass(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stub(monkeypatch)
    consistent = ConsistencyDenoiser(built(CONSISTENCY))
    options = export_dcdp(consistent, tmp_path / "x.onnx").metadata.sampler.options
    assert options["purifier"] == "consistency"
    assert options["clip"] is False
    with pytest.raises(InputError, match="passes must be 1"):
        export_dcdp(consistent, tmp_path / "x.onnx", passes=2)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"operator": "rotate"}, "'blur', 'inpaint', 'superresolve' or 'denoise'"),
        ({"scale": 1}, "option scale: .*greater than or equal to 2"),
        ({"rounds": 0}, "option rounds"),
        ({"rounds": 20, "first_level": 10, "style": "linear"}, "rounds must be from 1 to the first level 10"),
        ({"last_level": 5}, "last_level goes with another style"),
        ({"setting": "best"}, "option setting"),
        ({"style": "steep"}, "option style"),
        ({"precision": "int8"}, "float32, float16, int8-weights"),
    ],
)
def test_chains_that_cannot_be_are_refused_in_one_line(tmp_path: Path, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as error:
        export_dcdp(prior(), tmp_path / "x.onnx", **options)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_what_is_no_prior_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no prior but a chain of resshift"):
        export_dcdp("denoise", tmp_path / "x.onnx")
    with pytest.raises(InputError, match="--as adm"):
        export_dcdp("ffhq_10m.pt", tmp_path / "x.onnx")
