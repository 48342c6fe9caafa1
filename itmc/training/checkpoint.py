"""Checkpoints and finished stages on disk: written atomically, loaded without unpickling code.

Of several processes the first writes; the others' calls do nothing.

What ``torch.save`` writes is a zip archive with a CRC-32 of each of its parts, which ``torch.load``
does not look at: most flipped bits would pass for weights. Here they are all checked.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from itmc.errors import UsageError, first_line
from itmc.files import atomic, whole_lines, write_atomic
from itmc.networks.build import NetworkConfig
from itmc.networks.spec import load_network, save_network
from itmc.parallel import by_first, world
from itmc.training.stage import Handover

FORMAT = 3
CHECKPOINT, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
PROGRESS = "progress.jsonl"
_DISCREPANCY = "discrepancy.pt"
_REMEDY = "delete the folder and run the suite again"


class _RefusedError(Exception):
    """A file that cannot be used, and why."""


@by_first
def save_checkpoint(folder: Path, content: dict[str, Any]) -> None:
    """Write ``content`` (tensors and plain values) as the folder's checkpoint.

    The one before it is kept: at any moment one of the two is there and whole. On disk that takes
    twice the networks and momenta in training, and three times while one is written (two ResNet-50:
    0.4 GB each), until the job is finished.
    """
    with atomic(folder / CHECKPOINT, before=folder / PREVIOUS) as file:
        torch.save({"format": FORMAT, **content}, file)


def load_checkpoint(folder: Path, say: Callable[[str], None]) -> dict[str, Any] | None:
    """The folder's checkpoint, else the one before it, else None, for none was ever written.

    A damaged one, or one of another version, is refused: ``say`` is told why, and what is used
    instead. The one before it then takes its place, so that the next save does not displace it.
    Raises OSError where a file cannot be read at all: what is whole is not thrown away for that.
    """
    refused: list[str] = []
    for path in (folder / CHECKPOINT, folder / PREVIOUS):
        try:
            content = _checked(path)
        except FileNotFoundError:
            refused.append(f"{path.name} is missing")
        except _RefusedError as error:
            refused.append(f"{path.name} is refused: {error}")
        else:
            if refused:
                say(f"{folder}: {refused[0]}; going on from {path.name}, the one before it")
                os.replace(path, folder / CHECKPOINT)
            return content
    if any("refused" in reason for reason in refused):
        say(f"{folder}: {'; '.join(refused)}; starting from the beginning")
    return None


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoint and the one before it."""
    for name in (PREVIOUS, CHECKPOINT):
        (folder / name).unlink(missing_ok=True)


@by_first
def save_handover(folder: Path, handover: Handover, config: NetworkConfig) -> None:
    """Write the result of a stage: ``student.json`` last, as the mark that it is whole."""
    with atomic(folder / _DISCREPANCY) as file:
        torch.save(handover.discrepancy, file)
    save_network(handover.network, config, folder, "student")


def load_handover(folder: Path, device: torch.device) -> Handover:
    """The result of the finished stage in ``folder``. Raises UsageError where it is damaged."""
    network, _ = load_network(folder)
    try:
        discrepancy = _load(folder / _DISCREPANCY)
    except FileNotFoundError as error:
        raise UsageError(f"{_DISCREPANCY} is missing in {str(folder)!r}; {_REMEDY}") from error
    except _RefusedError as error:
        raise UsageError(f"{_DISCREPANCY} in {str(folder)!r}: {error}; {_REMEDY}") from error
    return Handover(network.to(device), discrepancy)


@contextmanager
def progress_log(
    folder: Path, epochs: list[dict[str, Any]]
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Write the ``epochs`` that are over, a line each; inside, a function that adds one.

    A process that is killed may leave part of a line, and epochs that no checkpoint knows. The next
    one begins a file of its own, so that nothing of a process that lost its folder gets into it.
    """
    if not world().is_first:
        yield lambda epoch: None
        return
    path = folder / PROGRESS
    write_progress(folder, epochs)
    with path.open("ab") as file:
        yield lambda epoch: _append(file, _line(epoch))
        os.fsync(file.fileno())


@by_first
def write_progress(folder: Path, epochs: list[dict[str, Any]]) -> None:
    """The whole log of a stage."""
    write_atomic(folder / PROGRESS, b"".join(map(_line, epochs)))


def read_progress(folder: Path) -> list[dict[str, Any]]:
    """The epochs in the log of ``folder``, without a last line that is only begun.

    Raises UsageError where it is missing or damaged.
    """
    try:
        return [json.loads(line) for line in whole_lines(folder / PROGRESS)]
    except (FileNotFoundError, ValueError) as error:
        what = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged ({error})"
        raise UsageError(f"{PROGRESS} in {str(folder)!r} {what}; {_REMEDY}") from error


def _append(file: BinaryIO, line: bytes) -> None:
    file.write(line)
    file.flush()


def _line(epoch: dict[str, Any]) -> bytes:
    return json.dumps(epoch).encode() + b"\n"


def _checked(path: Path) -> dict[str, Any]:
    """The checkpoint at ``path``. Raises _RefusedError where it cannot be used."""
    content: dict[str, Any] = _load(path)
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise _RefusedError(f"it is of format {found!r:.20}, this version reads {FORMAT} only")
    return content


def _load(path: Path) -> Any:
    """What ``torch.save`` wrote to ``path``. Raises _RefusedError where a byte of it is wrong."""
    archive = io.BytesIO(path.read_bytes())
    try:
        damaged = zipfile.ZipFile(archive).testzip()
    except Exception as error:  # bytes that are no archive can make that raise nearly anything
        raise _RefusedError(f"it is cut short or damaged ({first_line(error)})") from error
    if damaged is not None:
        raise _RefusedError(f"it is damaged (checksum of {damaged!r})")
    archive.seek(0)
    try:
        return torch.load(archive, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # whole, but not what this version writes
        if "allocate memory" in str(error):  # as torch says it
            raise
        raise _RefusedError(f"it is of another kind ({first_line(error)})") from error
