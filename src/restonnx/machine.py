"""What this machine has for us: cores, memory."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cores() -> int:
    """Physical cores, or as many processors as this process is bound to where those are fewer."""
    import psutil

    physical = int(psutil.cpu_count(logical=False) or os.cpu_count() or 1)
    return min(physical, len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else physical


def memory() -> int:
    """Bytes of working memory, free or not."""
    import psutil

    return int(psutil.virtual_memory().total)


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
