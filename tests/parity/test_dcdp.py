"""DCDP against arrays made with the authors' code; every parameter comes from the files and names beside the arrays.

The folder is the environment variable RESTONNX_PARITY, by default ../shared/parity beside the checkout; a small excerpt
in this repository is always tested. The stand-in networks are those that the vectors were made with.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from restonnx.diffusion import blurs, dcdp, operators, purify
from restonnx.diffusion.borders import library_of
from restonnx.diffusion.consistency import PUBLISHED_TIME_SCALE, Preconditioning
from restonnx.diffusion.data_consistency import adam, descend, pull_from, step_from
from restonnx.diffusion.resizing import Downsample

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "excerpt": Path(__file__).parent / "excerpt" / "dcdp",
    "full": Path(os.environ.get("RESTONNX_PARITY", ROOT.parent / "shared" / "parity")) / "dcdp",
}
LIBRARIES = ("numpy", "torch")


def archives(file: str) -> list[Any]:
    """(source's folder, its arrays), of each source that has the file."""
    found = []
    for source, folder in FOLDERS.items():
        if (folder / f"{file}.npz").exists():
            found.append(pytest.param(folder, np.load(folder / f"{file}.npz"), id=source))
        else:
            reason = f"no parity vectors at {folder}; set RESTONNX_PARITY"
            found.append(pytest.param(None, None, id=source, marks=pytest.mark.skip(reason=reason)))
    return found


def runs(file: str) -> list[Any]:
    """(folder, arrays, options, tag) of each run of a loop."""
    found = []
    for parameter in archives(file):
        folder, arrays = parameter.values
        if folder is None:
            found.append(pytest.param(None, None, None, None, id=parameter.id, marks=parameter.marks))
            continue
        for tag, options in read_json(folder / f"{file}_meta.json").items():
            if f"{tag}/y" in arrays:
                found.append(pytest.param(folder, arrays, options, tag, id=f"{parameter.id}-{tag}"))
    return found


def read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def as_library(array: Any, library: str) -> Any:
    return pytest.importorskip("torch").from_numpy(np.ascontiguousarray(array)) if library == "torch" else array


def close(found: Any, expected: Any, atol: float, name: str = "") -> None:
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=atol, err_msg=name)


def official_operator(kind: str, folder: Path, shape: tuple[int, ...]) -> Any:
    """The operator of that name for images of that shape; its kernel or mask lies in operators.npz."""
    arrays = np.load(folder / "operators.npz")
    if kind.startswith("sr"):
        factor = int(kind.removeprefix("sr") or read_json(folder / "config.json")["scale"])
        return Downsample(factor, (shape[-2], shape[-1]), centred=True)
    if kind == "denoise":
        return operators.Identity()
    if f"kernel_{kind}" in arrays:
        return blurs.Blur(arrays[f"kernel_{kind}"])
    return operators.Mask(arrays[f"mask_{kind}"])


def stand_in_eps(abar: Any, s2: float, c: float, f: float) -> Callable[[Any, int], Any]:
    def eps(x: Any, t: int) -> Any:
        a = float(np.float32(abar[t]))
        return (1 - a) ** 0.5 / (a * s2 + 1 - a) * x + c * float(np.cos(f * t)) * (x - rolled(x))

    return eps


def rolled(x: Any, by: int = 1) -> Any:
    return library_of(x).roll(x, by, -1)


def official_fit(operator: Any, measurement: Any, options: dict[str, Any], image: Any) -> dcdp.Fit:
    """Data consistency with the learning rate, the weight and the optimiser of a published configuration."""
    weight = options["weight_decay_lambda"] if options.get("use_weight_decay") else 0.0
    pull = pull_from(weight, measurement, image)
    if options.get("optimizer", "SGD") == "Adam":
        eps = 1e-8 / step_from(1.0, measurement)
        return lambda v, k: adam(
            operator, measurement, v, steps=options["tau"], learning_rate=options["lr"], eps=eps, pull=pull
        )
    step = step_from(options["lr"], measurement)
    return lambda v, k: descend(
        operator, measurement, v, steps=options["tau"], step=step, momentum=options["momentum"], pull=pull
    )


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("folder", "arrays"), archives("operators"))
def test_measurements_and_adjoints_equal_the_authors(folder: Path, arrays: Any, library: str) -> None:
    names = [key.removeprefix("adj_u_") for key in arrays if key.startswith("adj_u_")]
    assert names
    x = as_library(arrays["x"], library)
    for name in names:
        operator = official_operator(name, folder, x.shape)
        close(operator.forward(x), arrays[f"A_{name}"], 5e-6, name)
        u = as_library(arrays[f"adj_u_{name}"], library)
        close(operator.adjoint(u), arrays[f"adj_ATu_{name}"], 5e-6, name)
        products = (operator.forward(x) * u).sum(), (x * operator.adjoint(u)).sum()
        np.testing.assert_allclose(products, arrays[f"adj_dot_{name}"], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("folder", "arrays"), archives("operators"))
