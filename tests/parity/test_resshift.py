"""ResShift against arrays made with the authors' code; every hyper-parameter comes from the JSON beside the arrays.

The folder is the environment variable RESTONNX_PARITY, by default ../shared/parity beside the checkout; a small excerpt
in this repository is always tested: of training the first and the last of four images, their loss being the mean of
both errors, and of sampling the left half of each.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from restonnx.diffusion import resshift
from restonnx.diffusion.schedules import ShiftSchedule, exponential, respace

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "excerpt": Path(__file__).parent / "excerpt" / "resshift",
    "full": Path(os.environ.get("RESTONNX_PARITY", ROOT.parent / "shared" / "parity")) / "resshift",
}


def variants(file: str) -> list[Any]:
    found = []
    for source, folder in FOLDERS.items():
        if not (folder / f"{file}.json").exists():
            reason = f"no parity vectors at {folder}; set RESTONNX_PARITY"
            found.append(pytest.param(None, None, id=source, marks=pytest.mark.skip(reason=reason)))
            continue
        content = json.loads((folder / f"{file}.json").read_text())
        arrays = np.load(folder / f"{file}.npz")
        for name, options in content.get("variants", content).items():
            values = {key.removeprefix(f"{name}/"): arrays[key] for key in arrays if key.startswith(f"{name}/")}
            options = options | {"coef": content.get("coef")}
            found.append(pytest.param(options, values, id=f"{source}-{name}"))
    return found


def schedule_of(options: dict[str, Any]) -> ShiftSchedule:
    assert options.get("schedule_name", "exponential") == "exponential"
    full = exponential(
        options["steps"],
        kappa=options["kappa"],
        min_noise_level=options["min_noise_level"],
        etas_end=options["etas_end"],
        power=options["schedule_kwargs"],
    )
    respacing = options.get("timestep_respacing")
    return respace(full, int(respacing)) if respacing else full


def normalize_of(options: dict[str, Any]) -> str:
    if not options.get("normalize_input", True):
        return "none"
    return "latent" if options["latent_flag"] else "pixel"


def tolerance(options: dict[str, Any]) -> float:
    """The epsilon parameterisations divide by 1 - eta_T = 0.02."""
    return 1e-4 if options["predict_type"].startswith("epsilon") else 2e-5


@pytest.mark.parametrize(("options", "expected"), variants("schedules"))
def test_every_schedule_quantity_equals_the_authors(options: dict[str, Any], expected: dict[str, Any]) -> None:
    schedule = schedule_of(options)
    variance = schedule.posterior_variance_clipped
    found = {
        "sqrt_etas": schedule.sqrt_etas,
        "etas": schedule.etas,
        "etas_prev": schedule.etas_prev,
        "alpha": schedule.alpha,
        "posterior_variance": schedule.posterior_variance,
        "posterior_variance_clipped": variance,
        "posterior_log_variance_clipped": np.log(variance),
        "posterior_mean_coef1": schedule.posterior_mean_coef1,
        "posterior_mean_coef2": schedule.posterior_mean_coef2,
        "weight_loss_mse": schedule.loss_weight(options["predict_type"]),
        "timestep_map": schedule.timesteps,
        "input_divisor_latent": schedule.input_divisor("latent"),
        "input_divisor_pixel": schedule.input_divisor("pixel"),
    }
    assert expected
    assert expected.keys() <= found.keys()
    for name, value in expected.items():
        rtol = 2e-7 if name.startswith("input_divisor") else 1e-12  # those two are float32 in the vectors
        np.testing.assert_allclose(found[name], value, rtol=rtol, atol=1e-15, err_msg=name)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize(("options", "expected"), variants("sampling"))
def test_the_sampler_walks_the_authors_chain(options: dict[str, Any], expected: dict[str, Any], library: str) -> None:
    schedule, (a, b, c) = schedule_of(options), options["coef"]
    degraded, prior, steps = (as_library(expected[k], library) for k in ("z_y", "noise_prior", "noise_steps"))
    noise = [prior, *steps]
    chain, estimates, scaled = [], [], []

    def predict(x_in: Any, t: int) -> Any:
        scaled.append(np.asarray(x_in))
        return a * x_in + b * degraded + c * t

    def watch(t: int, x_t: Any, clean: Any) -> None:
        chain.append(np.asarray(x_t))
        estimates.append(np.asarray(clean))

    final = resshift.sample(
        predict,
        degraded,
        noise,
        schedule,
        resshift.Reading(options["predict_type"], normalize_of(options)),
        clip=(-1.0, 1.0) if options["clip_denoised"] else None,
        on_step=watch,
    )
    close = {"rtol": 0, "atol": tolerance(options)}
    assert type(final) is type(degraded)
    np.testing.assert_allclose(chain, expected["x_seq"][:-1], **close)
    np.testing.assert_allclose(chain[0], expected["x_T"], **close)
    np.testing.assert_allclose(estimates, expected["pred_xstart_seq"], **close)
    np.testing.assert_allclose(np.asarray(final), expected["final"], **close)
    if "scaled_input_seq" in expected:
        np.testing.assert_allclose(scaled, expected["scaled_input_seq"], **close)
    for k, mean in enumerate(expected.get("mean_seq", ())):
        t = schedule.steps - 1 - k
        np.testing.assert_allclose(resshift.posterior_mean(chain[k], estimates[k], schedule, t), mean, **close)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize(("options", "expected"), variants("training"))
def test_training_inputs_targets_and_losses_equal_the_authors(
    options: dict[str, Any], expected: dict[str, Any], library: str
) -> None:
    schedule, (a, b, c), kind = schedule_of(options), options["coef"], options["predict_type"]
    clean, degraded, noise, t = (as_library(expected[k], library) for k in ("x0", "z_y", "noise", "t"))
    x_t = resshift.forward(clean, degraded, noise, schedule, t)
    scaled = resshift.scale_input(x_t, schedule, t, normalize_of(options))
    output = a * scaled + b * degraded + c * resshift.at_index(schedule, t).reshape(-1, 1, 1, 1)
    wanted = resshift.target(clean, degraded, noise, schedule, t, kind)
    error = resshift.squared_error(output, wanted, schedule, t, kind, weighted=options["weighted_mse"])
    found = {
        "x_t": x_t,
        "scaled_input": scaled,
        "model_output": output,
        "target": wanted,
        "mse": error,
        "loss": error.mean(),
        "pred_xstart": resshift.clean_from(output, x_t, degraded, schedule, t, kind),
        "posterior_mean": resshift.posterior_mean(x_t, clean, schedule, t),
        "posterior_var": schedule.posterior_variance[expected["t"]],
        "posterior_logvar_clipped": np.log(schedule.posterior_variance_clipped[expected["t"]]),
    }
    for name, value in found.items():
        limits = {"rtol": 2e-5, "atol": tolerance(options)}
        np.testing.assert_allclose(np.asarray(value), expected[name], err_msg=name, **limits)


@pytest.mark.parametrize("source", FOLDERS)
@pytest.mark.parametrize("mode", ["forward", "full", "detached"])
def test_objectives_equal_the_reading_of_data_consistent_training(source: str, mode: str) -> None:
    torch = pytest.importorskip("torch")
    from restonnx.training.objectives.config import DataConsistent, ForwardNoised
    from restonnx.training.objectives.resshift import ResShiftObjective

    folder = FOLDERS[source]
    if not (folder / "consistent_reading.json").exists():
        pytest.skip(f"no parity vectors at {folder}; set RESTONNX_PARITY")
    content = json.loads((folder / "consistent_reading.json").read_text())
    arrays = {k: torch.from_numpy(np.asarray(v)) for k, v in np.load(folder / "consistent_reading.npz").items()}
    options, schedule = content["diffusion"], schedule_of(content["diffusion"])
    config = ForwardNoised(loss="l2") if mode == "forward" else DataConsistent(gradient=mode, loss="l2")

    class StandIn(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.abc = torch.nn.Parameter(torch.tensor(content["coef"]))

        def encode(self, degraded: Any, reference: Any = None) -> None:
            return None

        def enlarged(self, degraded: Any) -> Any:
            return degraded

        def step(self, x_t: Any, degraded: Any, features: None, t: Any) -> Any:
            t = t.view(-1, 1, 1, 1) if isinstance(t, torch.Tensor) else t
            return self.abc[0] * x_t + self.abc[1] * degraded + self.abc[2] * t

    clean, degraded = arrays["x0"], arrays["y"]
    noise = torch.cat([arrays["noise_prior"][None], arrays["noise_steps"]])
    for t in range(schedule.steps):
        network = StandIn()
        objective = ResShiftObjective(network, schedule, config, resshift.Reading("xstart", normalize_of(options)))
        draws = torch.full((len(clean) + 2,), (t + 0.5) / schedule.steps)
        draws[-1] = 0.999
        loss = objective(clean, degraded, noise, draws, 1.0)
        loss.backward()
        np.testing.assert_allclose(loss.item(), arrays[f"t{t}/{mode}/loss"], rtol=1e-5)
        np.testing.assert_allclose(network.abc.grad, arrays[f"t{t}/{mode}/grad_abc"], rtol=1e-4, atol=1e-6)


def as_library(array: Any, library: str) -> Any:
    return pytest.importorskip("torch").from_numpy(array) if library == "torch" else array
