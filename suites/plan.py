"""The plan of a grid: its runs, and the stages that they share, each computed once."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from itmc.config import Frozen
from itmc.cost import count_macs
from itmc.domains.batches import trained_rows
from itmc.domains.prepare import prepare
from itmc.domains.progress import Progress
from itmc.domains.store import Domain
from itmc.errors import UsageError
from itmc.networks.backbones import check_tag
from itmc.networks.build import NetworkConfig, build, example
from itmc.networks.compute import Compute
from itmc.training.method import (
    Method,
    Node,
    knobs_of,
    method,
    settings_of,
)
from itmc.training.precision import AskedKernels, resolved, settled
from suites.config import Places, RunConfig, SuiteConfig, SuiteNetwork, SuiteTeacher

# A training pass costs about three forward passes (one forward, two backward).
PASSES_PER_STEP = 3
FLOPS_PER_MAC = 2


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to execute: a shared stage, or a run (its last stage and its record)."""

    key: str
    run: RunConfig
    is_run: bool
    needs: tuple[str, ...]
    """Keys of the shared stages that must be finished before."""
    flops: float
    """Estimated floating-point operations of training; 2 a MAC."""
    epochs: int
    """How many the job trains itself: none, where a run is but the record of a shared stage."""
    what: str
    """The stage in a few words."""

    @property
    def title(self) -> str:
        """The job in one line."""
        if self.is_run:
            return self.run.title
        return f"{self.what}, {self.run.task} seed {self.run.seed}"


@dataclass(frozen=True)
class Plan:
    """All jobs of a grid, stages before the runs that need them."""

    jobs: tuple[Job, ...]

    @property
    def runs(self) -> tuple[Job, ...]:
        """The runs."""
        return tuple(job for job in self.jobs if job.is_run)

    @property
    def stages(self) -> tuple[Job, ...]:
        """The shared stages."""
        return tuple(job for job in self.jobs if not job.is_run)

    def users(self, stage: Job) -> int:
        """How many runs need ``stage``, directly or not."""
        return self._users[stage.key]

    @cached_property
    def _users(self) -> Counter[str]:
        """By key of a stage, how many runs need it."""
        counts: Counter[str] = Counter()
        before: dict[str, set[str]] = {}  # by key of a stage, all that it needs, and itself
        for job in self.jobs:  # stages come before what needs them
            needed = set().union(*(before[key] for key in job.needs))
            if job.is_run:
                counts.update(needed)
            else:
                before[job.key] = needed | {job.key}
        return counts


def with_kernels(
    asked: AskedKernels, places: Places, runs: Sequence[RunConfig], progress: Progress
) -> Places:
    """``places`` with the kernels that ``asked`` comes to for ``runs``, of one precision all."""
    precision = resolved(runs[0].training.precision, places.device)
    compute = Compute(precision, places.channels_last, places.compile)
    kernels = settled(asked, compute, places.device, progress.say)
    return places.model_copy(update={"kernels": kernels})


def grid(
    suite: SuiteConfig,
    methods: Sequence[type[Method]],
    places: Places,
    progress: Progress,
) -> tuple[RunConfig, ...]:
    """All runs of ``suite`` with ``methods``; prepares the data that they need.

    Uncompressed references run once a task and seed. Runs come compression by compression, so
    that what is finished first is comparable.
    """
    spec = suite.spec
    tasks = suite.asked_tasks()
    order = spec.tasks()
    given = suite.network.bottleneck, len(spec.classes), suite.data.image_size
    network = _network(suite.network, *given, places.weights_file)
    teacher: NetworkConfig | None = None
    if suite.teacher is not None:
        teacher = _network(suite.teacher, *given, places.teacher_weights_file)
    asked = {name for task in tasks for name in task}
    names = [name for name in spec.domains if name in asked]
    domains = prepare(spec, names, places.data, progress, places.origin, places.kind)
    _check_labels(suite, tasks, domains)
    for config, file in ((network, places.weights_file), (teacher, places.teacher_weights_file)):
        if config is not None and config.pretrained and file is None:
            build(config)  # fetches the weights, last: whatever else is wrong is told sooner
    # What papers did not hold out of the source they trained on.
    paper = suite.protocol == "paper"
    data = suite.data.model_copy(update={"source_holdout": 0.0}) if paper else suite.data
    precision = resolved(suite.training.precision, places.device)
    training = suite.training.model_copy(update={"precision": precision})
    knobs = {
        chosen.name: knobs_of(chosen.name, settings_of(chosen.name, suite.methods))
        for chosen in methods
    }
    methods = _distinct(methods, knobs, progress)
    compressions = list(dict.fromkeys([0.0, *suite.compression]))
    trained = {name: len(trained_rows(domain)) for name, domain in domains.items()}
    first = [
        RunConfig(
            suite=suite.name,
            protocol=suite.protocol,
            dataset=spec.name,
            digests={name: domains[name].digest for name in (source, target)},
            images={name: trained[name] for name in (source, target)},
            classes=spec.classes,
            stored_size=spec.stored_size,
            source=source,
            target=target,
            task_index=order.index((source, target)),
            method=chosen.name,
            knobs=knobs[chosen.name].model_dump(mode="json"),
            compression=compression,
            seed=suite.seeds[0],
            network=network,
            teacher=teacher if chosen.guided else None,
            data=data,
            training=training,
            alone=not suite.share,
        )
        for compression in compressions
        for source, target in tasks
        for chosen in methods
        if (compression in suite.compression if chosen.compressed else compression == 0.0)
    ]
    return tuple(run.with_seed(seed) for seed in suite.seeds for run in first)


