"""RDDM against arrays made with the authors' code; every hyper-parameter comes from config.json or the arrays' names.

The folder is the environment variable RESTONNX_PARITY, by default ../shared/parity beside the checkout; a small excerpt
in this repository is always tested.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from parity.rddm_vectors import Folder, cases, groups, under

from restonnx.diffusion import rddm, rddm_ddim, rddm_paths, rddm_schedules
from restonnx.diffusion.rddm import Reading
from restonnx.diffusion.rddm_schedules import Quirks, ResidualSchedule

PUBLISHED = Quirks(overwrite_last_gap=True, clip_cumulative=True, previous="one")
UNIT = (-1.0, 1.0)


def schedule_named(folder: Folder, name: str) -> ResidualSchedule:
    """E2_T1000_s0.01, E6_T1000_s1, E0_ddimlinear_ctor, .. as the README of the vectors explains them."""
    if name == "E6_init_as_shipped":
        quirks = replace(PUBLISHED, previous="second")
        options = {"alpha": ("decreased", 2.0), "beta2": ("average", 1.0), "grid": "zero_one", "dtype": "float32"}
        return rddm_schedules.power(folder.total, **options, quirks=quirks)
    if found := re.fullmatch(r"E0_ddim(\w+)_(ctor|init)", name):
        betas = rddm_schedules.ddim_betas(folder.total, found[1], dtype="float32")
        first = {"ctor": "zero", "init": "second"}[found[2]]
        return rddm_schedules.from_betas(betas, first=first, quirks=PUBLISHED)
    found = re.fullmatch(r"(E\d)_T(\d+)_s([\d.]+)", name)
    assert found, name
    steps, sum_scale = int(found[2]), float(found[3])
    if found[1] == "E2":
        return restoration(steps, sum_scale)
    options = {key: (kind, float(ratio)) for key, (kind, ratio) in folder.config[found[1]].items()}
    return rddm_schedules.power(
        steps, **options, sum_scale=sum_scale, grid="zero_one", dtype="float32", quirks=PUBLISHED
    )


@pytest.mark.parametrize(("folder", "name"), cases("schedules", groups(r"(E[^/]+)/.*")))
def test_every_buffer_of_a_schedule_equals_the_authors(folder: Folder, name: str) -> None:
    schedule = schedule_named(folder, name)
    found = {
        "alphas": schedule.alphas,
        "alphas_cumsum": schedule.alpha_bar,
        "one_minus_alphas_cumsum": schedule.gap,
        "betas2": schedule.betas2,
        "betas": schedule.betas,
        "betas2_cumsum": schedule.beta2_bar,
        "betas_cumsum": schedule.beta_bar,
        "posterior_mean_coef1": schedule.posterior_mean_coef1,
        "posterior_mean_coef2": schedule.posterior_mean_coef2,
        "posterior_mean_coef3": schedule.posterior_mean_coef3,
        "posterior_variance": schedule.posterior_variance,
        "posterior_log_variance_clipped": schedule.posterior_log_variance_clipped,
    }
    expected = under(folder.arrays("schedules"), name)
    assert expected
    assert expected.keys() <= found.keys()
    for buffer, values in expected.items():
        np.testing.assert_allclose(found[buffer], values, rtol=0, atol=1e-5, err_msg=buffer)


@pytest.mark.parametrize(("folder", "name"), cases("schedules", groups(r"(gen(?:32|64)/.*)")))
def test_the_normalised_functions_equal_the_authors(folder: Folder, name: str) -> None:
    expected = folder.arrays("schedules")[name]
    precision, kind, ratio = re.fullmatch(r"gen(\d+)/([a-z]+)(?:_r([\d.]+))?", name).groups()  # type: ignore[union-attr]
    grid = "one_based" if precision == "64" else "zero_one"
    found = rddm_schedules.shares(len(expected), (kind, float(ratio or 1)), grid, f"float{precision}")
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-12)


@pytest.mark.parametrize(("folder", "name"), cases("sampling", groups(r"times/(.*)")))
def test_the_time_grid_equals_the_authors(folder: Folder, name: str) -> None:
    expected = folder.arrays("sampling")[f"times/{name}"]
    assert rddm.time_grid(int(expected[0]) + 1, int(name[1:])) == tuple(expected)


@dataclass(frozen=True)
class Case:
    """One sampling run, as its name tells it."""

    schedule: ResidualSchedule
    reading: Reading
    degraded: Any
    generating: bool


def case_named(folder: Folder, name: str) -> Case:
    """The family decides class, schedule and network input; the second part, if any, the prediction."""
    arrays = folder.arrays("sampling")
    family, kind = name.split("/")[0], name.split("/")[1]
    start, degraded, z = arrays[f"{name}/xT"], 2 * arrays["y01"] - 1, arrays["z"][0]
    generating = "gen" in family
    # The start image alone tells which sum_scale was used: start = degraded + sqrt(sum_scale) z.
    std = float(((start - degraded) * z).sum() / (z**2).sum())
    sum_scale = 1.0 if generating else float(f"{std**2:.4g}")
    found = re.search(r"/T(\d+)$", name)
    total = int(found[1]) if found else folder.total
    time = "index"
    if "genddim" in family:
        betas = rddm_schedules.ddim_betas(total, "linear", dtype="float32")
        schedule, time = rddm_schedules.from_betas(betas, first="second", quirks=PUBLISHED), "cumulative"
    elif "decoupled" in family:
        schedule, time = linear32(total, sum_scale), "cumulative"
    elif family == "gen":
        schedule = schedule_named(folder, f"E6_T{total}_s1")
    else:
        schedule = restoration(total, sum_scale)
    prediction = kind if kind.startswith("pred_") else f"pred_{kind}"
    if prediction not in rddm.PREDICTIONS:
        prediction = "pred_res_noise"
    reading = Reading(prediction, time, clip_clean=UNIT, clip_residual=UNIT)
    return Case(schedule, reading, None if generating else degraded, generating)


def restoration(total: int, sum_scale: float) -> ResidualSchedule:
    schedule = rddm_schedules.power(total, sum_scale=sum_scale, quirks=PUBLISHED)
    return rddm_schedules.as_float32_buffers(schedule)


def linear32(total: int, sum_scale: float) -> ResidualSchedule:
    return rddm_schedules.power(total, sum_scale=sum_scale, grid="zero_one", dtype="float32", quirks=PUBLISHED)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize(("folder", "name"), cases("sampling", groups(r"(.*)/final01")))
def test_the_sampler_walks_the_authors_chain(folder: Folder, name: str, library: str) -> None:
    arrays, case = folder.arrays("sampling"), case_named(folder, name)
    xp = np if library == "numpy" else pytest.importorskip("torch")
    degraded, noise = as_library(case.degraded, library), as_library(arrays["z"], library)
    stand_in = folder.stand_in(0.0 if case.generating else degraded, case.schedule.steps, xp.cos, xp.sin)
    states: list[Any] = []
    predictions: list[rddm.Prediction] = []

    def predict(x: Any, times: Any) -> Any:
        return heads_of(stand_in(x, times), 0.0 if case.generating else degraded, case.reading.prediction)

    def watch(t: Any, x_t: Any, prediction: rddm.Prediction) -> None:
        states.append(x_t)
        predictions.append(prediction)

    consumed = Counted(noise)
    options: dict[str, Any] = {}
    sampler: Callable[..., Any] = rddm.sample_ancestral
    if found := re.search(r"/S(\d+)/eta([\d.]+)$", name):
        sampler = rddm.sample
        options = {"times": arrays[f"times/S{found[1]}"].tolist(), "eta": float(found[2])}
        if name.startswith("type_"):
            options["form"] = name.split("/")[0].removeprefix("type_")
        if "decoupled" in name:
            sampler, options["as_published"] = rddm_paths.sample_decoupled, True
    final = sampler(predict, degraded, consumed, case.schedule, case.reading, **options, on_step=watch)
    expected = under(arrays, name)
    close = {"rtol": 0, "atol": 1e-5}
    np.testing.assert_allclose(np.asarray(states[0]), expected["xT"], **close)
    walked = np.stack([np.asarray(x) for x in (*states[1:], final)])
    np.testing.assert_allclose(walked, expected["traj"], **close)
    np.testing.assert_allclose((np.asarray(final) + 1) / 2, expected["final01"], **close)
    assert len(consumed.taken) == int(expected["draws"])
    for key, field in (("pred_res", "residual"), ("pred_noise", "noise"), ("pred_x_start", "clean")):
        if key in expected:
            seen = np.stack([np.asarray(getattr(p, field)) for p in predictions])
            np.testing.assert_allclose(seen, expected[key], **close, err_msg=key)


@pytest.mark.parametrize(("folder", "name"), cases("transform", groups(r"([^/]+)/in_betas")))
def test_ddims_coefficients_convert_as_the_authors_do(folder: Folder, name: str) -> None:
    expected = under(folder.arrays("transform"), name)
    betas = expected["in_betas"]
    kind = next(k for k in ("scaled_linear", "linear", "squaredcos_cap_v2") if k.startswith(name.removesuffix("_ldm")))
    made = rddm_schedules.ddim_betas(len(betas), kind, float(betas[0]), float(betas[-1]))
    np.testing.assert_allclose(made, betas, rtol=2e-3 if kind.startswith("squaredcos") else 1e-6)
    schedule = rddm_schedules.from_betas(betas)
    acp = rddm_schedules.to_ddim(schedule.alpha_bar, schedule.beta_bar)[0]
    close = {"rtol": 0, "atol": 1e-6}
    np.testing.assert_allclose(acp, expected["in_alphas_cumprod"], **close)
    for key, found in (
        ("out_alpha_bar", schedule.alpha_bar),
        ("out_beta_bar", schedule.beta_bar),
        ("out_alpha_bar_minus_one", schedule.alpha_bar - 1),
    ):
        np.testing.assert_allclose(found, expected[key], **close, err_msg=key)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize(
    ("folder", "name"), cases("transform", groups(r"(.+/S\d+/clip[01]/eta[\d.]+/(?:ddim|rddm)|.*/adjust)(?:/traj)?"))
)
def test_ddim_in_both_coefficients_walks_the_authors_chain(folder: Folder, name: str, library: str) -> None:
    arrays = folder.arrays("transform")
    xp = np if library == "numpy" else pytest.importorskip("torch")
    base = name.split("/")[0]
    schedule = rddm_schedules.from_alphas_cumprod(arrays[f"{base}/in_alphas_cumprod"].astype(np.float64))
    if name.endswith("/adjust"):
        adjust = folder.config["transform"]["adjust"]
        shape = (adjust["alpha"], float(adjust["ratio"]))
        schedule = rddm_schedules.readjusted(schedule, alpha=shape)
        np.testing.assert_allclose(schedule.alpha_bar, arrays[f"{name}/alpha_bar"], rtol=0, atol=1e-7)
        expected, steps, options = arrays[f"{name}/traj"], folder.config["transform"]["steps"], {}
    else:
        found = re.search(r"/S(\d+)/clip([01])/eta([\d.]+)/(\w+)$", name)
        assert found
        expected, steps = arrays[name], int(found[1])
        options = {"clip": UNIT if found[2] == "1" else None, "eta": float(found[3]), "form": found[4]}
    grid = rddm_ddim.ddim_grid(schedule.steps, steps)
    assert grid[:-1] == tuple(arrays[f"{base}/timesteps"])
    stand_in = folder.stand_in(0.0, schedule.steps, xp.cos, xp.sin)
    noise = [as_library(arrays[key], library) for key in ("z0", "zvar")]
    states: list[Any] = []
    final = rddm_ddim.sample_converted(
        lambda x, t: stand_in(x, (t, t))[1],
        [noise[0], *noise[1]],
        schedule,
        times=grid,
        on_step=lambda t, x, prediction: states.append(np.asarray(x)),
        **options,
    )
    np.testing.assert_allclose(np.stack([*states[1:], np.asarray(final)]), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("folder", "name"), cases("training", groups(r"(.*/E\d_loss(?:_list)?)")))
def test_losses_equal_the_authors(folder: Folder, name: str) -> None:
    torch = pytest.importorskip("torch")
    from restonnx.training.objectives.rddm import RddmObjective

    arrays = {key: torch.from_numpy(np.asarray(v)) for key, v in folder.arrays("training").items()}
    setting, prediction, loss, version = name.split("/")
    family = version[:2]
    generating = setting.startswith("gen")
    if setting == "genddim":
        schedule = schedule_named(folder, "E0_ddimlinear_ctor")
    else:
        scale = setting.removeprefix("rest_s") if setting.startswith("rest") else "1"
        schedule = schedule_named(folder, f"{family}_T{folder.total}_s{scale}")
    degraded = None if generating else arrays["y"]
    given = 0.0 if degraded is None else degraded
    stand_in = folder.stand_in(given, schedule.steps, torch.cos, torch.sin)

    class Network(torch.nn.Module):
        def forward(self, x: Any, time_res: Any, time_noise: Any) -> Any:
            return heads_of(stand_in(x[:, :3], (time_res, time_noise)), given, prediction)

    reading = Reading(prediction, "cumulative" if setting == "genddim" else "index")
    objective = RddmObjective(Network(), schedule, reading, loss=loss)
    x_t = rddm.forward(arrays["x0"], degraded, arrays["noise"], schedule, arrays["t"])
    drawn = arrays.get(f"{setting}/{family}_x_t", arrays.get(f"{setting}/x_t"))
    if drawn is not None:
        np.testing.assert_allclose(x_t, drawn, rtol=0, atol=1e-5)
    losses = objective.losses(arrays["x0"], degraded, arrays["noise"], arrays["t"])
    found = torch.stack(losses) if version.endswith("_list") else torch.stack(losses).sum()
    np.testing.assert_allclose(found, arrays[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("folder", "name"), cases("training", groups(r"(aosa/.*)/decision")))
def test_the_selection_of_the_objective_equals_the_authors(folder: Folder, name: str) -> None:
    torch = pytest.importorskip("torch")
    from restonnx.training.objectives.rddm import ObjectiveSelection

    arrays = {key: torch.from_numpy(np.asarray(v)) for key, v in folder.arrays("training").items()}
    _, coefficients, weight = name.split("/")
    schedule = {
        "gencoef": lambda: linear32(folder.total, 1.0),
        "ddimlinear": lambda: schedule_named(folder, "E0_ddimlinear_ctor"),
    }[coefficients]()
    degraded, t = arrays["y"], arrays["aosa/t"]
    stand_in = folder.stand_in(degraded, schedule.steps, torch.cos, torch.sin)

    class Network(torch.nn.Module):
        def forward(self, x: Any, time_res: Any, time_noise: Any) -> Any:
            return stand_in(x[:, :3], (time_res, time_noise))[:1]

    selection = ObjectiveSelection(Network(), schedule)
    torch.nn.init.constant_(selection.preference, float(weight.removeprefix("lam")))
    x_t = rddm.forward(arrays["x0"], degraded, arrays["noise"], schedule, t)
    np.testing.assert_allclose(x_t, arrays[f"aosa/{coefficients}/x_t"], rtol=0, atol=1e-5)
    assert selection.decide() == int(arrays[f"{name}/decision"])
    losses = selection.losses(arrays["x0"], degraded, arrays["noise"], t)
    total = selection.total(losses)
    close = {"rtol": 1e-6, "atol": 1e-5}  # the division by Bbar makes losses of about 38
    np.testing.assert_allclose([loss.item() for loss in losses], arrays[f"{name}/loss_list"], **close)
    np.testing.assert_allclose(total.item(), arrays[f"{name}/total"], **close)
    if f"{name}/dtotal_dlam" in arrays:
        total.backward()
        np.testing.assert_allclose(selection.preference.grad, arrays[f"{name}/dtotal_dlam"].squeeze(), **close)


class Counted:
    """The drawn noise, which notes what is taken of it."""

    def __init__(self, noise: Any) -> None:
        self.noise = noise
        self.taken: set[int] = set()

    def __len__(self) -> int:
        return len(self.noise)

    def __getitem__(self, k: int) -> Any:
        self.taken.add(k)
        return self.noise[k]


def heads_of(outputs: tuple[Any, Any], degraded: Any, prediction: str) -> tuple[Any, ...]:
    """What the stand-in's heads are for each prediction."""
    residual, noise = outputs
    return {
        "pred_res_noise": (residual, noise),
        "pred_res": (residual,),
        "pred_noise": (noise,),
        "pred_x0_noise": (degraded - residual, noise),
        "pred_res_add_noise": (residual, residual + noise),
        "pred_x0_add_noise": (degraded - residual, degraded - residual + noise),
    }[prediction]


def as_library(array: Any, library: str) -> Any:
    if array is None or library == "numpy":
        return array
    return pytest.importorskip("torch").from_numpy(array)
