"""solve(): the user's physics in the user's arrays, every promise of its arguments, one result whatever the tiles."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_model import tiny_model
from tiny_prior import tiny_prior

from restonnx import noise, solve
from restonnx.diffusion.blurs import Blur, CircularBlur, gaussian_kernel
from restonnx.diffusion.operators import Chain, Crop, CustomOperator, Identity, Mask, box_mask, random_mask
from restonnx.diffusion.resizing import Downsample
from restonnx.errors import Cancelled, InputError, ModelError
from restonnx.restore import Restorer
from restonnx.solve import Denoiser


@pytest.fixture(scope="session")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Restorer:
    return Restorer(tiny_prior(tmp_path_factory.mktemp("prior") / "tiny-prior.onnx"), device="cpu", threads=1)


@pytest.fixture(scope="session")
def grey_prior(tmp_path_factory: pytest.TempPathFactory) -> Restorer:
    path = tiny_prior(tmp_path_factory.mktemp("prior") / "grey-prior.onnx", channels=1, black=0.0, white=1.0)
    return Restorer(path, device="cpu", threads=1)


def scene(height: int = 48, width: int = 40, *, colour: bool = True, seed: int = 0) -> Any:
    """A smooth float32 image in [0, 1]."""
    drawn = np.random.default_rng(seed).standard_normal((1, 3 if colour else 1, height, width), np.float32)
    smooth = CircularBlur(gaussian_kernel(17, 3.0)).forward(drawn) * 1.5 + 0.5
    image = smooth[0].transpose(1, 2, 0).clip(0, 1)
    return image if colour else image[..., 0]


def measured(operator: Any, image: Any) -> Any:
    """What an operator of `diffusion` makes of an image in the user's layout."""
    channels = image.transpose(2, 0, 1) if image.ndim == 3 else image[None]
    result = operator.forward(channels[None].astype(np.float32))[0]
    return result.transpose(1, 2, 0) if image.ndim == 3 else result[0]


def psnr(found: Any, clean: Any, peak: float = 1.0) -> float:
    error = np.mean((np.asarray(found, np.float64) - clean) ** 2)
    return float(10 * np.log10(peak**2 / error))


# It solves


@pytest.mark.parametrize(
    ("operator", "naive", "gain"),
    [
        (Mask(box_mask(48, 40, 10, 22, 10, 30)), lambda y: y, 6.0),
        (Mask(random_mask(np.random.default_rng(0).random((48, 40)), 0.6)), lambda y: y, 10.0),
        (Downsample(4), lambda y: y.repeat(4, 0).repeat(4, 1), 6.0),
        (Blur(gaussian_kernel(9, 2.0)), lambda y: y, 6.0),
        (CircularBlur(gaussian_kernel(9, 2.0)), lambda y: y, 6.0),
    ],
    ids=["box", "random", "bicubic", "blur", "circular"],
)
def test_the_image_comes_back_from_a_measurement_without_noise(
    prior: Restorer, operator: Any, naive: Any, gain: float
) -> None:
    clean = scene()
    y = measured(operator, clean)
    found = solve(y, operator=operator, prior=prior, image_shape=clean.shape)
    assert found.shape == clean.shape
    assert found.dtype == np.float32
    assert psnr(found, clean) > psnr(naive(y), clean) + gain
    assert np.abs(measured(operator, found) - y).max() < 0.02


def test_known_noise_is_not_fitted(prior: Restorer) -> None:
    clean, sigma = scene(), 0.1
    y = clean + sigma * np.random.default_rng(1).standard_normal(clean.shape).astype(np.float32)
    assert psnr(solve(y, operator=Identity(), prior=prior, noise_level=sigma), clean) > psnr(y, clean) + 5
    assert psnr(solve(y, operator=Identity(), prior=prior, noise_level="estimate"), clean) > psnr(y, clean) + 5
    np.testing.assert_allclose(solve(y, operator=Identity(), prior=prior), y, atol=2e-3)


def test_any_pair_of_functions_is_the_physics(prior: Restorer) -> None:
    # Sums over rows and over columns: the measurement is no image at all.
    clean = scene(colour=False)

    def forward(image: Any) -> list[float]:
        assert image.shape == clean.shape
        assert image.dtype == np.float32
        return [*image.sum(0), *image.sum(1), *image[::3].ravel()]  # a list will do

    def adjoint(u: Any) -> Any:
        across, down, lines = u[:40], u[40:88], u[88:].reshape(16, 40)
        back = across[None, :] + down[:, None]
        back[::3] += lines
        return back.astype(np.float64)

    y = forward(clean)
    found = solve(y, forward=forward, adjoint=adjoint, prior=prior, image_shape=clean.shape, value_range=(0, 1))
    assert psnr(found, clean) > 25
    guessed = solve(y, forward=forward, adjoint=adjoint, prior=prior, image_shape=clean.shape)
    assert psnr(guessed, clean) > 25


