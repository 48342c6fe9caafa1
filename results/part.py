"""Of two standings, what the newer has run again of the older."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from results.changes import apart
from results.entry import Entry
from results.leaderboard_records import choice, records_of
from results.records import Records, ResultsError, plural
from results.standings import entries

# What two runs must share for the one to be the other run again; editions are counted anew in each.
_SAME = (
    *("suite", "protocol", "backbone", "weights", "bottleneck", "image_size", "epochs", "setting"),
    *("digest", "method", "compression", "task", "seed"),
)


def part(old: Sequence[Entry], new: Sequence[Entry]) -> tuple[tuple[Entry, ...], tuple[Entry, ...]]:
    """Both sides of the runs of `new` alone: its methods, compressions, tasks and seeds.

    So averages are over the same tasks, and differences over the same runs.

    Raises:
        ResultsError: a run of `new` is not in `old`, or their accuracies are by other selections.
    """
    chosen = choice([*old, *new], None, "overall")
    before, after = records_of(old).frame, records_of(new).frame
    known, asked = (_identities(frame) for frame in (before, after))
    if len(unknown := after[~asked.isin(known)]):
        first, more = unknown.iloc[0], len(unknown) - 1
        others = f" and {plural(more, 'other run')} of NEW" if more else ""
        reason = apart(old, new)
        raise ResultsError(
            f"OLD has no run of {first['method']} on {first['task']}, compression "
            f"{first['compression']:g}, seed {first['seed']}{others}{reason and f': {reason}'}"
        )
    sides = before[known.isin(asked)], after
    old_part, new_part = (
        entries(Records(frame.reset_index(drop=True), frame.iloc[:0]), *chosen) for frame in sides
    )
    return old_part, new_part


def _identities(runs: pd.DataFrame) -> pd.Series[Any]:
    # What no record tells is alike on both sides.
    return runs[list(_SAME)].fillna(-1).apply(tuple, axis="columns")
