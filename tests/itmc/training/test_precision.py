"""Which precision ``auto`` means."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from itmc.training.precision import Asked, resolved


@pytest.mark.parametrize("asked", ["fp32", "bf16"])
def test_what_is_named_is_taken(asked: Asked) -> None:
    assert resolved(asked, "cpu") == asked == resolved(asked, "cuda")


@pytest.mark.parametrize(
    ("able", "precision"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, "bf16"),
        ({"amx_bf16": True}, "bf16"),
        ({"avx512_f": True, "avx512_bf16": False}, "fp32"),
        ({}, "fp32"),
    ],
)
def test_auto_asks_the_processor(
    able: dict[str, Any], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert resolved("auto", "cpu") == precision


@pytest.mark.parametrize(
    ("here", "generation", "precision"),
    [(True, (7, 0), "fp32"), (True, (8, 0), "bf16"), (False, (0, 0), "bf16")],
)
def test_auto_asks_the_gpu_where_there_is_one(
    here: bool, generation: tuple[int, int], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: here)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: generation)
    assert resolved("auto", "cuda") == precision
