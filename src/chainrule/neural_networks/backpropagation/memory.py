"""`keep_freed_memory`: why a training step need not ask the system for its arrays again.

NumPy takes a new piece of memory for every result. The C library of Linux returns large freed
pieces to the system at once, and the system clears every page again when it is next used: a
training step frees and takes the same few hundred megabytes each time.
"""

from __future__ import annotations

import os

__all__ = ["keep_freed_memory"]

# Parameters of mallopt in glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT = 1 << 30


def keep_freed_memory() -> bool:
    """Ask glibc to keep up to 1 GiB that was freed, for the next array; tell whether it will.

    Concerns the whole process and only speed. Without glibc, or if the environment sets
    ``MALLOC_TRIM_THRESHOLD_``, nothing is changed.
    """
    if "MALLOC_TRIM_THRESHOLD_" in os.environ:
        return False
    try:
        import ctypes

        mallopt = ctypes.CDLL(None).mallopt
    except (ImportError, OSError, TypeError, AttributeError):
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, _KEPT)) and bool(
        mallopt(_M_MMAP_THRESHOLD, _KEPT) or mallopt(_M_MMAP_THRESHOLD, 32 << 20)
    )
