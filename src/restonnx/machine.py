"""What this machine, or the container that we run in, has for us: cores, memory."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

CONTROL = Path("/sys/fs/cgroup")
"""Where Linux says what a container, or a service, may take at most: version 2 in one tree, version 1 in one for each
resource."""
GROUPS = Path("/proc/self/cgroup")


def cores() -> int:
    """Physical cores, or as many processors as this process may use where those are fewer."""
    import psutil

    return min(int(psutil.cpu_count(logical=False) or _processors()), _allowed())


def restricted() -> bool:
    """Whether this process may not use all processors all of the time."""
    return _allowed() < _processors()


def memory() -> int:
    """Bytes of working memory, free or not, of which this process may take all."""
    import psutil

    limits = [_read(group / name) for group in _groups("memory") for name in ("memory.max", "memory.limit_in_bytes")]
    return min([int(psutil.virtual_memory().total), *(int(limit) for limit in limits if limit.isdecimal())])


def _processors() -> int:
    return os.cpu_count() or 1


def _allowed() -> int:
    """Processors that this process is bound to, or whose time it may take."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _processors()
    return min([bound, *_quotas()])


def _quotas() -> Iterator[int]:
    """Whole processors that the time allowed is worth, by each limit there is."""
    for group in _groups("cpu"):
        quota, _, period = _read(group / "cpu.max").partition(" ")
        if not period:
            quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal():  # else there is none: "max", or -1 in version 1
            yield max(1, math.ceil(int(quota) / int(period)))


def _groups(resource: str) -> Iterator[Path]:
    """The folders of this process's control group and of those around it. A container sees its own as the outermost."""
    for line in _read(GROUPS).splitlines():
        _, kinds, path = line.split(":", 2)
        if not kinds or resource in kinds.split(","):
            root = CONTROL / kinds
            own = root / path.lstrip("/")
            yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(root))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def peak_mb() -> int | None:
    """The most memory (MiB) that this process ever had resident; None where the system does not say."""
    try:  # getrusage on Linux counts what the process was before it became this program, too
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) // 1024
    except (OSError, IndexError, ValueError):
        pass
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**20
    import psutil

    peak: int | None = getattr(psutil.Process().memory_info(), "peak_wset", None)  # Windows
    return None if peak is None else peak // 2**20
