"""What older schemas of records said differently: a step from each to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Record = dict[str, Any]


def _with_scores(record: Record) -> Record:
    """Schema 1 had no label-free scores of the last epoch apart from those that chose an epoch."""
    return {**record, "schema": 2, "scores": record.get("scores") or {}}


def _with_command(record: Record) -> Record:
    """Schema 2 had no command, history or widths, and did not say what a student is unpruned."""
    method = record.get("method")
    if isinstance(method, dict):
        method = {**method, "unpruned": _unpruned(record, method)}
    return {**record, "schema": 3, "command": [], "history": None, "method": method}


def _with_precision(record: Record) -> Record:
    """Schema 3's training had no precision to choose; the environment said what it was."""
    training, environment = record.get("training"), record.get("environment")
    if isinstance(training, dict) and isinstance(environment, dict):
        training = {"precision": environment.get("precision"), **training}
    return {**record, "schema": 4, "training": training}


def _with_discrepancy(record: Record) -> Record:
    """Schema 4 had the temperature of MCC and the margin of MDD with the references of that name;
    all others had the papers' values."""
    training, method = record.get("training"), record.get("method")
    if isinstance(training, dict) and isinstance(method, dict):
        knobs, name = method.get("knobs"), method.get("name")
        own = dict(knobs) if isinstance(knobs, dict) else {}
        temperature = own.pop("temperature", 2.5) if name == "mcc" else 2.5
        margin = own.pop("margin", 4.0) if name == "mdd" else 4.0
        training = {"mcc_temperature": temperature, "mdd_margin": margin, **training}
        method = {**method, "knobs": own} if isinstance(knobs, dict) else method
    return {**record, "schema": 5, "training": training, "method": method}


def _unpruned(record: Record, method: Record) -> str | None:
    """By the hyper-parameter that named it, or the name of a narrow student."""
    compression = record.get("compression")
    if not (isinstance(compression, dict) and compression.get("asked")):
        return None
    knobs = method.get("knobs")
    knobs = knobs if isinstance(knobs, dict) else {}
    narrow = str(method.get("name"))
    if narrow.endswith("_student"):
        return narrow.removesuffix("_student")
    named = (knobs.get("discrepancy"), knobs.get("teacher"))
    return next((name for name in named if isinstance(name, str)), None)


# From schema 1, 2, … to the next.
MIGRATIONS: tuple[Callable[[Record], Record], ...] = (
    _with_scores,
    _with_command,
    _with_precision,
    _with_discrepancy,
)
