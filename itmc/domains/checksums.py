"""Checksums of files, written ``sha256:<hex>``, ``sha1:<hex>`` or ``md5:<hex>``."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from itmc.domains.progress import Progress

_HEX = {"sha256": 64, "sha1": 40, "md5": 32}
_CHUNK = 1 << 18


def parse_checksum(checksum: str) -> tuple[str, str]:
    """Algorithm and hexadecimal digits (lower case) of a written checksum.

    Raises ValueError where it is none.
    """
    algorithm, _, digits = checksum.lower().partition(":")
    if algorithm not in _HEX or not re.fullmatch(f"[0-9a-f]{{{_HEX[algorithm]}}}", digits):
        raise ValueError(
            f"checksum {checksum!r} is not understood; write sha256:, sha1: or md5: "
            "and 64, 40 or 32 hexadecimal digits"
        )
    return algorithm, digits


def mismatch(path: Path, checksum: str | None, progress: Progress) -> str | None:
    """What is wrong with the content of ``path``, or None; None too if no checksum is known."""
    if checksum is None:
        return None
    algorithm, expected = parse_checksum(checksum)
    total, done = hashlib.new(algorithm, usedforsecurity=False), 0
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        while chunk := file.read(_CHUNK):
            total.update(chunk)
            done += len(chunk)
            progress.step(f"checking {path.name.removesuffix('.part')}", done, size, "bytes")
    if total.hexdigest() == expected:
        return None
    return f"wrong checksum: expected {algorithm}:{expected}, found {algorithm}:{total.hexdigest()}"
