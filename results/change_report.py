"""Changes between two standings as text: a sentence, tables, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from results.changes import BETTER, COSTS, GONE, NEW, SAME, VERDICTS, WORSE, Change, Changes
from results.comparison import Setting
from results.entry import Entry
from results.leaderboard_file import ADDED, COLUMNS
from results.records import plural
from results.render import begins_group, block_title, figure
from results.schema import AVERAGE, METRICS, SELECTIONS
from results.sheet import MISSING, NO_SD, Document, Line, Section, Sheet, Text

_HEADS = ("task", "old", "new", "difference", "interval", "seeds", "verdict")
# Columns of the leaderboard that identify a row; the others are what it says.
_IDENTITY = [column.name for column in COLUMNS[: [c.name for c in COLUMNS].index("mean")]]
_SAID = [column.name for column in COLUMNS[len(_IDENTITY) :] if column not in ADDED]


def headline(changes: Changes) -> str:
    """The verdict on all rows, in a sentence."""
    worse = changes.count(WORSE)
    others = ", ".join(
        f"{count} {'the same' if verdict == SAME else verdict}"
        for verdict in VERDICTS
        if verdict != WORSE and (count := changes.count(verdict))
    )
    unsure = sum(_is_unsure(row) for row in changes.rows if row.verdict == WORSE)
    verb = "is" if worse == 1 else "are"
    lost = sum(bool(row.lost_seeds()) for row in changes.rows)
    return "".join(
        (
            f"{plural(worse, 'row')} {verb}" if worse else "No row is",
            f" worse by more than {changes.tolerance:g} points",
            f" ({unsure} within noise)" if unsure else "",
            f"; {others}" if others else "",
            f"; {plural(lost, 'row')} lost seeds." if lost else ".",
        )
    )


def document(changes: Changes, everything: bool = False) -> Document | None:
    """A table a setting; None where no row is to be shown.

    `everything`: whether rows of which there is nothing to tell are shown, too.
    """
    shown = [row for row in changes.rows if everything or row.is_notable()]
    if not shown:
        return None
    with_costs = any(True for row in shown for _ in row.costs())
    heads = (*_HEADS, "cost") if with_costs else _HEADS
    sheets = []
    for _, of_setting in groupby(shown, key=lambda row: row.entry.where()):
        rows = list(of_setting)
        sheets.append(Sheet(_caption(rows[0].entry), heads, _sections(rows, with_costs), ()))
    last = sheets.pop()
    notes = _notes(changes, len(changes.rows) - len(shown), with_costs)
    return Document((*sheets, Sheet(last.caption, heads, last.sections, notes)), csv="")


def as_json(changes: Changes) -> str:
    """The counts and all rows, also those that are the same; null where there is no figure."""
    content = {
        "summary": headline(changes),
        "tolerance": changes.tolerance,
        "confidence": changes.confidence,
        "counts": {verdict: changes.count(verdict) for verdict in VERDICTS},
        "rows": [_json_row(row) for row in changes.rows],
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _caption(entry: Entry) -> str:
    """The setting of an entry, as the captions of tables have it."""
    setting = Setting(
        suite=entry.suite,
        dataset=entry.dataset,
        protocol=entry.protocol,
        backbone=entry.backbone,
        weights=entry.weights,
        bottleneck=entry.bottleneck,
        image_size=entry.image_size,
        epochs=entry.epochs,
        conditions="",
        key=entry.setting,
        edition=0,
        digest="",
    )
    return (
        f"{entry.suite}: {METRICS[entry.metric]} (%), {setting.describe()}, setting "
        f"{entry.setting}, selection: {SELECTIONS[entry.selection]}"
    )


def _sections(rows: Sequence[Change], with_costs: bool) -> tuple[Section, ...]:
    """A section a compression."""
    made = []
    for compression, of_block in groupby(rows, key=lambda row: row.entry.compression):
        block = list(of_block)
        begins = begins_group([row.entry.group for row in block])
        lines = (
            Line(row.entry.label, tuple(map(Text, _cells(row, with_costs))), begin)
            for row, begin in zip(block, begins, strict=True)
        )
        made.append(Section(block_title(compression), tuple(lines)))
    return tuple(made)


def _cells(row: Change, with_costs: bool) -> list[str]:
    """What stands under the heads."""
    found = row.difference
    verdict = f"{row.verdict}, within noise" if _is_unsure(row) else row.verdict
    costs = ", ".join(f"{cost.words} {figure(100 * by, '+.0f')} %" for cost, by in row.costs())
    interval = MISSING
    if found is not None and not math.isnan(found.low):
        interval = f"{figure(found.low, '+z.2f')} to {figure(found.high, '+z.2f')}"
    return [
        row.entry.task.replace("->", " → "),
        *map(_accuracy, (row.old, row.new)),
        MISSING if found is None else figure(found.mean, "+z.2f"),
        interval,
        _seeds(row),
        verdict,
        *([costs or MISSING] if with_costs else []),
    ]


def _accuracy(entry: Entry | None) -> str:
    return MISSING if entry is None else f"{entry.mean:.2f} ± {figure(entry.sd, '.2f', NO_SD)}"


def _seeds(row: Change) -> str:
    """How many there are: in common, or on each side."""
    if row.old is None or row.new is None:
        return str(row.entry.n)
    if row.difference is None or row.difference.pairs == 0:
        return f"{row.old.n} and {row.new.n}, unpaired"
    pairs, most = row.difference.pairs, max(row.old.n, row.new.n)
    return f"{pairs} paired" if pairs == most else f"{pairs} paired, of {row.old.n} and {row.new.n}"


def _is_unsure(row: Change) -> bool:
    """Whether noise could explain a verdict of better or worse."""
    return (
        row.verdict in (BETTER, WORSE)
        and row.difference is not None
        and row.difference.is_within_noise()
    )


def _notes(changes: Changes, hidden: int, with_costs: bool) -> tuple[str, ...]:
    """How to read the table, and what is not in it."""
    notes = [
        "Difference: new minus old in points, paired over the seeds that both have; of the means "
        f"where they share none. Interval: {100 * changes.confidence:g} % (t distribution); "
        "none for one seed, or where all differences are alike. Within noise: it includes 0."
    ]
    if with_costs:
        least = ", ".join(f"{cost.words} from {100 * cost.least:g} %" for cost in COSTS)
        notes.append(f"Cost: changes of {least}; latency of the same device and threads only.")
    if {NEW, GONE} <= {row.verdict for row in changes.rows if row.entry.task == AVERAGE}:
        notes.append("An average over other tasks, or other data, is another row.")
    if hidden:
        notes.append(f"{plural(hidden, 'row')} the same, not shown.")
    return tuple(notes)


def _json_row(row: Change) -> dict[str, Any]:
    found = row.difference
    figures = ("mean", "low", "high", "pairs")
    difference = (
        None if found is None else {name: _json_value(getattr(found, name)) for name in figures}
    )
    return {
        **_json_part(row.entry, _IDENTITY),
        "verdict": row.verdict,
        "within_noise": _is_unsure(row),
        "difference": difference,
        "old": None if row.old is None else _json_part(row.old, _SAID),
        "new": None if row.new is None else _json_part(row.new, _SAID),
    }


def _json_part(entry: Entry, names: Sequence[str]) -> dict[str, Any]:
    return {name: _json_value(getattr(entry, name)) for name in names}


def _json_value(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
