"""Memory of this machine, and how the C library keeps it."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
# A control group's limit, what it holds, and in its memory.stat the part of that which makes way:
# files that are read no more. Of version 2, and of version 1.
_GROUPS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)
# mallopt(3): its parameters, and what they are set to.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_MALLOC = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 2**26}


def available() -> int:
    """Bytes that this process may still take: of the machine, or of its control group."""
    free = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")] if _known() else [2**32]
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        free = [int(line.split()[1]) * 1024]
    for limit, held, makes_way in _GROUPS:
        # A group without a limit says "max".
        with suppress(OSError, ValueError):
            left = int((CGROUP / limit).read_text()) - int((CGROUP / held).read_text())
            lines = (CGROUP / limit).with_name("memory.stat").read_text().splitlines()
            free.append(left + int(dict(line.split() for line in lines)[makes_way]))
    return max(0, min(free))


def keep_freed() -> None:
    """Tells glibc to keep what is freed, where it is the C library; for processes that only train.

    Otherwise it gives every large tensor back to the system and asks for it anew at the next step,
    and the system clears each page again: that can cost more than the arithmetic
    (https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html on memory allocators).
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            for parameter, value in _MALLOC.items():
                library.mallopt(parameter, value)


def _known() -> bool:
    return hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names
