"""Consistency models against arrays made with their authors' code; options come from the names of the arrays.

The folder is the environment variable RESTONNX_PARITY, by default ../shared/parity beside the checkout; a small excerpt
in this repository is always tested. Constants that no name holds are those of the arrays' description.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from restonnx.diffusion import consistency
from restonnx.diffusion.consistency import PUBLISHED_TIME_SCALE, Preconditioning, karras_sigmas
from restonnx.diffusion.consistency_training import Curriculum, loss_weight

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "excerpt": Path(__file__).parent / "excerpt" / "consistency",
    "full": Path(os.environ.get("RESTONNX_PARITY", ROOT.parent / "shared" / "parity")) / "dcdp",
}
EDM = Preconditioning(0.5, 0.002, 80.0, boundary=False, time_scale=PUBLISHED_TIME_SCALE)
CM = Preconditioning(0.5, 0.002, 80.0, boundary=True, time_scale=PUBLISHED_TIME_SCALE)
CLIP = (-1.0, 1.0)
CURRICULA = {  # name: its curriculum, total steps
    "ct_in64": (Curriculum(2, 200, decay=0.95, adaptive=True), 800_000),
    "ct_lsun": (Curriculum(2, 150, decay=0.95, adaptive=True), 1_000_000),
    "cd": (Curriculum(40, decay=0.95), 1),
}
STEPS = {
    "heun": consistency.heun_step,
    "euler": consistency.euler_step,
    "dpm": consistency.dpm_step,
}

each_source = pytest.mark.parametrize("source", FOLDERS)
each_library = pytest.mark.parametrize("library", ["numpy", "torch"])


def vectors(source: str, file: str) -> dict[str, Any]:
    path = FOLDERS[source] / f"{file}.npz"
    if not path.exists():
        pytest.skip(f"no parity vectors at {path.parent}; set RESTONNX_PARITY")
    return dict(np.load(path))


def matches(pattern: str, names: Any) -> Iterator[tuple[str, re.Match[str]]]:
    found = [(name, match) for name in names if (match := re.fullmatch(pattern, name))]
    assert found, f"no array is called {pattern}"
    yield from found


def stand_in(params: Any) -> Callable[[Any, Any], Any]:
    """The analytic network of the vectors' description."""
    a, b, c = (float(value) for value in params)

    def raw(u: Any, level: Any) -> Any:
        inner = 2 * u + 0.001 * level
        if hasattr(u, "new_tensor"):
            return a * u + b * inner.sin() + c * u.roll(1, -1)
        return a * u + b * np.sin(inner) + c * np.roll(u, 1, -1)

    return raw


@each_library
@each_source
def test_every_coefficient_and_weight_equals_the_authors(source: str, library: str) -> None:
    expected = vectors(source, "edm_consistency_tables")
    sigma = as_library(expected["sigma"], library)
    for name, match in matches(r"(edm|cm)_(c_skip|c_out|c_in)", expected):
        reading = EDM if match[1] == "edm" else CM
        close(getattr(reading, match[2])(sigma), expected[name], name)
        alone = [getattr(reading, match[2])(float(s)) for s in expected["sigma"]]
        close(alone, expected[name], name)
    close(EDM.c_noise(sigma), expected["rescaled_t"], "rescaled_t")
    for name, match in matches(r"weight_(.+)", expected):
        close(loss_weight(sigma, match[1], 0.5), expected[name], name)


@each_source
def test_every_grid_of_noise_levels_equals_the_authors(source: str) -> None:
    expected = vectors(source, "edm_consistency_tables")
    for name, match in matches(r"karras_n(\d+)(?:_smin([\d.]+)_smax([\d.]+)_rho([\d.]+))?", expected):
        low, high, rho = (float(value) for value in (match[2] or 0.002, match[3] or 80, match[4] or 7))
        grid = karras_sigmas(int(match[1]), sigma_min=low, sigma_max=high, rho=rho)
        close(np.append(grid, 0.0), expected[name], name)
    for name, match in matches(r"multistep_sigma_ts([\d_]+)_steps(\d+)", expected):
        indices = [int(value) for value in match[1].split("_")]
        found = consistency.multistep_sigmas(indices, int(match[2]))
        np.testing.assert_allclose(found, expected[name], rtol=1e-12, err_msg=name)


@each_source
def test_the_grid_and_the_target_network_develop_as_the_authors(source: str) -> None:
    expected = vectors(source, "edm_consistency_tables")
    for name, match in matches(r"scales_(.+)", expected):
        curriculum, total = CURRICULA[match[1]]
        progress = [step / total for step in expected["ema_steps"]]
        np.testing.assert_array_equal([curriculum.points(p) for p in progress], expected[name], name)
        decay = [curriculum.target_decay(p) for p in progress]
        np.testing.assert_allclose(decay, expected[f"ema_{match[1]}"], rtol=1e-12, err_msg=name)


