"""Fake run records, as the suite writes them, and leaderboards of the version before."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

from results.leaderboard_file import ADDED

REFERENCES = ("source_only", "dan", "dann", "cdan", "cdan_e", "jan", "mcc", "mdd")
TASKS = ("hand->print", "hand->scene", "print->hand", "print->scene", "scene->hand", "scene->print")
TEACHER_MACS = 3_600_000
SCORES = {"source_validation": 99.0, "entropy": -0.21, "infomax": 1.62, "snd": 4.05, "dev": -0.33}


def record(
    method: str = "itmc",
    task: str = "hand->print",
    *,
    seed: int = 0,
    compression: float = 0.5,
    accuracy: float | None = 80.0,
    labelled: bool = True,
    **changed: Any,
) -> dict[str, Any]:
    """A complete record, of a target with or without labels; `changed` replaces top-level keys."""
    source, target = task.split("->")
    chosen = {"overall": accuracy, "mean_class": None if accuracy is None else accuracy - 1}
    network = {
        "parameters": 51_000,
        "activations": 23_000,
        "bytes": 210_000,
        "latency_ms": {
            "threads": 1,
            "batch_1": {"p50": 0.4, "p95": 0.5},
            "batch_32": {"p50": 3.1, "p95": 3.3},
        },
    }
    made: dict[str, Any] = {
        "schema": 5,
        "command": f"python -m suites.run digits --methods {method} --seeds {seed}".split(),
        "suite": "digits",
        "dataset": {"name": "digits", "digest": "sha256:0"},
        "task": {
            "source": source,
            "target": target,
            "name": task,
            "index": TASKS.index(task) if task in TASKS else None,
        },
        "protocol": "strict",
        "teacher": None,
        "method": {
            "name": method,
            "group": _group(method),
            "label": {"itmc": "ITMC"}.get(method, method.replace("_", " ")),
            "citation": "A paper.",
            "knobs": {},
            "unpruned": "dan" if compression else None,
        },
        "network": {"backbone": "digits_convnet", "weights": "none", "bottleneck": 64},
        "seed": seed,
        "compression": {
            "asked": compression,
            "reached": compression,
            "layers": {"features.0": [8, 16], "features.3": [4, 32], "head": [10, 10]},
        },
        "history": history(accuracy if labelled else None, compression),
        "accuracy": {
            "last": chosen if labelled else None,
            "oracle": {"epoch": 9, **chosen} if labelled else None,
            "source_validation": {"epoch": 8, "score": 99.0, **(chosen if labelled else {})},
            "entropy": None,
        },
        "scores": dict(SCORES),
        "cost": {
            "student": {"macs": round(TEACHER_MACS * (1 - compression)), **network},
            "teacher": {"macs": TEACHER_MACS, **network},
        },
        "effort": {
            "images": 64_000,
            "forward_images": 128_000,
            "backward_images": 64_000,
            "forward_macs": 128_000 * TEACHER_MACS,
            "backward_macs": 2 * 64_000 * TEACHER_MACS,
            "images_per_second": 3100.0,
            "data_share": 0.12,
            "seconds": {"data": 1.2, "train": 9.1},
            "peak_memory_bytes": 510_000_000,
        },
        "environment": {
            "git_commit": "0",
            "versions": {},
            "device": "cpu",
            "machine": "x86_64",
            "precision": "fp32",
            "core_version": 4,
            "threads": 1,
            "processes": 1,
        },
        "finished": "2026-11-22T14:00:00+00:00",
    } | changed
    made.setdefault("run", hashlib.sha256(json.dumps(made).encode()).hexdigest()[:16])
    return made


def history(accuracy: float | None, compression: float) -> dict[str, Any]:
    """The log of a student that is adapted for three epochs and pruned in two steps."""
    removed = [0.0, 0.0, 0.0, round(compression * 0.6, 5), compression, compression]
    gained = [-20.0, -12.0, -6.0, -9.0, -4.0, 0.0]
    overall = [None if accuracy is None else max(0.0, accuracy + gain) for gain in gained]
    return {
        "stage": ["adapt"] * 3 + ["itmc"] * 3,
        "overall": overall,
        "mean_class": overall,
        "removed": removed,
    }


def guidance(teacher: float, agrees_wrong: float) -> dict[str, list[float | None]]:
    """What ``history`` has besides, where a teacher was judged: one more point each epoch."""
    since = {"teacher": teacher, "agrees_right": 90.0, "agrees_wrong": agrees_wrong}
    return {name: [None] * 3 + [at + epoch for epoch in range(3)] for name, at in since.items()}


def _group(method: str) -> str:
    if method in REFERENCES:
        return "references"
    if method.startswith(("itmc_", "tkd_only", "acp_only")):
        return "ablations"
    return "itmc" if method == "itmc" else "baselines"


def write(out: Path, *records: dict[str, Any]) -> Path:
    """Write each record into its run directory under `out`; returns `out`."""
    for made in records:
        run = out / made["run"]
        run.mkdir(parents=True, exist_ok=True)
        (run / "config.yaml").write_text("suite: digits\n")
        (run / "record.json").write_text(json.dumps(made))
    return out


def older(file: Path) -> Path:
    """The leaderboard as the version before wrote it."""
    added = {column.name for column in ADDED}
    with file.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    kept = [name for name in rows[0] if name not in added]
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, kept, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return file
