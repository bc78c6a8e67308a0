"""How every benchmark writes what it measured: with the machine, as JSON, in benchmarks/results/."""

from pathlib import Path
from typing import Any

from restonnx.files import write_json
from restonnx.training.machine import facts

FOLDER = Path(__file__).parent / "results"


def write(name: str, content: dict[str, Any]) -> None:
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    write_json(path, {"machine": facts(), **content})
    print(f"written: {path}")
