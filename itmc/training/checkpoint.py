"""Checkpoints and finished stages on disk: written atomically, loaded without unpickling code.

Of several processes the first writes; the others' calls do nothing.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import torch

from itmc.files import write_atomic
from itmc.networks.build import NetworkConfig
from itmc.networks.spec import load_network, save_network
from itmc.parallel import by_first
from itmc.training.stage import Handover

FORMAT = 2
CHECKPOINT = "checkpoint.pt"
PROGRESS = "progress.jsonl"
_DISCREPANCY = "discrepancy.pt"


@by_first
def save_checkpoint(folder: Path, content: dict[str, Any]) -> None:
    """Write ``content`` (tensors and plain values) as the folder's checkpoint."""
    _save(folder / CHECKPOINT, {"format": FORMAT, **content})


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The folder's checkpoint; ``None`` where there is none, or none that can be used."""
    try:
        content = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
    except Exception:  # none there, or damaged: reading that can raise nearly anything
        return None
    usable = isinstance(content, dict) and content.get("format") == FORMAT
    return content if usable else None


@by_first
def save_handover(folder: Path, handover: Handover, config: NetworkConfig) -> None:
    """Write the result of a stage: ``student.json`` last, as the mark that it is whole."""
    _save(folder / _DISCREPANCY, handover.discrepancy)
    save_network(handover.network, config, folder, "student")


def load_handover(folder: Path, device: torch.device) -> Handover:
    """The result of the finished stage in ``folder``."""
    network, _ = load_network(folder)
    discrepancy = torch.load(folder / _DISCREPANCY, map_location="cpu", weights_only=True)
    return Handover(network.to(device), discrepancy)


@by_first
def write_progress(folder: Path, epochs: list[dict[str, Any]]) -> None:
    """One line an epoch, all that are over."""
    lines = "".join(json.dumps(epoch) + "\n" for epoch in epochs)
    write_atomic(folder / PROGRESS, lines.encode())


def read_progress(folder: Path) -> list[dict[str, Any]]:
    """The epochs that ``write_progress`` wrote."""
    return [json.loads(line) for line in (folder / PROGRESS).read_text().splitlines()]


def _save(path: Path, content: Any) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomic(path, buffer.getvalue())