def test_a_measurement_may_be_complex(prior: Restorer) -> None:
    clean = scene(colour=False)
    kept = np.random.default_rng(0).random((48, 40)) < 0.6
    kept[:4, :4] = kept[-4:, :4] = kept[:4, -4:] = kept[-4:, -4:] = True

    def forward(image: Any) -> Any:
        return np.fft.fft2(image, norm="ortho")[kept]

    def adjoint(u: Any) -> Any:
        whole = np.zeros(clean.shape, np.complex64)
        whole[kept] = u
        return np.fft.ifft2(whole, norm="ortho")

    found = solve(forward(clean), forward=forward, adjoint=adjoint, prior=prior, image_shape=(48, 40))
    assert found.dtype == np.float32
    assert psnr(found, clean) > max(30, psnr(adjoint(forward(clean)).real, clean) + 3)


# The user's arrays


@pytest.mark.parametrize(("dtype", "peak"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1.0), (np.float64, 1.0)])
@pytest.mark.parametrize("colour", [True, False])
def test_the_result_has_the_measurements_dtype_and_units(
    prior: Restorer, dtype: Any, peak: float, colour: bool
) -> None:
    clean = scene(colour=colour)
    mask = Mask(random_mask(np.random.default_rng(0).random((48, 40)), 0.2))
    y = (measured(mask, clean) * peak).astype(dtype)
    found = solve(y, operator=mask, prior=prior)
    assert found.dtype == (dtype if peak > 1 else np.float32)
    assert psnr(found, clean * peak, peak) > 26
    np.testing.assert_allclose(found[mask.mask == 1], y[mask.mask == 1], atol=peak * 5e-3 + (peak > 1))


def test_like_gives_shape_dtype_and_values(prior: Restorer) -> None:
    clean = (scene(colour=False) * 1000 + 5000).astype(np.uint16)
    y = measured(Downsample(2), clean.astype(np.float32))
    found = solve(y, operator=Downsample(2), prior=prior, like=clean)
    assert found.dtype == np.uint16
    assert found.shape == clean.shape
    assert psnr(found, clean, 1000.0) > 25


def test_grey_units_do_not_matter(prior: Restorer, grey_prior: Restorer) -> None:
    clean = scene(colour=False)
    blur = Blur(gaussian_kernel(5, 1.0))
    for loaded in (prior, grey_prior):
        y = measured(blur, clean)
        found = solve(y, operator=blur, prior=loaded, noise_level=0.01)
        again = solve(300 * y - 7000, operator=blur, prior=loaded, noise_level=3.0)
        np.testing.assert_allclose((again + 7000) / 300, found, atol=2e-3)


def test_a_grey_prior_solves_for_colour_images_and_the_other_way_round(prior: Restorer, grey_prior: Restorer) -> None:
    mask = Mask(random_mask(np.random.default_rng(0).random((48, 40)), 0.5))
    for loaded in (prior, grey_prior):
        for colour in (True, False):
            clean = scene(colour=colour)
            assert psnr(solve(measured(mask, clean), operator=mask, prior=loaded), clean) > 26


def test_a_pair_and_the_operator_that_it_is_made_of_give_the_same_image(prior: Restorer) -> None:
    clean, blur = scene(), Blur(gaussian_kernel(5, 1.0))
    y = measured(blur, clean)
    by_operator = solve(y, operator=blur, prior=prior, value_range=(0, 1))
    transpose = CustomOperator(blur.adjoint, blur.forward)
    by_pair = solve(
        y,
        forward=lambda image: measured(blur, image),
        adjoint=lambda u: measured(transpose, u),
        prior=prior,
        value_range=(0, 1),
    )
    np.testing.assert_allclose(by_pair, by_operator, atol=1e-5)


def test_the_shape_follows_from_the_operator_where_it_can(prior: Restorer) -> None:
    y = scene(12, 10)
    assert solve(y, operator=Downsample(3), prior=prior, steps=2).shape == (36, 30, 3)
    assert solve(y, operator=Downsample(3, (35, 29)), prior=prior, steps=2).shape == (35, 29, 3)
    kernel = gaussian_kernel(5, 1.0)
    seen = Chain((CircularBlur(kernel), Crop(2, 2, 2, 2)))  # a photograph that was blurred from beyond its border
    assert solve(y, operator=seen, prior=prior, steps=2, image_shape=(16, 14, 3)).shape == (16, 14, 3)


