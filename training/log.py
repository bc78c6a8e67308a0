"""What a training notes while it runs."""

from __future__ import annotations

import json
from pathlib import Path

LOG = "log.jsonl"


class Log:
    """Loss and learning rate over time, as lines of JSON and for TensorBoard."""

    def __init__(self, out: Path, iteration: int) -> None:
        """out: the run's folder.  iteration: where the run goes on; what a killed run wrote beyond it, or has written
        in part, is taken back."""
        from torch.utils.tensorboard import SummaryWriter

        self.path = out / LOG
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        kept = [line for line in lines if _iteration(line) <= iteration]
        self.path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self.board = SummaryWriter(str(out / "tensorboard"), purge_step=iteration)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.board.close()

    def add(self, iteration: int, seconds: float, loss: float, rate: float) -> None:
        entry = {"iteration": iteration, "seconds": round(seconds, 1), "loss": round(loss, 6)}
        entry["lr"] = float(f"{rate:.4g}")
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        self.board.add_scalar("loss", loss, iteration)
        self.board.add_scalar("learning rate", rate, iteration)


def _iteration(line: str) -> float:
    """Infinity for a line that was cut off."""
    try:
        return int(json.loads(line)["iteration"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