@each_library
@each_source
def test_denoised_images_equal_the_authors(source: str, library: str) -> None:
    expected = vectors(source, "purify_cm")
    online, _, teacher = vectors(source, "consistency_losses")["net_params"]
    clean, noise = (as_library(expected[name], library) for name in ("x0", "noise"))
    for name, match in matches(r"noisy_s([\d.]+)", expected):
        sigma = float(match[1])
        noisy = clean + sigma * noise
        close(noisy, expected[name], name)
        raw = CM.denoise(stand_in(online), noisy, sigma)
        found = {
            "cm_net": stand_in(online)(CM.c_in(sigma) * noisy, CM.c_noise(sigma)),
            "cm_raw": raw,
            "cm_clip": raw.clip(*CLIP),
            "edm_raw": EDM.denoise(stand_in(teacher), noisy, sigma),
        }
        for kind, value in found.items():
            close(value, expected[f"{kind}_s{match[1]}"], f"{kind} at {sigma}")
            assert type(value) is type(clean)
            assert value.dtype == clean.dtype


@each_library
@each_source
def test_one_step_and_multi_step_samples_equal_the_authors(source: str, library: str) -> None:
    expected = vectors(source, "purify_cm")
    denoise = CM.denoiser(stand_in(vectors(source, "consistency_losses")["net_params"][0]))
    start = CM.sigma_max * as_library(expected["xT_unit"], library)
    alone = consistency.sample(denoise, start, (CM.sigma_max, CM.sigma_min), clip=CLIP)
    close(alone, expected["onestep_out"], "onestep")
    for name, match in matches(r"multi_(.+)_ts", expected):
        tag = match[1]
        sigmas = consistency.multistep_sigmas(expected[name], int(expected[f"multi_{tag}_steps"]))
        noise = as_library(expected[f"multi_{tag}_noises"], library)
        close(consistency.sample(denoise, start, sigmas, noise, clip=CLIP), expected[f"multi_{tag}_out"], tag)


@each_library
@each_source
def test_samples_of_the_ode_equal_the_authors(source: str, library: str) -> None:
    expected = vectors(source, "purify_cm")
    denoise = EDM.denoiser(stand_in(vectors(source, "consistency_losses")["net_params"][2]))
    start = EDM.sigma_max * as_library(expected["xT_unit"], library)
    for name, match in matches(r"edm_([a-z]+)(\d+)_out", expected):
        sigmas = np.append(EDM.grid(int(match[2])), 0.0)
        close(consistency.integrate(denoise, start, sigmas, STEPS[match[1]], clip=CLIP), expected[name], name)


@each_source
def test_consistency_losses_equal_the_authors(source: str) -> None:
    torch = pytest.importorskip("torch")
    from restonnx.training.objectives.consistency import consistency_loss

    expected = vectors(source, "consistency_losses")
    clean, noise = (torch.from_numpy(expected[name]) for name in ("x_start", "noise"))
    online, target, teacher = (stand_in(params) for params in expected["net_params"])
    for name, match in matches(r"(cd|ct)_N(\d+)_(l1|l2|l2-32)_([^_]+)", expected):
        loss = consistency_loss(
            CM.denoiser(online),
            CM.denoiser(target),
            clean,
            noise,
            torch.from_numpy(expected[f"indices_N{match[2]}"]),
            CM.grid(int(match[2])),
            teacher=EDM.denoiser(teacher) if match[1] == "cd" else None,
            norm=match[3],
            weight=match[4],
        )
        close(loss, expected[name], name)


@each_source
def test_denoising_losses_equal_the_authors(source: str) -> None:
    torch = pytest.importorskip("torch")
    from restonnx.training.objectives.consistency import denoising_loss

    expected = vectors(source, "consistency_losses")
    clean, noise, sigma = (torch.from_numpy(expected[name]) for name in ("x_start", "noise", "edm_sigmas"))
    denoise = EDM.denoiser(stand_in(expected["net_params"][0]))
    for name, match in matches(r"edm_loss_(.+)", expected):
        loss = denoising_loss(denoise, clean, noise, sigma, loss_weight(sigma, match[1], 0.5))
        close(loss, expected[name], name)
    close(denoising_loss(denoise, clean, noise, sigma, sigma**0), expected["edm_xs_mse"], "edm_xs_mse")


def close(found: Any, expected: Any, name: str) -> None:
    np.testing.assert_allclose(np.asarray(found), expected, rtol=2e-5, atol=2e-5, err_msg=name)


def as_library(array: Any, library: str) -> Any:
    return pytest.importorskip("torch").from_numpy(array) if library == "torch" else array
