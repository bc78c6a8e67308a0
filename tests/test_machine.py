from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from restonnx import machine

GIB = 2**30


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 16 cores and 64 GiB, whose control groups are in the folder that comes back."""
    monkeypatch.setattr(machine, "CONTROL", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "GROUPS", tmp_path / "own")
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: 16)
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 16)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"total": 64 * GIB}))
    return tmp_path / "cgroup"


def write(own: str, files: dict[str, object]) -> None:
    machine.GROUPS.write_text(own)
    for name, content in files.items():
        path = machine.CONTROL / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")


@pytest.mark.parametrize(
    ("own", "files", "cores", "gibibytes"),
    [
        ("0::/\n", {"cpu.max": "400000 100000", "memory.max": 8 * GIB}, 4, 8),
        ("0::/\n", {"cpu.max": "150000 100000", "memory.max": "max"}, 2, 64),
        ("0::/\n", {"cpu.max": "50000 100000", "memory.max": 2**62}, 1, 64),
        ("0::/\n", {"cpu.max": "max 100000"}, 16, 64),
        ("0::/user/one\n", {"user/one/memory.max": "max", "user/memory.max": 2 * GIB, "user/cpu.max": "2 1"}, 2, 2),
        ("0::/host/only\n", {"cpu.max": "3 1", "memory.max": GIB}, 3, 1),
        (
            "5:cpu,cpuacct:/a\n4:memory:/a\n1:name=systemd:/a\n0::/\n",
            {
                "cpu,cpuacct/a/cpu.cfs_quota_us": 500000,
                "cpu,cpuacct/a/cpu.cfs_period_us": 100000,
                "cpu,cpuacct/cpu.cfs_quota_us": -1,
                "cpu,cpuacct/cpu.cfs_period_us": 100000,
                "memory/a/memory.limit_in_bytes": 4 * GIB,
                "name=systemd/a/memory.max": 1,
            },
            5,
            4,
        ),
    ],
)
def test_a_container_gets_what_it_is_allowed(
    control: Path, own: str, files: dict[str, object], cores: int, gibibytes: int
) -> None:
    write(own, files)
    assert machine.cores() == cores
    assert machine.restricted() == (cores < 16)
    assert machine.memory() == gibibytes * GIB


def test_without_control_groups_the_machine_is_ours(control: Path) -> None:
    assert not control.exists()
    assert (machine.cores(), machine.memory(), machine.restricted()) == (16, 64 * GIB, False)


def test_a_process_that_is_bound_to_some_processors_counts_those(
    control: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda process: {1, 5, 7}, raising=False)
    assert (machine.cores(), machine.restricted()) == (3, True)
