"""Published values beside a table of ours: blocks of their own, never ranked with our figures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from results.aggregate import Table
from results.literature import Published, architecture, claims, protocols, published
from results.schema import AVERAGE
from results.sheet import MISSING, Line, Section, Text


@dataclass(frozen=True)
class Beside:
    """A block for each protocol of published values, and what must be said of them."""

    sections: tuple[Section, ...] = ()
    notes: tuple[str, ...] = ()


def published_beside(table: Table, costs: int) -> Beside:
    """What others published of the table's dataset, with the same architecture.

    Args:
        table: of tasks; one of other columns has nothing published beside it.
        costs: how many columns of costs follow the accuracies, for which nothing is published.
    """
    tasks = [column.task for column in table.columns if column.task != AVERAGE]
    known = published(table.setting.dataset)
    rows = [row for row in known if set(tasks) & row.accuracies.keys()]
    if not rows:
        return Beside()
    path = f"results/published/{table.setting.dataset}.csv"
    own = architecture(table.setting.backbone)
    same = [row for row in rows if architecture(row.backbone) == own]
    if not same:
        others = ", ".join(sorted({row.backbone for row in rows}))
        return Beside(notes=(f"Published values of this dataset are of {others}: see {path}.",))
    sections = tuple(
        Section(_title(protocol, own), tuple(_lines(same, protocol, tasks, costs)))
        for protocol in dict.fromkeys(row.protocol for row in same)
    )
    return Beside(sections, (_SAYING.format(path), *_claims(table)))


_SAYING = (
    "Published values are of unpruned networks and of other protocols than ours; their averages "
    "stand where all tasks do; the source of each is in {}."
)


def _title(protocol: str, backbone: str) -> str:
    return f"Published, {backbone}, protocol {protocol}: {protocols()[protocol]}"


def _lines(
    rows: Iterable[Published], protocol: str, tasks: list[str], costs: int
) -> Iterable[Line]:
    for row in rows:
        if row.protocol != protocol:
            continue
        # An average is of all the tasks of its source, and of no others.
        complete = set(tasks) == row.accuracies.keys() - {AVERAGE}
        shown = [*tasks, *([AVERAGE] if complete else [])]
        texts = [row.accuracies.get(task, MISSING) for task in shown]
        texts += [MISSING] * (not complete) + [""] * costs
        yield Line(row.label, tuple(map(Text, texts)))


def _claims(table: Table) -> list[str]:
    labels = {row.method: row.label for row in table.rows()}
    return [
        f"Claimed for {labels[claim.method]} (backbone {claim.backbone}): {claim.claim} "
        f"[{claim.source}]."
        for claim in claims(table.setting.dataset, labels)
    ]
