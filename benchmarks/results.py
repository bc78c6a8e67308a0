"""How every benchmark writes what it measured: with the machine, as JSON, in benchmarks/results/."""

import json
from pathlib import Path
from typing import Any

from restonnx.training.machine import facts

FOLDER = Path(__file__).parent / "results"


def write(name: str, content: dict[str, Any]) -> None:
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps({"machine": facts(), **content}, indent=1) + "\n", encoding="utf-8")
    print(f"written: {path}")