def test_measurements_of_large_images_equal_the_authors(folder: Path, arrays: Any, library: str) -> None:
    if "x_big" not in arrays:
        pytest.skip("not in the excerpt")
    x = as_library(arrays["x_big"], library)
    for key in arrays:
        if match := re.fullmatch(r"A_(\w+)_big", key):
            name = match[1] if match[1].startswith("sr") else f"{match[1]}_big"
            close(official_operator(name, folder, x.shape).forward(x), arrays[key], 5e-6, key)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("folder", "arrays"), archives("operators"))
def test_phase_retrieval_equals_the_authors(folder: Path, arrays: Any, library: str) -> None:
    if "phase_x" not in arrays:
        pytest.skip("not in the excerpt")
    x = as_library(arrays["phase_x"], library)
    operator = operators.PhaseRetrieval((arrays["A_phase"].shape[-1] - x.shape[-1]) // 2)
    close(operator.forward(x), arrays["A_phase"], 5e-6)
    close(operator.linearize(x)[0], arrays["A_phase"], 5e-6)


@pytest.mark.parametrize(("folder", "arrays"), archives("operators"))
def test_bicubic_weights_equal_the_authors(folder: Path, arrays: Any) -> None:
    tables = {key.removesuffix("_w"): key for key in arrays if re.fullmatch(r"resizer\d+_w", key)}
    pairs = [(arrays[w], arrays[f"{name}_fov"]) for name, w in tables.items()]
    pairs += [(arrays[f"resizer_w_dim{d}"], arrays[f"resizer_fov_dim{d}"]) for d in (2, 3)]
    sizes = [int(re.sub(r"\D", "", name)) for name in tables] + list(arrays["x"].shape[2:])
    for (weights, places), side in zip(pairs, sizes, strict=True):
        count = weights.shape[1]
        expected = np.zeros((count, side))
        np.add.at(expected, (np.arange(count)[None], places), weights)
        factor = -(-side // count)
        identity = np.eye(side, dtype=np.float32)[:, None, None, :].repeat(factor, 2)
        found = Downsample(factor, (factor, side), centred=True).forward(identity)
        close(found[:, 0, 0].T, expected, 1e-6)


@pytest.mark.parametrize(("folder", "arrays"), archives("operators"))
def test_gaussian_kernels_equal_the_authors(folder: Path, arrays: Any) -> None:
    size, sigma = read_json(folder / "config.json")["gk"]
    close(blurs.gaussian_kernel(int(size), sigma), arrays["kernel_gauss"], 1e-7)


@pytest.mark.parametrize(("folder", "arrays"), archives("operators"))
def test_the_box_mask_equals_the_authors(folder: Path, arrays: Any) -> None:
    config = read_json(folder / "config.json")
    close(operators.box_mask(config["H"], config["W"], *config["box"]), arrays["mask_box"], 0)


@pytest.mark.parametrize(("folder", "arrays"), archives("schedules"))
def test_time_schedules_and_sub_schedules_equal_the_authors(folder: Path, arrays: Any) -> None:
    assert len(arrays.files) > 10
    for key in arrays:
        if match := re.fullmatch(r"ddim_ts_t(\d+)_n(\d+)", key):
            found: Any = purify.ddim_indices(int(match[1]), int(match[2]))
        else:
            match = re.fullmatch(r"(\w+)_K(\d+)_T(\d+)_E(\d+)", key)
            assert match
            found = dcdp.time_schedule(*(int(number) for number in match.groups()[1:]), match[1])
        np.testing.assert_array_equal(found, arrays[key], err_msg=key)


@pytest.mark.parametrize(("folder", "arrays"), archives("latent_loop"))
def test_sub_schedules_of_latent_models_equal_the_authors(folder: Path, arrays: Any) -> None:
    for key in arrays:
        if match := re.fullmatch(r"ldm_ddim_ts_t(\d+)_n(\d+)", key):
            found = purify.latent_ddim_indices(int(match[1]), int(match[2]))
            np.testing.assert_array_equal(found, arrays[key], err_msg=key)


@pytest.mark.parametrize(("folder", "arrays"), archives("purify_ddim"))
@pytest.mark.parametrize("library", LIBRARIES)
def test_purifications_equal_the_authors(folder: Path, arrays: Any, library: str) -> None:
    abar, config = arrays["abar"], read_json(folder / "config.json")
    np.testing.assert_allclose(purify.linear_abar(len(abar)), abar, rtol=1e-12)
    eps = stand_in_eps(abar, config["s2"], config["c"], config["f"])
    x, noise = as_library(arrays["x0"], library), as_library(arrays["noise"], library)
    checked = 0
    for key in arrays:
        if match := re.fullmatch(r"noisy_t(\d+)", key):
            close(purify.noised(x, noise, abar, int(match[1]) - 1), arrays[key], 2e-6, key)
        elif match := re.fullmatch(r"tweedie_t(\d+)", key):
            close(purify.Tweedie(eps, abar)(x, noise, int(match[1])), arrays[key], 2e-5, key)
        elif match := re.fullmatch(r"ddim_t(\d+)_n(\d+)", key):
            close(purify.Ddim(eps, abar, int(match[2]))(x, noise, int(match[1])), arrays[key], 2e-5, key)
        checked += bool(match)
    assert checked > 2


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("folder", "arrays", "options", "tag"), runs("loop"))
def test_the_loop_equals_the_authors(
    folder: Path, arrays: Any, options: dict[str, Any], tag: str, library: str
) -> None:
    config, abar = read_json(folder / "config.json"), arrays["abar"]
    operator = official_operator(options["operator"], folder, arrays["x_gt"].shape)
    measured = operator.forward(arrays["x_gt"]) + options["noise_std"] * arrays[f"{tag}/y_noise"]
    close(measured, arrays[f"{tag}/y"], 1e-5)
    assert options["measurement_numel"] == arrays[f"{tag}/y"][0].size
    calls = []
    stand_in = stand_in_eps(abar, config["s2"], config["c"], config["f"])

    def eps(x: Any, t: int) -> Any:
        calls.append(t)
        return stand_in(x, t)

    y, noise = as_library(arrays[f"{tag}/y"], library), as_library(arrays["q_noise"], library)
    levels = dcdp.time_schedule(options["K"], options["T0"], options["TK"])
    np.testing.assert_array_equal(levels - 1, options["q_timesteps_used"])
    purifier: Any = purify.Ddim(eps, abar, options["ddim_steps"], t1_from_index_1=True)
    if options["mode"] == "tweedie":
        purifier = purify.Tweedie(eps, abar, t1_from_index_1=True)
    steps: list[Any] = []
    start = 0 * noise[0]
    result = dcdp.dcdp(
        start,
        official_fit(operator, y, options, start),
        purifier,
        [int(level) for level in levels],
        noise,
        on_step=lambda k, x, v: steps.append((x, v)),
    )
    atol = 2e-4 if options["optimizer"] == "Adam" else 2e-5
    for k, (x, v) in enumerate(steps):
        close(x[0], arrays[f"{tag}/dc"][k], atol, f"data consistency {k}")
        close(v[0], arrays[f"{tag}/purified"][k], atol, f"purification {k}")
    assert len(calls) == options["nfe"]
    assert type(result.purified) is type(y)
    if f"{tag}/first_gd" in arrays:
        first = official_fit(operator, y, options | {"tau": 1}, start)(start, 0)
        close(first, arrays[f"{tag}/first_gd"], atol)
    for k, noisy in enumerate(arrays.get(f"{tag}/noisy", ())):
        close(purify.noised(steps[k][0], noise[k], abar, int(levels[k]) - 1)[0], noisy, atol)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("folder", "arrays"), archives("loop_cm"))
