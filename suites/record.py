"""The record of a finished run: everything that tables and plots need, in one JSON document."""

from __future__ import annotations

import platform
import resource
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from itmc import cost
from itmc.config import digest
from itmc.evaluation.evaluator import candidates, select
from itmc.networks.build import Network
from itmc.pruning.groups import Dependencies
from itmc.pruning.shrink import kept_layers
from itmc.pruning.surgery import TOLERANCE
from itmc.training.method import method
from itmc.training.stage import Context
from suites.config import RunConfig
from suites.plan import images_per_epoch

SCHEMA = 2
_VERSIONS = ("torch", "torchvision", "timm", "torch-pruning", "fvcore", "numpy", "scikit-learn")


def make_record(
    run: RunConfig,
    student: Network,
    history: Sequence[dict[str, Any]],
    histories: Sequence[Sequence[dict[str, Any]]],
    context: Context,
    gaps: dict[str, list[str]],
) -> dict[str, Any]:
    """The record of ``run``, whose last stage has the log ``history``, those before ``histories``.

    ``gaps``: how each domain differs from the official one, in words.

    The budget is a share of the student's own backbone, whoever the teacher is. ``scores`` are the
    label-free ones of the last epoch; ``accuracy`` is as ``select`` gives it, for a target without
    labels too.
    """
    chosen = method(run.method)
    unpruned = context.unpruned_macs
    networks = {"student": student, "teacher": context.teacher.unpruned_network()}
    costs = cost.measure(networks, context.example)
    budget = (1 - run.compression + TOLERANCE) * unpruned
    phases = {name: sum(e["seconds"][name] for e in history) for name in history[0]["seconds"]}
    return {
        "schema": SCHEMA,
        "run": run.key,
        "suite": run.suite,
        "dataset": {
            "name": run.dataset,
            "digest": digest(run.digests),
            "digests": run.digests,
            "images": run.images,
            "classes": list(run.classes),
            "stored_size": run.stored_size,
            "gaps": gaps,
        },
        "task": {
            "source": run.source,
            "target": run.target,
            "name": run.task,
            "index": run.task_index,
        },
        "protocol": run.protocol,
        "method": {
            "name": chosen.name,
            "group": chosen.group,
            "label": chosen.label,
            "citation": chosen.citation,
            "knobs": run.knobs,
        },
        "network": run.network.model_dump(mode="json"),
        "teacher": run.teacher and run.teacher.model_dump(mode="json"),
        "data": run.data.model_dump(mode="json"),
        "training": run.training.model_dump(mode="json"),
        "seed": run.seed,
        "compression": {
            "asked": run.compression,
            "reached": 1 - costs["student"]["macs"] / unpruned,
            "left_whole": _left_whole(context) if run.compression else {},
        },
        "accuracy": select(history, budget, candidates(run.training.epochs)),
        "scores": dict(history[-1]["scores"]),
        "cost": costs,
        "effort": _effort(run, [history, *histories], phases, len(history)),
        "environment": _environment(context.device),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _left_whole(context: Context) -> dict[str, str]:
    """Layers that pruning cannot narrow, and why; those of the features and the classes besides."""
    network = context.unpruned_network()
    return Dependencies(network, context.example, kept_layers(network)).whole


def _effort(
    run: RunConfig,
    histories: Sequence[Sequence[dict[str, Any]]],
    phases: dict[str, float],
    epochs: int,
) -> dict[str, Any]:
    """What the training cost.

    ``images``: of both domains in gradient steps. What passed through networks, and the MACs of
    these passes, were counted: all stages, shared ones too, with importance and BatchNorm
    estimation, without evaluation and without discriminators. ``images_per_second``, ``data_share``
    and ``seconds`` are those of the run's last stage; ``data_share`` is the part of the training
    seconds (data and train) that went into waiting for data, from 0 to 1. It is None, as
    ``images_per_second``, where no second was counted.
    """
    nodes = list({run.stage_key(node): node for node in run.recipe().walk()}.values())
    images = images_per_epoch(run)
    seconds = phases["train"] + phases["data"]
    counted = [entry["effort"] for history in histories for entry in history]
    return {
        "images": images // 2 * sum(node.domain_epochs(run.training) for node in nodes),
        **{name: sum(counts[name] for counts in counted) for name in counted[0]},
        "images_per_second": images * epochs / seconds if seconds else None,
        "data_share": phases["data"] / seconds if seconds else None,
        "seconds": phases,
        "peak_memory_bytes": _peak_memory(),
    }


def _peak_memory() -> int:
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _environment(device: torch.device) -> dict[str, Any]:
    on_gpu = device.type == "cuda"
    return {
        "git_commit": _git_commit(),
        "versions": {"python": platform.python_version()}
        | {name: metadata.version(name) for name in _VERSIONS},
        "device": torch.cuda.get_device_name(device) if on_gpu else device.type,
        "machine": platform.machine(),
        "precision": "fp32",
        "threads": torch.get_num_threads(),
    }


def _git_commit() -> str | None:
    """Commit of this source tree, with ``+changes`` if it differs; ``None`` outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40"]
    try:
        answer = subprocess.run(
            [*command, "--dirty=+changes", "--exclude=*"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