def _distinct(
    methods: Sequence[type[Method]], knobs: Mapping[str, Frozen], progress: Progress
) -> list[type[Method]]:
    """``methods`` without ablations that change nothing: the suite has set that for all alike."""
    same = {
        chosen.name: chosen.base
        for chosen in methods
        if chosen.changes
        and chosen.base in knobs
        and knobs[chosen.name].model_dump() == knobs[chosen.base].model_dump()
    }
    for name, base in same.items():
        progress.say(f"{name}: left out, as with the settings of this suite it is {base} itself")
    return [chosen for chosen in methods if chosen.name not in same]


def _check_labels(
    suite: SuiteConfig, tasks: Sequence[tuple[str, str]], domains: Mapping[str, Domain]
) -> None:
    """Raise UsageError where labels are needed that a domain does not have."""
    for source, target in tasks:
        if not domains[source].labelled:
            raise UsageError(
                f"task {source}->{target}: {source} has no labels, so it can be a target only; "
                "sort its images into folders, one for each class, or choose other --tasks"
            )
        if suite.protocol == "paper" and not domains[target].labelled:
            raise UsageError(
                f"task {source}->{target}: {target} has no labels, by which the protocol paper "
                "chooses the epoch; leave out --protocol"
            )


def plan(runs: Sequence[RunConfig]) -> Plan:
    """Unfold the recipes of ``runs`` into jobs; equal stages become one."""
    unpruned: dict[NetworkConfig, int] = {}
    jobs: dict[str, Job] = {}
    for run in runs:
        for config in {run.network, run.guide} - unpruned.keys():
            blank = build(config.unpretrained())
            unpruned[config] = count_macs(blank, example(config))
        last = run.recipe()
        trains = method(run.method).compressed
        for node in last.walk():
            key = run.stage_key(node)
            if key not in jobs and not (trains and node is last):
                jobs[key] = _job(run, node, key, unpruned)
        if trains:
            job = _job(run, last, run.key, unpruned)
        else:  # a reference is its last shared stage
            needs = (run.stage_key(last),)
            job = Job(run.key, run, True, needs, 0.0, 0, last.stage.title(last.knobs))
        jobs[run.key] = job
    return Plan(tuple(jobs.values()))


def _job(run: RunConfig, node: Node, key: str, unpruned: Mapping[NetworkConfig, int]) -> Job:
    """That which trains ``node``, after the stages that it starts from, each once."""
    needs = tuple(dict.fromkeys(run.stage_key(before) for before in node.inputs.values()))
    flops, epochs = _flops(run, node, unpruned), node.stage.length(node.knobs, run.training)
    return Job(key, run, key == run.key, needs, flops, epochs, node.stage.title(node.knobs))


def keys_of(run: RunConfig) -> set[str]:
    """The names of ``run`` and of all stages that it needs."""
    return {run.key, *(run.stage_key(node) for node in run.recipe().walk())}


def _flops(run: RunConfig, node: Node, unpruned: Mapping[NetworkConfig, int]) -> float:
    """Estimated floating-point operations of one stage."""
    passes = node.passes(run.training)
    macs = passes.student * unpruned[run.network_of(node)] + passes.teacher * unpruned[run.guide]
    return FLOPS_PER_MAC * PASSES_PER_STEP * images_per_epoch(run) * macs


def images_per_epoch(run: RunConfig) -> int:
    """Images of both domains together that one epoch trains on."""
    source = run.images[run.source] * (1 - run.data.source_holdout)
    longest = max(round(source), run.images[run.target])
    steps = run.training.steps_per_epoch or math.ceil(longest / run.training.batch_size)
    return 2 * run.training.batch_size * steps


def file_digest(path: Path) -> str:
    """Sha256 of a file's content."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"weights file {str(path)!r} cannot be read: {error.strerror}") from error


@cache
def _network(
    asked: SuiteNetwork | SuiteTeacher,
    bottleneck: int,
    classes: int,
    image_size: int,
    file: Path | None,
) -> NetworkConfig:
    """A network of all runs, built once: what does not fit is refused before anything runs."""
    network = NetworkConfig(
        backbone=asked.backbone,
        weights=asked.weights if file is None else file.name,
        weights_sha256=None if file is None else file_digest(file),
        bottleneck=bottleneck,
        classes=classes,
        image_size=image_size,
    )
    if file is not None:
        build(network, weights_file=str(file))
    else:
        build(network.unpretrained())
        if network.pretrained:
            check_tag(network.backbone, network.weights)
    return network
