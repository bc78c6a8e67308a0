"""A session says where it really runs, stops when told to, and explains what fails."""

import dataclasses
import importlib.metadata
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_model import tiny_model

from restonnx import machine
from restonnx import providers as available
from restonnx import session as sessions
from restonnx.errors import Cancelled, DeviceError, InputError, ModelError
from restonnx.model import ModelFile, read
from restonnx.providers import CPU, CUDA, cuda_problem, providers
from restonnx.session import Session

PIP = r'pip install "restonnx\[cuda\]"'


def feeds(height: int = 16, width: int = 24, draws: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    image = rng.random((1, 3, height, width), np.float32)
    return {"image": image, "noise": rng.standard_normal((1, draws, 3, height, width), np.float32)}


@pytest.fixture
def model(tiny: Path) -> ModelFile:
    return read(tiny)


@pytest.fixture
def slow(tmp_path: Path) -> ModelFile:
    return read(tiny_model(tmp_path / "slow.onnx", name="slow", convs=100))


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without an NVIDIA driver."""
    monkeypatch.setattr(available, "_driver_name", lambda: "libcuda.so.1")
    monkeypatch.setattr(available, "_loads", lambda name: False)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with a driver, one CUDA device and a build for CUDA 13, where every library loads."""
    monkeypatch.setattr(available.sys, "platform", "linux")
    monkeypatch.setattr(available, "_loads", lambda name: True)
    monkeypatch.setattr(available, "_preload", lambda: None)
    monkeypatch.setattr(available, "_device_count", lambda driver: 1)
    monkeypatch.setattr(available, "_cuda_major", lambda: 13)
    return monkeypatch


def test_a_run_gives_the_restored_image(tmp_path: Path) -> None:
    given = feeds()
    restored = Session(read(tiny_model(tmp_path, blur=False)), device="cpu").run(given)
    np.testing.assert_allclose(restored, given["image"] + 0.01 * given["noise"].sum(axis=1), atol=1e-6)


def test_the_cpu_asked_for_is_no_fallback(model: ModelFile) -> None:
    session = Session(model, device="cpu")
    assert (session.provider, session.device, session.fallback) == (CPU, "cpu", None)


@pytest.mark.usefixtures("no_driver")
def test_auto_without_a_driver_runs_on_the_cpu_says_why_and_logs_nothing(
    model: ModelFile, capfd: pytest.CaptureFixture[str]
) -> None:
    session = Session(model, device="auto")
    assert (session.provider, session.device) == (CPU, "cpu")
    assert session.fallback is not None
    assert "libcuda.so.1" in session.fallback
    assert session.run(feeds()).shape == (1, 3, 16, 24)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("no_driver")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:1"])
def test_cuda_without_a_driver_is_refused_with_library_and_command(model: ModelFile, device: str) -> None:
    with pytest.raises(DeviceError, match=rf"cannot run on {device}: libcuda.so.1 was not found.*{PIP}"):
        Session(model, device=device)


def test_cuda_without_cudnn_is_refused_with_library_and_command(model: ModelFile, driver: pytest.MonkeyPatch) -> None:
    driver.setattr(available, "_loads", lambda name: "cudnn" not in name)
    with pytest.raises(DeviceError, match=rf"libcudnn.so.9 could not be loaded; {PIP}"):
        Session(model, device="cuda")


def test_a_device_that_the_driver_does_not_see_is_refused(model: ModelFile, driver: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match="cannot run on cuda:3: the NVIDIA driver sees 1 CUDA device, counted from 0"):
        Session(model, device="cuda:3")
    driver.setattr(available, "_device_count", lambda driver: 0)
    with pytest.raises(DeviceError, match="sees no CUDA device"):
        Session(model, device="cuda")


def test_a_build_without_cuda_is_refused_with_the_command(model: ModelFile, driver: pytest.MonkeyPatch) -> None:
    driver.setattr(available, "_cuda_major", lambda: None)
    with pytest.raises(DeviceError, match=f"no CUDA; pip uninstall onnxruntime onnxruntime-gpu, then {PIP}"):
        Session(model, device="cuda")


def test_a_quiet_fallback_of_onnxruntime_is_noticed(
    model: ModelFile, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if cuda_problem() is None:
        pytest.skip("CUDA runs here")
    monkeypatch.setattr(sessions, "cuda_problem", lambda index: None)
    with pytest.raises(DeviceError, match="cannot run on cuda: "):
        Session(model, device="cuda")
    session = Session(model, device="auto")
    assert session.provider == CPU
    assert session.fallback
    assert capfd.readouterr() == ("", "")


def test_the_memory_of_a_cuda_device_is_what_its_driver_says(model: ModelFile, driver: pytest.MonkeyPatch) -> None:
    session = Session(model, device="cpu")
    assert session.memory == machine.memory()
    driver.setattr(available.ctypes, "CDLL", lambda name: Card(8 * 2**30))
    session.provider, session.device = CUDA, "cuda:1"
    assert session.memory == 8 * 2**30
    session.device = "cuda:2"  # of which the driver says nothing
    assert session.memory == machine.memory()


class Card:
    """A driver's library, as ctypes calls it, of a machine with two devices."""

    def __init__(self, size: int) -> None:
        self.size = size

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = 40 + index
        return 0 if index < 2 else 101

    def cuDeviceTotalMem_v2(self, total: Any, device: Any) -> int:  # noqa: N802
        assert device.value == 41
        total._obj.value = self.size
        return 0


@pytest.mark.parametrize("device", ["gpu", "CPU", "cuda:", "cuda:-1", "cuda:x", "", None, 0])
def test_another_device_is_refused(model: ModelFile, device: Any) -> None:
    with pytest.raises(InputError, match='device must be "auto", "cpu", "cuda" or "cuda:N"'):
        Session(model, device=device)


def test_threads_must_be_at_least_one(model: ModelFile) -> None:
    with pytest.raises(InputError, match="threads must be at least 1, not 0"):
        Session(model, device="cpu", threads=0)


def test_the_number_of_threads_does_not_change_the_result(model: ModelFile) -> None:
    one, two = (Session(model, device="cpu", threads=threads).run(feeds()) for threads in (1, 2))
    np.testing.assert_allclose(one, two, atol=1e-6)


def test_a_cancel_from_another_thread_ends_a_run_within_a_second(
    slow: ModelFile, capfd: pytest.CaptureFixture[str]
) -> None:
    session, cancel = Session(slow, device="cpu"), threading.Event()
    given = feeds(512, 512)
    finished: list[float] = []
    threading.Timer(0.3, lambda: (finished.append(time.perf_counter()), cancel.set())).start()
    with pytest.raises(Cancelled):
        session.run(given, cancel)
    assert time.perf_counter() - finished[0] < 1
    assert capfd.readouterr() == ("", "")
    assert session.run(feeds(), threading.Event()).shape == (1, 3, 16, 24)


def test_no_watching_thread_is_left_behind(model: ModelFile) -> None:
    Session(model, device="cpu").run(feeds(), threading.Event())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("restonnx")]


def test_values_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    session = Session(read(tiny_model(tmp_path / "nan.onnx", name="nan", fail="nan")), device="cpu")
    with pytest.raises(ModelError, match=r"nan\.onnx gives values that are not finite"):
        session.run(feeds())


def test_values_that_are_not_finite_come_back_where_the_input_has_such(model: ModelFile) -> None:
    given = feeds()
    given["image"][0, 0, 0, 0] = np.nan
    assert np.isnan(Session(model, device="cpu").run(given)).any()


def test_values_that_overflow_on_cuda_are_computed_on_the_cpu(tmp_path: Path, model: ModelFile) -> None:
    session = Session(read(tiny_model(tmp_path / "nan.onnx", name="nan", fail="nan")), device="cpu")
    session.provider, session.device, session._on_cpu = CUDA, "cuda:0", None
    session._model = model
    np.testing.assert_array_equal(session.run(feeds()), Session(model, device="cpu").run(feeds()))
    assert session.fallback == "cuda:0 gave values that are not finite, so these were computed on the CPU"


@pytest.mark.parametrize("text", ["CUDA error: no kernel image is available", "CUDA failure 2: out of memory"])
def test_where_cuda_was_found_and_fails_the_cpu_takes_over_for_good(model: ModelFile, text: str) -> None:
    session = Session(model, device="auto")
    session.provider, session.device, session._session, session._on_cpu = CUDA, "cuda:0", Failing(text), None
    for _ in range(2):
        np.testing.assert_array_equal(session.run(feeds()), Session(model, device="cpu").run(feeds()))
    assert (session.provider, session.device) == (CPU, "cpu")
    assert session.fallback
    assert "cuda:0" in session.fallback


def test_a_device_without_memory_to_give_back_runs_all_the_same(model: ModelFile) -> None:
    session = Session(model, device="cpu")
    expected = session.run(feeds(), last=True)
    session.provider, session.device = CUDA, "cuda:0"  # of which this session has no arena
    np.testing.assert_array_equal(session.run(feeds(), last=True), expected)
    assert session.fallback is None


def test_where_cuda_was_asked_for_its_failure_is_told(model: ModelFile) -> None:
    session = Session(model, device="cpu")
    session.provider, session.device, session._session = CUDA, "cuda:0", Failing("CUDA error: no kernel image")
    with pytest.raises(DeviceError, match="cuda:0 failed while running"):
        session.run(feeds())


@pytest.mark.parametrize(
    "text",
    [
        "CUDA failure 2: out of memory ; GPU=0",
        "BFCArena::AllocateRawInternal Available memory of 12 is smaller than requested bytes of 99",
        "Failed to allocate memory for requested buffer of size 99",
        "std::bad_alloc",
        "CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED",
    ],
)
def test_exhausted_memory_asks_for_a_smaller_tile(model: ModelFile, text: str) -> None:
    session = Session(model, device="cpu")
    session._session = Failing(text)
    with pytest.raises(DeviceError, match="out of memory on cpu with a tile of 16 x 24 pixels: pass a smaller tile"):
        session.run(feeds())


def test_a_failure_of_the_graph_is_one_line(model: ModelFile) -> None:
    with pytest.raises(ModelError, match=r"tiny\.onnx failed to run: ") as caught:
        Session(model, device="cpu").run(feeds(15, 24))
    assert "\n" not in str(caught.value)


def test_a_graph_that_onnxruntime_refuses_is_one_line(model: ModelFile, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(ModelError, match=r"ONNX Runtime refuses text\.onnx: ") as caught:
        Session(dataclasses.replace(model, path=tmp_path / "text.onnx"), device="cpu")
    assert "\n" not in str(caught.value)


def test_the_facts_name_the_installed_runtime() -> None:
    import onnxruntime

    facts = providers()
    assert facts.version == onnxruntime.__version__
    assert CPU in facts.available
    assert facts.distributions
    assert bool(facts.problems) == (cuda_problem() is not None)


def test_the_facts_report_two_distributions_of_one_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.31.1")
    facts = providers()
    assert facts.distributions == ("onnxruntime 1.31.1", "onnxruntime-gpu 1.31.1")
    assert facts.problems[0].startswith("onnxruntime and onnxruntime-gpu overwrite each other; pip uninstall")


@pytest.mark.gpu
def test_cuda_gives_what_the_cpu_gives(model: ModelFile) -> None:
    if problem := cuda_problem():
        pytest.skip(problem)
    session = Session(model, device="cuda")
    assert (session.provider, session.device, session.fallback) == (CUDA, "cuda:0", None)
    np.testing.assert_allclose(session.run(feeds()), Session(model, device="cpu").run(feeds()), atol=1e-5)


class Failing:
    """Stands for an onnxruntime.InferenceSession whose run fails."""

    def __init__(self, text: str) -> None:
        self.text = text

    def run(self, *arguments: object) -> None:
        raise RuntimeError(self.text)
