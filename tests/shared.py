"""The real data and weights, which are no part of the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("ITMC_SHARED") or Path(__file__).parents[2] / "shared").resolve()


def at_hand(name: str) -> Path:
    """What ``name`` is among them; without it the test is skipped, or fails where it must run."""
    if not (place := SHARED / name).exists():
        reason = f"no {place}; set ITMC_SHARED to the folder with data and weights"
        if os.environ.get("ITMC_REQUIRE_SHARED") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return place
