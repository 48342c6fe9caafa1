"""A mark for tests that need a C++ compiler."""

from __future__ import annotations

import os
import shutil

import pytest


@pytest.fixture
def compiler() -> None:
    """g++ is there.

    It fails where `ITMC_REQUIRE_COMPILER` is 1.
    """
    if shutil.which("g++") is None:
        reason = "no g++"
        if os.environ.get("ITMC_REQUIRE_COMPILER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
