"""Execute one job of a plan: train a shared stage, or finish a run and write its record."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from threadpoolctl import threadpool_limits

from itmc.domains.augment import DataConfig
from itmc.domains.batches import Batches, Unlabelled, split_source, trained_rows
from itmc.domains.store import open_domain
from itmc.errors import UsageError
from itmc.evaluation.evaluator import Evaluator
from itmc.files import remove_unfinished, write_atomic
from itmc.networks.build import Network, NetworkConfig
from itmc.networks.compute import Compute
from itmc.networks.native.build import library
from itmc.parallel import joined, of_first, world
from itmc.training import checkpoint
from itmc.training.control import Control, Stopped
from itmc.training.loop import Report, Say, train
from itmc.training.method import Node, method
from itmc.training.precision import resolved
from itmc.training.stage import Context, Handover
from suites.config import Places, RunConfig
from suites.folders import (
    CONFIG,
    FAILURE,
    LOG,
    RECORD,
    is_finished,
    job_folder,
    record_failure,
)
from suites.lease import LeaseLostError, leased
from suites.memory import keep_freed
from suites.plan import file_digest
from suites.record import make_record


def execute(
    run: RunConfig,
    key: str,
    places: Places,
    report: Report,
    say: Say,
    control: Control | None = None,
) -> None:
    """Compute the run whose key is ``key``, or the shared stage of it; nothing if it is finished.

    Processes that train together (``itmc.parallel.joined``) all call it; the first of them holds
    the folder and writes, and none returns before it has.

    Raises whatever made it fail; ``record_failure`` keeps that for the reader. No failures are
    Stopped, where ``control`` was asked to stop, and LeaseLostError, where another process goes on.
    """
    control = control or Control()
    is_run = key == run.key
    folder = job_folder(places.out, key, is_run)
    folder.mkdir(parents=True, exist_ok=True)
    with _held(folder, say, control):
        if of_first(lambda: is_finished(places.out, key, is_run)):
            of_first(lambda: _clean_up(folder, control))
            return
        of_first(lambda: _begin(run, folder, places))
        set_up_torch(places)
        if is_run:
            _finish_run(run, folder, places, report, say, control)
        else:
            node = next(n for n in run.recipe().walk() if run.stage_key(n) == key)
            _train_stage(run, node, _open(run, places), folder, places, report, say, control)
        of_first(lambda: _clean_up(folder, control))


@contextmanager
def _held(folder: Path, say: Say, control: Control) -> Iterator[None]:
    """Hold the folder inside; of several processes the first does, for all."""
    if not world().is_first:
        yield
        return
    with leased(folder, say, lambda: control.is_stopping) as lease:
        control.fence = lease.check
        yield


def _begin(run: RunConfig, folder: Path, places: Places) -> None:
    """Clear what an earlier attempt left, and write what is to be done."""
    remove_unfinished(folder)
    (folder / FAILURE).unlink(missing_ok=True)
    resolved = {"run": run.model_dump(mode="json"), "places": places.model_dump(mode="json")}
    write_atomic(folder / CONFIG, yaml.safe_dump(resolved, sort_keys=False).encode())


def _clean_up(folder: Path, control: Control) -> None:
    """Remove what only unfinished jobs need, the job in ``folder`` being finished."""
    control.fence()
    remove_unfinished(folder)
    checkpoint.remove_checkpoints(folder)


def _finish_run(
    run: RunConfig, folder: Path, places: Places, report: Report, say: Say, control: Control
) -> None:
    node = run.recipe()
    data = _open(run, places)
    if method(run.method).compressed:
        handover, history = _train_stage(run, node, data, folder, places, report, say, control)
    else:  # a reference is its last shared stage
        shared = job_folder(places.out, run.stage_key(node), is_run=False)
        handover = checkpoint.load_handover(shared, data.context.device)
        history = _history(run, node, places)
        control.fence()
        checkpoint.save_handover(folder, handover, run.network)
        checkpoint.write_progress(folder, history)
    before = {run.stage_key(n): n for n in node.walk()}
    del before[run.stage_key(node)]
    histories = {key: _history(run, n, places) for key, n in before.items()}
    if world().is_first:
        record = make_record(
            run, handover.network, history, histories, data.context, data.gaps, places
        )
        control.fence()
        write_atomic(folder / RECORD, json.dumps(record, indent=1).encode() + b"\n")


def _train_stage(
    run: RunConfig,
    node: Node,
    data: Opened,
    folder: Path,
    places: Places,
    report: Report,
    say: Say,
    control: Control,
) -> tuple[Handover, list[dict[str, Any]]]:
    """Train ``node`` in ``folder``, from the stages before it, which are finished; with its log."""
    # Each role gets a network of its own, also where two of them start from one stage.
    inputs = {
        role: checkpoint.load_handover(
            job_folder(places.out, run.stage_key(before), is_run=False), data.context.device
        )
        for role, before in node.inputs.items()
    }
    context = data.context.teacher if node.network == "teacher" else data.context
    stage = node.stage(node.knobs, context, inputs)
    judge = data.evaluator(node.paper_crops() if run.protocol == "paper" else 1)

    def evaluate(student: Network) -> dict[str, Any]:
        return judge(student, stage.teacher if places.judge_teacher else None)

    history = train(stage, folder, evaluate, report, control, say)
    handover = stage.handover()
    control.fence()
    checkpoint.save_handover(folder, handover, run.network_of(node))
    return handover, history


def _history(run: RunConfig, node: Node, places: Places) -> list[dict[str, Any]]:
    """The log of the finished stage ``node``. Raises UsageError where it is not whole."""
    folder = job_folder(places.out, run.stage_key(node), is_run=False)
    history = checkpoint.read_progress(folder)
    epochs = node.stage.length(node.knobs, run.training)
    if len(history) != epochs:
        raise UsageError(
            f"{checkpoint.PROGRESS} in {str(folder)!r} has {len(history)} of {epochs} epochs; "
            "delete the folder and run the suite again"
        )
    return history


@dataclass(frozen=True)
class Opened:
    """The data of a run: without target labels for training, with them for the evaluator."""

    context: Context
    evaluator: Callable[[int], Evaluator]
    """By the number of crops to test each image with."""
    gaps: dict[str, list[str]]
    """How each domain differs from the official one."""


def _open(run: RunConfig, places: Places) -> Opened:
    source, target = (open_domain(places.data / name) for name in (run.source, run.target))
    for domain in (source, target):
        if domain.digest != run.digests[domain.name]:
            raise UsageError(
                f"{run.dataset}/{domain.name} has changed since the run was planned; plan it anew"
            )
    for config, file in (
        (run.network, places.weights_file),
        (run.teacher, places.teacher_weights_file),
    ):
        if config is not None and file is not None and file_digest(file) != config.weights_sha256:
            raise UsageError(f"weights file {str(file)!r} has changed since the run was planned")
    data: DataConfig = run.data
    device = torch.device(places.device)
    training, validation = split_source(source, data.source_holdout, run.seed)
    unlabelled = Unlabelled(target.images, trained_rows(target))
    batches = Batches(training, unlabelled, data, run.training.batch_size, run.seed, device)

    precision = resolved(run.training.precision, places.device)
    # Statistics of several processes are not those kernels' to take.
    kernels = places.kernels if world().size == 1 else "torch"
    compute = Compute(precision, places.channels_last, places.compile, kernels)

    def context(network: NetworkConfig, file: Path | None, teacher: Context | None) -> Context:
        weights = None if file is None else str(file)
        return Context(
            network, run.training, batches, run.seed, device, weights, teacher, compute=compute
        )

    teacher: Context | None = None
    if run.teacher is not None:
        teacher = context(run.teacher, places.teacher_weights_file, None)
    return Opened(
        context(run.network, places.weights_file, teacher),
        lambda crops: Evaluator(training, validation, target, data, device, crops, compute),
        {domain.name: list(domain.gaps) for domain in (source, target)},
    )


def set_up_torch(places: Places) -> None:
    """Threads, memory and determinism of this process, as ``places`` has them."""
    keep_freed()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic on a GPU too
    torch.backends.cudnn.allow_tf32 = False  # fp32 means it
    torch.set_num_threads(places.threads)
    threadpool_limits(places.threads)  # NumPy's and scikit-learn's, which torch's does not cover
    torch.use_deterministic_algorithms(True, warn_only=True)
    # A debugging aid of that mode, which costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if places.kernels == "native":
        library()  # where it cannot be had that is said at once
    if places.compile and world().size > 1:
        raise UsageError("--compile: not with several processes for a run; leave one of them out")
    if places.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device 'cuda' was asked for, but torch sees no CUDA device")


def child(
    run_json: str,
    places_json: str,
    folder: Path,
    title: str,
    connection: Any,
    control: Control | None = None,
) -> None:
    """Entry of a job's own process: executes it and reports through ``connection``.

    Sends ``("progress", done, epochs)``, ``("say", text)`` and at the end ``("finished",)``,
    ``("failed", reason)``, ``("stopped",)`` where that was asked for, or ``("lost", reason)`` where
    another process has taken over. What libraries print goes to ``log.txt`` in ``folder``, which is
    the job's and called by its key.
    """
    control = control or Control()
    try:
        _redirect_output(folder)
        run = RunConfig.model_validate_json(run_json)
        places = Places.model_validate_json(places_json)
        with joined(places.device):
            execute(
                run,
                folder.name,
                places,
                report=lambda done, epochs: connection.send(("progress", done, epochs)),
                say=lambda text: connection.send(("say", text)),
                control=control,
            )
    except Stopped:
        connection.send(("stopped",))
    except LeaseLostError as error:
        # One of several processes cannot wait for the folder by itself: all of them end.
        connection.send(("stopped",) if world().size > 1 else ("lost", str(error)))
    except Exception as error:  # whatever it is, it is this job's failure and no other's
        together = world().size > 1
        if together and control.is_stopping:  # the others have stopped, and left this one alone
            connection.send(("stopped",))
            return
        # Of several processes the first to fail says why: the others miss it, and fail of that.
        reason = record_failure(folder, title, error, keep_first=together)
        connection.send(("failed", reason))
    else:
        connection.send(("finished",))


def _redirect_output(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, sys.stdout.fileno())
    os.dup2(handle, sys.stderr.fileno())