# Promises of the arguments


def test_the_seed_alone_decides_and_the_tile_does_not(prior: Restorer) -> None:
    clean, mask = scene(90, 75), Mask(box_mask(90, 75, 30, 60, 20, 60))
    y = measured(mask, clean)
    path = prior.model.path
    whole = solve(y, operator=mask, prior=path, device="cpu", seed=1)
    np.testing.assert_array_equal(solve(y, operator=mask, prior=path, device="cpu", seed=1), whole)
    np.testing.assert_allclose(solve(y, operator=mask, prior=path, device="cpu", seed=1, tile=32), whole, atol=1e-5)
    assert np.abs(solve(y, operator=mask, prior=path, device="cpu", seed=2) - whole).max() > 1e-3


def test_every_round_is_shown_and_both_ends_can_be_had(prior: Restorer) -> None:
    clean, mask = scene(), Mask(box_mask(48, 40, 10, 20, 10, 20))
    y, seen = measured(mask, clean), []
    options: dict[str, Any] = {"operator": mask, "prior": prior, "steps": 4}
    found = solve(y, **options, on_step=lambda k, x, v: seen.append((k, x, v)))
    assert [k for k, _, _ in seen] == [0, 1, 2, 3]
    assert all(x.shape == v.shape == clean.shape and x.dtype == v.dtype == np.float32 for _, x, v in seen)
    np.testing.assert_array_equal(found, seen[-1][1])
    np.testing.assert_array_equal(solve(y, **options, result="purified"), seen[-1][2])
    for _, x, _ in seen:
        np.testing.assert_allclose(measured(mask, x), y, atol=1e-3)


@pytest.mark.parametrize("passes", [1, 3])
def test_progress_counts_every_pass_over_every_tile(prior: Restorer, passes: int) -> None:
    calls: list[tuple[int, int]] = []
    solve(
        scene(90, 75),
        operator=Identity(),
        prior=prior.model,
        device="cpu",
        tile=32,
        steps=3,
        passes=passes,
        progress=lambda *call: calls.append(call),
    )
    tiles = len(Restorer(prior.model, device="cpu", tile=32).plan(90, 75)[0])
    total = tiles * 3 * passes
    assert tiles > 4
    assert calls == [(done, total) for done in range(total + 1)]


def test_a_cancel_ends_the_run(prior: Restorer) -> None:
    cancel, rounds = threading.Event(), []

    def watch(k: int, x: Any, v: Any) -> None:
        rounds.append(k)
        if k == 1:
            cancel.set()

    with pytest.raises(Cancelled):
        solve(scene(), operator=Identity(), prior=prior, cancel=cancel, on_step=watch)
    assert rounds == [0, 1]

    calls: list[int] = []

    def slow(image: Any) -> Any:
        calls.append(1)
        if len(calls) == 10:
            cancel.set()
        return 0.5 * image + 0.1 * np.roll(image, 1, 0) + 0.1 * np.roll(image, -1, 0)

    cancel.clear()
    with pytest.raises(Cancelled):
        solve(scene(), forward=slow, adjoint=slow, prior=prior, cancel=cancel)
    assert len(calls) < 12


