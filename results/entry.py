"""An entry of the standings: a row of a leaderboard."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from results.statistics import mean

# Decimals that an entry keeps, so that it is the same whether read from records or from a file.
REMOVED_DECIMALS = 2
LATENCY_DECIMALS = 4
# What an entry keeps of each seed, so that tables can be made of it: columns of the frame.
FIGURES = (
    "reached",
    *(f"student_{name}" for name in ("macs", "parameters", "activations", "bytes")),
    *(f"student_latency_{name}" for name in ("1", "32", "threads")),
    *("images", "forward_macs", "backward_macs", "code"),
)


@dataclass(frozen=True)
class Entry:
    """How one method stands on one task, or on the average over the tasks.

    Figures of cost are means over the runs behind the entry (latencies: medians), NaN where no
    record tells.

    Attributes:
        weights: a tag, `none`, or the name of a file, without its folder.
        setting: 8 hex digits over how images were prepared and networks trained.
        data: 12 hex digits over the images and labels of the task; for the average, over the
            tasks and theirs, so that averages over different tasks are never compared.
        task: as the suite names it, or `AVERAGE`, over the seeds that have all tasks.
        tasks: how many tasks it is of.
        compression: share of MACs to be removed, in [0, 1); 0 for references.
        method: name, with what tells it apart where it ran in several variants.
        selection: how the epoch was chosen, a key of `schema.SELECTIONS`.
        metric: a key of `schema.METRICS`.
        seeds: ascending.
        accuracies: in percent, by seed.
        removed: percent of the teacher's MACs that the student lacks.
        macs, parameters, activations, bytes: of the student.
        latency_1, latency_32: of a batch of 1 and of 32, in ms; NaN where the runs were timed on
            several devices or with several numbers of threads.
        device: where the runs were made and timed, as device and processor architecture; several
            are separated by commas.
        threads: of the timing; None where the records do not tell, or differ.
        records: hash of the record, by seed; for the average, over the hashes of its tasks.
        unpruned: the method that the student is compared with, as the record names it; may be
            empty.
        place: of the task in its suite; None for the average, and where no record tells.
        edition: of the data, counted backwards: 0 is the newest.
        figures: by seed, under the names of `FIGURES`, NaN where the record does not tell; for the
            average, means over its tasks. Empty where a leaderboard of an older version was read.
        devices: by seed, as device and processor architecture in brackets. May be empty, too.
        behind: hashes of all records behind the entry; none where it was read from a file.
    """

    suite: str
    dataset: str
    protocol: str
    backbone: str
    weights: str
    bottleneck: int | None
    image_size: int | None
    epochs: int | None
    setting: str
    data: str
    selection: str
    metric: str
    compression: float
    group: str
    method: str
    label: str
    task: str
    tasks: int
    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    removed: float
    macs: float
    parameters: float
    activations: float
    bytes: float
    latency_1: float
    latency_32: float
    device: str
    threads: int | None
    records: tuple[str, ...]
    unpruned: str = ""
    place: int | None = None
    edition: int = 0
    figures: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    devices: tuple[str, ...] = ()
    behind: tuple[str, ...] = field(default=(), compare=False)

    @property
    def n(self) -> int:
        """The number of seeds."""
        return len(self.seeds)

    @property
    def mean(self) -> float:
        """Over seeds, in percent."""
        return mean(self.accuracies)

    @property
    def sd(self) -> float:
        """Standard deviation over seeds (ddof 1), in points; NaN for one seed."""
        return statistics.stdev(self.accuracies) if self.n > 1 else math.nan

    def where(self) -> tuple[str | int | None, ...]:
        """The setting: what two entries must share for their accuracies to be compared."""
        network = (self.backbone, self.weights, self.bottleneck, self.image_size, self.epochs)
        return (self.suite, self.protocol, *network, self.setting, self.selection, self.metric)

    def key(self) -> tuple[str | int | float | None, ...]:
        """What the entry is of; entries with the same key tell of the same thing."""
        return (*self.where(), self.compression, self.method, self.task, self.data)
