"""What `import restonnx` gives, and what it costs."""

import os
import subprocess
import sys
from pathlib import Path

import restonnx

HEAVY = ("torch", "onnx", "onnxruntime", "napari", "qtpy", "PySide6", "PyQt6", "rawpy", "skimage", "PIL")


def test_the_public_names_are_complete_and_sorted() -> None:
    assert restonnx.__all__ == [
        "Cancelled",
        "DeviceError",
        "InputError",
        "ModelError",
        "RestonnxError",
        "Restorer",
        "__version__",
        "load_model",
        "models",
        "restore",
        "solve",
    ]
    assert sorted(restonnx.__all__) == restonnx.__all__
    assert dir(restonnx) == restonnx.__all__


def test_every_public_name_is_there_and_no_other() -> None:
    for name in restonnx.__all__:
        assert getattr(restonnx, name) == getattr(restonnx, name)
    assert restonnx.__version__[0].isdigit()
    assert not hasattr(restonnx, "restorer")


def test_importing_loads_nothing_heavy() -> None:
    assert _run(f"import sys, restonnx; print([name for name in {HEAVY} if name in sys.modules])") == "[]"


def test_the_runtime_loads_neither_torch_nor_onnx_nor_a_viewer() -> None:
    unwanted = ("torch", "onnx", "napari", "qtpy", "rawpy", "dask", "zarr")
    code = "import sys, restonnx; restonnx.restore, restonnx.Restorer, restonnx.models;"
    assert _run(f"{code} print([name for name in {unwanted} if name in sys.modules])") == "[]"


def test_importing_takes_less_than_three_tenths_of_a_second() -> None:
    # The processor's time of the import alone, so that other work on the machine does not count.
    code = "import time; start = time.process_time(); import restonnx; print(time.process_time() - start)"
    assert min(float(_run(code)) for _ in range(5)) < 0.3


def test_restore_is_callable_however_its_module_was_imported_first() -> None:
    for first in (
        "from restonnx.restore import Restorer",
        "import restonnx; restonnx.Restorer",
        "import restonnx.restore",
        "from restonnx import restore",
        "pass",
    ):
        code = "import inspect, restonnx\nprint(*list(inspect.signature(restonnx.restore).parameters)[:2])"
        assert _run(f"{first}\n{code}") == "image model", first


def _run(code: str) -> str:
    """What a fresh interpreter prints."""
    environment = {**os.environ, "PYTHONPATH": str(Path(restonnx.__file__).parents[1])}
    finished = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()
