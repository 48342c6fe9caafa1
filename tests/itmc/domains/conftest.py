"""What tests of preparing images share."""

from __future__ import annotations

import numpy as np
import pytest

from itmc.domains import contents
from itmc.domains.decode import decode


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were decoded."""
    names: list[str] = []

    def counting(content: bytes, size: int, name: str) -> np.ndarray:
        names.append(name)
        return decode(content, size, name)

    monkeypatch.setattr(contents, "decode", counting)
    return names