def test_the_loop_with_a_consistency_model_equals_the_authors(folder: Path, arrays: Any, library: str) -> None:
    p = [float(value) for value in arrays["net_params"]]

    def raw(u: Any, time: Any) -> Any:
        return p[0] * u + p[1] * library_of(u).sin(2 * u + 0.001 * time) + p[2] * rolled(u)

    model = Preconditioning(boundary=True, time_scale=PUBLISHED_TIME_SCALE).denoiser(raw)
    options = read_json(folder / "loop_meta.json")
    tags = [key.removesuffix("/y") for key in arrays if key.endswith("/y")]
    assert tags
    noise = as_library(arrays["q_noise"], library)
    for tag in tags:
        operator = official_operator(tag, folder, noise.shape[1:])
        y, steps = as_library(arrays[f"{tag}/y"], library), []
        fit = official_fit(operator, y, options[f"{tag}_ddim"], noise[0])
        levels = [float(sigma) for sigma in arrays["sigmas"]]
        purifier = purify.Denoised(model)
        dcdp.dcdp(0 * noise[0], fit, purifier, levels, noise, on_step=lambda k, x, v, s=steps: s.append((x[0], v[0])))
        found_x, found_v = (np.stack([np.asarray(a) for a in which]) for which in zip(*steps, strict=True))
        close(found_x, arrays[f"{tag}/dc"], 2e-5, tag)
        close(found_v, arrays[f"{tag}/purified"], 2e-5, tag)