def test_the_noise_of_a_round_is_that_of_the_absolute_pixel(prior: Restorer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    normal = noise.normal

    def watched(seed: int, draws: Any, *rest: Any) -> Any:
        asked.append((seed, draws))
        return normal(seed, draws, *rest)

    monkeypatch.setattr(noise, "normal", watched)
    solve(scene(), operator=Identity(), prior=prior, steps=3, seed=5)
    assert asked[-3:] == [(5, range(k, k + 1)) for k in range(3)]


def test_the_denoiser_sees_whole_images_of_any_size(prior: Restorer) -> None:
    for size in ((1, 1), (5, 7), (64, 64), (65, 63)):
        x = np.random.default_rng(0).standard_normal((2, 3, *size)).astype(np.float32)
        assert Denoiser(prior, size)(x, 0.1).shape == x.shape


# Bad input


def half(image: Any) -> Any:
    return image / 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either forward and adjoint, or operator"),
        ({"forward": half}, "either forward and adjoint, or operator"),
        ({"forward": half, "adjoint": half, "operator": Identity()}, "either forward and adjoint, or operator"),
        ({"operator": "blur"}, "a str has no forward and adjoint"),
        ({"forward": lambda x: x[:-1], "adjoint": half}, r"forward returns an array of shape \(47, 40, 3\)"),
        ({"forward": half, "adjoint": lambda u: u[:, :-1]}, r"adjoint returns an array of shape \(48, 39, 3\)"),
        ({"forward": half, "adjoint": lambda u: 2 * u}, "adjoint is not the transpose of forward"),
        ({"forward": lambda x: np.roll(x, 3, 0), "adjoint": lambda u: u}, "not the transpose"),
        ({"forward": lambda x: x + 1, "adjoint": lambda u: u}, "forward must be linear"),
        ({"forward": lambda x: x * np.nan, "adjoint": half}, "what forward returns holds values that are not finite"),
        ({"forward": half, "adjoint": lambda u: u * np.inf}, "what adjoint returns holds values that are not finite"),
        ({"forward": lambda x: None, "adjoint": half}, "what forward returns"),
        ({"operator": Downsample(4), "image_shape": (50, 40, 3)}, "pass the image_shape that belongs to it"),
        ({"operator": Mask(np.ones((9, 9)))}, "the operator does not fit an image of 48 x 40 pixels"),
        ({"operator": Identity(), "image_shape": (48,)}, r"image_shape must be \(rows, columns\)"),
        ({"operator": Identity(), "image_shape": (48, 40, 4)}, r"image_shape must be \(rows, columns\)"),
        ({"operator": Identity(), "like": np.zeros((2, 48, 40))}, "the shape of like must be"),
        ({"operator": Identity(), "noise_level": -1.0}, "noise_level must be a number of at least 0"),
        ({"operator": Identity(), "noise_level": "guess"}, "noise_level must be a number"),
        ({"operator": Identity(), "value_range": (1, 1)}, "value_range must be two rising numbers"),
        ({"operator": Identity(), "steps": 0}, "steps must be an integer of at least 1"),
        ({"operator": Identity(), "first_level": 1001}, "first_level must be from 1 to 1000, not 1001"),
        ({"operator": Identity(), "passes": 1.5}, "passes must be an integer"),
        ({"operator": Identity(), "iterations": True}, "iterations must be an integer"),
        ({"operator": Identity(), "result": "best"}, '"consistent" or "purified"'),
        ({"operator": Identity(), "seed": -1}, "seed must be"),
    ],
)
def test_what_cannot_be_solved_is_refused_in_one_line(prior: Restorer, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        solve(scene(), prior=prior, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((9, 9), np.nan), "not finite"),
        (np.full((9, 9), True), "bool"),
        (np.zeros((0, 9)), r"shape \(0, 9\)"),
        (np.array(["a"]), "dtype"),
        (np.zeros(30), r"must be an image, \(rows, columns\)"),
        (np.zeros((9, 9, 2)), r"must be an image, \(rows, columns\)"),
    ],
)
def test_a_measurement_that_is_none_is_refused(prior: Restorer, values: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        solve(values, operator=Identity(), prior=prior)


def test_the_noise_of_what_is_no_image_cannot_be_estimated(prior: Restorer) -> None:
    pair: dict[str, Any] = {"forward": lambda image: image.ravel(), "adjoint": lambda u: u.reshape(12, 12)}
    with pytest.raises(InputError, match="pass a number"):
        solve(np.ones(144), **pair, prior=prior, image_shape=(12, 12), noise_level="estimate")


def test_a_model_that_is_no_prior_is_refused(tiny: Path, prior: Restorer) -> None:
    with pytest.raises(ModelError, match="tiny is no prior: it takes image and noise"):
        solve(scene(), operator=Identity(), prior=tiny, device="cpu")
    with pytest.raises(ModelError):
        solve(scene(), operator=Identity(), prior="no-such-prior")


def test_an_error_of_the_users_own_function_is_the_users(prior: Restorer) -> None:
    def broken(image: Any) -> Any:
        raise KeyError("detector")

    with pytest.raises(KeyError, match="detector"):
        solve(scene(), forward=broken, adjoint=half, prior=prior)


def test_a_prior_that_enlarges_is_refused(tmp_path: Path) -> None:
    path = tiny_model(tmp_path, name="large", draws=0, scale=2, extra=("noise_level",))
    with pytest.raises(ModelError, match="keeps the size"):
        solve(scene(), operator=Identity(), prior=path, device="cpu")
