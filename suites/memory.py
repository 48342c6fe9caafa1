"""What the C library does with memory that is freed."""

from __future__ import annotations

import ctypes
import sys

# malloc.h: the size from which a block is mapped by itself, and is given back to the system when it
# is freed; and how much may lie free at the end of the heap before that is given back.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_NEVER = -1
_MOST_IN_OLD_GLIBC = 32 << 20


def keep_freed() -> None:
    """Have the C library reuse large blocks instead of returning them to the system.

    A training step frees what the next one needs. Fetched anew from the system, page by page, that
    costs a good part of a step on the CPU: `python -m suites.bench` has it in the naive step.
    """
    _set(mapped_from=1 << 30, trimmed_from=_NEVER)


def return_freed() -> None:
    """Have it do as it does unasked in a process that frees large blocks: glibc's largest dynamic
    threshold for blocks, and twice that for the heap's end."""
    _set(mapped_from=32 << 20, trimmed_from=64 << 20)


def _set(mapped_from: int, trimmed_from: int) -> None:
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # glibc; musl has none
        if not library.mallopt(_MMAP_THRESHOLD, mapped_from):
            library.mallopt(_MMAP_THRESHOLD, _MOST_IN_OLD_GLIBC)
        library.mallopt(_TRIM_THRESHOLD, trimmed_from)