def toy_autoencoder(gain: float) -> SimpleNamespace:
    """D(z) = gain up(z) + 0.1 tanh(roll(up(z))), E(x) = mean of 2 x 2 pixels / gain, and D with its derivative."""

    def doubled(z: Any) -> Any:
        return library_of(z).stack([z, z], -1).reshape(*z.shape[:-1], 2 * z.shape[-1])

    def up(z: Any) -> Any:
        return doubled(doubled(z).swapaxes(-1, -2)).swapaxes(-1, -2)

    def pooled(x: Any) -> Any:
        high, wide = x.shape[-2:]
        return x.reshape(*x.shape[:-2], high // 2, 2, wide // 2, 2).sum((-3, -1))

    def decode(z: Any) -> Any:
        return gain * up(z) + 0.1 * library_of(z).tanh(rolled(up(z)))

    def linearized(z: Any) -> tuple[Any, Any]:
        slope = 1 - library_of(z).tanh(rolled(up(z))) ** 2
        return decode(z), lambda u: pooled(gain * u + 0.1 * rolled(u * slope, -1))

    return SimpleNamespace(decode=decode, encode=lambda x: pooled(x) / 4 / gain, linearized=linearized)


@pytest.mark.parametrize("derivative", ["written", "autograd"])
@pytest.mark.parametrize(("folder", "arrays", "options", "tag"), runs("latent_loop"))
def test_the_latent_loop_equals_the_authors(
    folder: Path, arrays: Any, options: dict[str, Any], tag: str, derivative: str
) -> None:
    toy = read_json(folder / "latent_loop_meta.json")["toy"]
    abar, (kind, space, mode) = arrays["abar"], tag.split("_")
    np.testing.assert_allclose(purify.scaled_linear_abar(len(abar)), abar, rtol=1e-12)
    library = "torch" if derivative == "autograd" else "numpy"
    autoencoder = toy_autoencoder(toy["k0"])
    if kind == "sr":
        factor = arrays["x_gt"].shape[-1] // arrays[f"{tag}/y"].shape[-1]
        operator: Any = Downsample(factor)
    else:
        operator = blurs.Blur(arrays[f"kernel_{kind}"])
    y, noise = as_library(arrays[f"{tag}/y"], library), as_library(arrays["q_noise"], library)
    eps = stand_in_eps(abar, toy["s2"], toy["c"], toy["f"])
    purifier: Any = purify.Ddim(eps, abar, options["ddim_steps"], clip=None, skip_first_index=True)
    if mode == "tweedie":
        purifier = purify.Tweedie(eps, abar, clip=None)
    levels = [int(level) for level in dcdp.time_schedule(options["K"], options["T0"], options["TK"])]
    assert [level - 1 for level in levels] == options["q_t"]
    seen: dict[str, list[Any]] = {"encoded": [], "noisy": [], "purified_z": [], "dc": []}

    def watched(z: Any, drawn: Any, level: int) -> Any:
        seen["encoded"].append(z)
        seen["noisy"].append(purify.noised(z, drawn, abar, level - 1))
        seen["purified_z"].append(purifier(z, drawn, level))
        return seen["purified_z"][-1]

    around = {"encode": autoencoder.encode, "decode": autoencoder.decode}
    if space == "latent":
        linearized = None if derivative == "autograd" else autoencoder.linearized
        through = operators.Decoded(operator, autoencoder.decode, linearized)
        start, purified = as_library(arrays["z_init"], library), dcdp.purify_reencoded(watched, **around)
    else:
        through = operator
        start, purified = 0 * as_library(arrays["x_gt"], library), dcdp.purify_latent(watched, **around)
    fit = official_fit(through, y, options, start)
    dcdp.dcdp(start, fit, purified, levels, noise, on_step=lambda k, x, v: seen["dc"].append(x))
    if space == "pixel":
        seen["dc"] = seen["encoded"]
    for name in ("dc", "noisy", "purified_z"):
        for k, value in enumerate(seen[name]):
            close(value[0], arrays[f"{tag}/{name}"][k], 2e-5, f"{name} {k}")
