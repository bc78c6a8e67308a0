"""ONNX Runtime: choose a device, make sure that it really runs there, run, cancel, fall back."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from restonnx.errors import Cancelled, DeviceError, InputError, ModelError, OutOfMemory
from restonnx.machine import cores, memory, restricted
from restonnx.providers import CPU, CUDA, Provider, cuda_memory, cuda_problem
from restonnx.threads import Stopwatch

if TYPE_CHECKING:
    from pathlib import Path

    from restonnx.model import ModelFile

Array = np.ndarray[Any, np.dtype[Any]]
POLL_SECONDS = 0.02
LANES = 2
"""Runs at once on the CPU; more would take as much more memory, and were not measured."""
LARGEST_IN_LANES = 2**25
"""Bytes of a model's file."""
SPINNING = "0"
"""Threads of the CPU that wait for each other sleep: tiles are long, and the next one is being read meanwhile."""
CUDA_OPTIONS = {
    # Another image has another tile shape, and an exhaustive search would run again for each.
    "cudnn_conv_algo_search": "HEURISTIC",
    "arena_extend_strategy": "kSameAsRequested",
    # TF32 has 10 bits of mantissa: tiles would differ visibly from the whole, and CUDA from the CPU.
    "use_tf32": "0",
}
FATAL, WARNING = 4, 2
"""Log severities: what fails is raised as one line, and need not stand on stderr as well; and ONNX Runtime's own."""
OUT_OF_MEMORY = r"(?i)out of memory|bad_alloc|failed to allocate|alloc_failed|BFCArena"
"""In the words of the system, of ONNX Runtime, and of cuDNN and cuBLAS."""
NO_ARENA = "memory arena shrink list"
"""In those of ONNX Runtime, where a device has no memory that could be given back."""


class Cancel(Protocol):
    """What stops a run: a threading.Event or anything like it."""

    def is_set(self) -> bool: ...


def check_cancelled(cancel: Cancel | None) -> None:
    """Raise Cancelled where `cancel` is set."""
    if cancel is not None and cancel.is_set():
        raise Cancelled("the run was cancelled")


