"""The record of a finished run: everything that tables and plots need, in one JSON document."""

from __future__ import annotations

import platform
import re
import resource
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from itmc import cost
from itmc.config import digest
from itmc.evaluation.evaluator import candidates, select
from itmc.networks.build import Network
from itmc.parallel import world
from itmc.pruning.groups import Dependencies
from itmc.pruning.shrink import kept_layers
from itmc.pruning.surgery import TOLERANCE
from itmc.training.method import CORE_VERSION, Node, knobs_of, method, methods
from itmc.training.stage import Context
from suites.asked import command
from suites.bench.machine import processor
from suites.config import Places, RunConfig
from suites.plan import images_per_epoch

SCHEMA = 5
_GUIDANCE = ("teacher", "agrees_right", "agrees_wrong")
_VERSIONS = ("torch", "torchvision", "timm", "torch-pruning", "fvcore", "numpy", "scikit-learn")


def make_record(
    run: RunConfig,
    student: Network,
    history: Sequence[dict[str, Any]],
    histories: Mapping[str, Sequence[dict[str, Any]]],
    context: Context,
    gaps: dict[str, list[str]],
    places: Places,
) -> dict[str, Any]:
    """The record of ``run``, whose last stage has the log ``history``.

    Args:
        run: what was run.
        student: what came of it.
        history: the log of the run's last stage.
        histories: those of all stages before, by key; the recipe says which of them trained the
            student.
        context: the unpruned networks, and an input.
        gaps: how each domain differs from the official one, in words.
        places: where it ran, and what was asked for.

    The budget is a share of the student's own backbone, whoever the teacher is. ``scores`` are the
    label-free ones of the last epoch; ``accuracy`` is as ``select`` gives it, for a target without
    labels too.
    """
    unpruned = context.unpruned_macs
    networks = {"student": student, "teacher": context.teacher.unpruned_network()}
    costs = cost.measure(networks, context.example)
    budget = (1 - run.compression + TOLERANCE) * unpruned
    phases = {name: sum(e["seconds"][name] for e in history) for name in history[0]["seconds"]}
    return {
        "schema": SCHEMA,
        "run": run.key,
        "command": list(command(run, places)),
        "suite": run.suite,
        "dataset": dataset_of(run) | {"gaps": gaps},
        "task": task_of(run),
        "protocol": run.protocol,
        "method": method_of(run),
        "network": run.network.model_dump(mode="json"),
        "teacher": run.teacher and run.teacher.model_dump(mode="json"),
        "data": run.data.model_dump(mode="json"),
        "training": run.training.model_dump(mode="json"),
        "seed": run.seed,
        "compression": {
            "asked": run.compression,
            "reached": 1 - costs["student"]["macs"] / unpruned,
            "left_whole": _left_whole(context) if run.compression else {},
            "layers": _layers(student, context.unpruned_network()),
        },
        "accuracy": select(history, budget, candidates(run.training.epochs)),
        "scores": dict(history[-1]["scores"]),
        "cost": costs,
        "history": _student_history(run, history, histories, unpruned),
        "effort": _effort(run, [history, *histories.values()], phases, len(history)),
        "environment": _environment(context),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def dataset_of(run: RunConfig) -> dict[str, Any]:
    """The data of a run, as records tell it."""
    return {
        "name": run.dataset,
        "digest": digest(run.digests),
        "digests": run.digests,
        "images": run.images,
        "classes": list(run.classes),
        "stored_size": run.stored_size,
    }


def task_of(run: RunConfig) -> dict[str, Any]:
    """The task of a run, as records tell it."""
    return {
        "source": run.source,
        "target": run.target,
        "name": run.task,
        "index": run.task_index,
    }


def method_of(run: RunConfig) -> dict[str, Any]:
    """The method of a run, as records tell it: ``results`` knows no method by itself."""
    chosen = method(run.method)
    return {
        "name": chosen.name,
        "group": chosen.group,
        "label": chosen.label,
        "citation": chosen.citation,
        "knobs": run.knobs,
        "unpruned": _unpruned(run),
    }


def _unpruned(run: RunConfig) -> str | None:
    """The reference that adapts the whole network as this run adapts its student.

    None where there is none: for references themselves, and for methods that adapt by something
    of their own.
    """
    chosen = method(run.method)
    if not chosen.compressed:
        return None
    name = chosen.adapted_by(knobs_of(run.method, run.knobs))
    return name if name in methods() else None


def _layers(student: Network, unpruned: Network) -> dict[str, list[int]]:
    """Outputs of each convolution and linear layer: how many are kept, and of how many."""
    before = _widths(unpruned)
    return {name: [kept, before[name]] for name, kept in _widths(student).items() if name in before}


def _widths(network: Network) -> dict[str, int]:
    return {
        name: module.out_features if isinstance(module, nn.Linear) else module.out_channels
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }


def _student_history(
    run: RunConfig,
    history: Sequence[dict[str, Any]],
    histories: Mapping[str, Sequence[dict[str, Any]]],
    unpruned: int,
) -> dict[str, list[Any]]:
    """What each epoch left the student at, those of the stages before it first.

    By column: the kind of stage, overall and mean-class target accuracy in percent (None without
    target labels), the share of MACs removed, and with ``--judge-teacher`` what
    ``validators.guidance`` says. The common pretraining is not the student's own.
    """
    epochs = list(history)
    for node in _own_stages_before(run.recipe()):
        epochs[:0] = histories[run.stage_key(node)]
    accuracies = [epoch["accuracy"] or {} for epoch in epochs]
    guidance = [epoch.get("guidance") or {} for epoch in epochs]
    judged = [name for name in _GUIDANCE if any(name in of for of in guidance)]
    return {
        "stage": [epoch["stage"] for epoch in epochs],
        **{name: [_rounded(a.get(name)) for a in accuracies] for name in ("overall", "mean_class")},
        "removed": [round(1 - epoch["macs"] / unpruned, 5) for epoch in epochs],
        **{name: [_rounded(of.get(name)) for of in guidance] for name in judged},
    }


def _own_stages_before(node: Node) -> Iterator[Node]:
    """The stages before ``node`` whose network it goes on with, the latest first."""
    before = node.inputs.get("student") or node.inputs.get("network")
    if before is not None and not getattr(before.knobs, "pretraining", False):
        yield before
        yield from _own_stages_before(before)


def _rounded(accuracy: float | None) -> float | None:
    return None if accuracy is None else round(accuracy, 3)


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
    ``images_per_second``, where no second was counted. Of several processes images and MACs are
    those of all together, seconds and memory those of the first.
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


def _environment(context: Context) -> dict[str, Any]:
    device, compute = context.device, context.compute
    on_gpu = device.type == "cuda"
    return {
        "git_commit": _git_commit(),
        "versions": {"python": platform.python_version()}
        | {name: metadata.version(name) for name in _VERSIONS},
        "device": torch.cuda.get_device_name(device) if on_gpu else device.type,
        "machine": _machine(),
        "precision": compute.precision,
        "channels_last": compute.channels_last,
        "compile": compute.compile,
        "kernels": compute.kernels,
        "core_version": CORE_VERSION,
        "threads": torch.get_num_threads(),
        "processes": world().size,
    }


def _machine() -> str:
    """Model and architecture of the processor, without brackets: latencies of two differ."""
    model = re.sub(r"\([^()]*\)", " ", processor())  # as in Intel(R)
    return ", ".join(part for part in (" ".join(model.split()), platform.machine()) if part)


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