class Session:
    """A model loaded on one device. `run` may be called from several threads."""

    provider: Provider
    """What really runs."""
    device: str
    """"cpu" or "cuda:N"."""
    fallback: str | None
    """Why "auto" (or a run that overflowed) went to the CPU; None where nothing was lost."""

    def __init__(self, model: ModelFile, *, device: str = "auto", threads: int | None = None) -> None:
        """Load the model on "cpu", "cuda", "cuda:N", or on what "auto" finds: the first CUDA device, else the
        CPU.

        threads: of the CPU; all physical cores by default.
        Raises InputError for another device or number of threads, DeviceError where the CUDA device asked for
        cannot run, ModelError where ONNX Runtime refuses the model.
        """
        index = _device_index(device)
        if threads is not None and threads < 1:
            raise InputError(f"threads must be at least 1, not {threads}")
        self._model, self._threads, self._automatic = model, threads, device == "auto"
        self._stamp = _stamp(model.path)
        self._on_cpu: Any = None
        self._lanes: dict[int, Any] = {}
        self._left_lanes = False
        self._lock, self._clock = threading.Lock(), Stopwatch()
        self.provider, self.device, self.fallback = CPU, "cpu", None
        if index is not None:
            problem = cuda_problem(index)
            if problem is None:
                self._session, problem = _start_cuda(model, threads, index)
            if problem is None:
                self.provider, self.device = CUDA, f"cuda:{index}"
                return
            if device != "auto":
                raise DeviceError(f"cannot run on {device}: {problem}")
            self.fallback = problem
        self._session = self._on_cpu = _start(model, threads, [CPU])

    @property
    def lanes(self) -> int:
        """How many runs are best made at once, from as many threads: of two on the CPU one works while the other waits
        for its threads. One on CUDA, and of models so large that their weights are better not held twice."""
        if self.provider != CPU or self._left_lanes or self._model.size_bytes > LARGEST_IN_LANES:
            return 1
        return min(LANES, self._threads or cores())

    @property
    def memory(self) -> int:
        """Bytes of working memory that the device has, free or not."""
        if self.provider == CUDA and (found := cuda_memory(int(self.device.removeprefix("cuda:")))):
            return found
        return memory()

    def leave_lanes(self) -> None:
        """For good, and give back their memory: it does not suffice for several runs at once."""
        self._left_lanes = True
        self._lanes.clear()

    @property
    def graph_seconds(self) -> float:
        """Time so far during which a run, or several at once, were inside the graph."""
        return self._clock.seconds

    def run(
        self,
        feeds: Mapping[str, Array],
        cancel: Cancel | None = None,
        *,
        lane: int | None = None,
        last: bool = False,
        smaller: bool = False,
    ) -> Array:
        """One run of the graph: `feeds` by input name, the output `restored` back, finite where `feeds` are.

        Values that are not finite on CUDA are computed once more on the CPU; where CUDA was found by "auto" and fails,
        so is this and all that follows, and `fallback` says why.
        lane: from 0 to `lanes` - 1, where runs go on at once: each lane has its share of the threads, and memory of its
            own, which is flat however many follow. None: this run is alone and has all threads.
        last: nothing is to follow soon, so that working memory is given back afterwards, if the run comes to its end.
        smaller: the caller can do with smaller tiles, and is told so before CUDA is given up.
        Raises Cancelled soon after `cancel` is set, OutOfMemory, DeviceError when CUDA fails, ModelError when the graph
        does.
        """
        session = self._session if lane is None else self._lane(lane)
        try:
            restored = self._run(session, self.device, feeds, cancel, last)
        except DeviceError as error:
            if self.provider == CPU or not self._automatic or (smaller and isinstance(error, OutOfMemory)):
                raise
            self._leave_cuda(str(error))
            restored = self._run(self._session, self.device, feeds, cancel, last)
        if np.isfinite(restored).all() or not all(np.isfinite(value).all() for value in feeds.values()):
            return restored
        if self.provider == CUDA:
            self._on_cpu = self._on_cpu or _start(self._model, self._threads, [CPU])
            restored = self._run(self._on_cpu, "cpu", feeds, cancel, last)
            if np.isfinite(restored).all():
                self.fallback = f"{self.device} gave values that are not finite, so these were computed on the CPU"
                return restored
        raise ModelError(f"{self._model.path.name} gives values that are not finite for this image")

    def _lane(self, number: int) -> Any:
        """The session of a lane; where the model's file is another by now, the one that there is."""
        with self._lock:
            if self._left_lanes or self.provider != CPU or _stamp(self._model.path) != self._stamp:
                return self._lanes.get(number, self._session)
            if number not in self._lanes:
                share = -(-(self._threads or cores()) // self.lanes)
                self._lanes[number] = _start(self._model, share, [CPU])
            return self._lanes[number]

    def _leave_cuda(self, why: str) -> None:
        """For good: what has failed once on a device mostly fails again. Its memory is given back."""
        self._session = self._on_cpu = self._on_cpu or _start(self._model, self._threads, [CPU])
        self.provider, self.device, self.fallback = CPU, "cpu", why

    def _run(self, session: Any, device: str, feeds: Mapping[str, Array], cancel: Cancel | None, last: bool) -> Array:
        import onnxruntime

        options = onnxruntime.RunOptions()
        options.log_severity_level = FATAL
        if last:
            arena = "cpu:0" if device == "cpu" else device.replace("cuda", "gpu")
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", arena)
        try:
            with _terminating(options, cancel), self._clock.running():
                restored: Array = session.run(["restored"], dict(feeds), options)[0]
                return restored
        except Exception as error:
            if cancel is not None and cancel.is_set():
                raise Cancelled("the run was cancelled") from None
            if last and NO_ARENA in str(error):  # which is looked for before anything runs
                return self._run(session, device, feeds, cancel, last=False)
            raise _explained(error, self._model.path.name, device, feeds) from error


def _start(model: ModelFile, threads: int | None, chosen: list[Any]) -> Any:
    """An onnxruntime.InferenceSession on the providers `chosen`, best first."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL
    options.intra_op_num_threads = threads or _default_threads()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # A pattern holds a second copy of the arena: twice the memory, and no less time.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", SPINNING)
    try:
        return onnxruntime.InferenceSession(str(model.path), options, providers=chosen, enable_fallback=0)
    except Exception as error:
        raise ModelError(f"ONNX Runtime refuses {model.path.name}: {_first_line(error)}") from error


def _start_cuda(model: ModelFile, threads: int | None, index: int) -> tuple[Any, str | None]:
    """A session on CUDA, or the reason why there is none."""
    import onnxruntime

    options: dict[str, Any] = dict(CUDA_OPTIONS)
    if index:  # naming device 0 makes some releases complain about a missing plugin
        options["device_id"] = str(index)
    onnxruntime.set_default_logger_severity(FATAL)
    try:
        session = _start(model, threads, [(CUDA, options), CPU])
    except ModelError as error:
        return None, str(error)
    finally:
        onnxruntime.set_default_logger_severity(WARNING)
    if session.get_providers()[0] != CUDA:
        return (
            None,
            "ONNX Runtime could not start CUDA, though its libraries are there; see `restonnx doctor`",
        )
    return session, None


@contextlib.contextmanager
def _terminating(options: Any, cancel: Cancel | None) -> Iterator[None]:
    """While inside, a thread ends the run of `options` once `cancel` is set."""
    if cancel is None:
        yield
        return
    finished = threading.Event()

    def watch() -> None:
        while not finished.wait(POLL_SECONDS):
            if cancel.is_set():
                options.terminate = True
                return

    watcher = threading.Thread(target=watch, name="restonnx-cancel", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()


def _stamp(path: Path) -> tuple[int, int] | None:
    """Which file lies there; None for none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _explained(error: Exception, name: str, device: str, feeds: Mapping[str, Array]) -> DeviceError | ModelError:
    text = str(error)
    if isinstance(error, MemoryError) or re.search(OUT_OF_MEMORY, text):
        height, width = feeds["image"].shape[-2:] if "image" in feeds else (0, 0)
        return OutOfMemory(f"out of memory on {device} with a tile of {height} x {width} pixels: pass a smaller tile")
    if device != "cpu" and re.search(r"(?i)cuda|cudnn|cublas", text):
        return DeviceError(f"{device} failed while running {name}: {_first_line(error)}")
    return ModelError(f"{name} failed to run: {_first_line(error)}")


def _device_index(device: str) -> int | None:
    """The number of the CUDA device to try; None for the CPU alone."""
    match = re.fullmatch(r"auto|cpu|cuda(?::(\d{1,3}))?", device) if isinstance(device, str) else None
    if match is None:
        raise InputError(f'device must be "auto", "cpu", "cuda" or "cuda:N", not {device!r}')
    return None if device == "cpu" else int(match[1] or 0)


def _default_threads() -> int:
    """0, which means all physical cores, each thread bound to one; else as many as this process may use."""
    return cores() if restricted() else 0


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
