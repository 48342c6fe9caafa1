"""Critical-difference diagrams of average ranks, one a compression."""

from __future__ import annotations

from typing import TYPE_CHECKING

from results.plots.ranks import critical_difference
from results.plots.subject import NoDataError, Subject
from results.ranks import ranks

if TYPE_CHECKING:  # Drawing libraries are slow to import: they wait until something is drawn.
    from matplotlib.figure import Figure


def rank_diagrams(subject: Subject) -> dict[str, Figure]:
    """`ranks`; of several compressions one each, `ranks_c50` for that of 0.5.

    Raises:
        NoDataError: no two methods share two (task, seed) at any compression.
    """
    found = ranks(subject.own_records(), subject.selection, subject.metric, methods=subject.drawn())
    if not found:
        raise NoDataError("no two methods share two (task, seed)")
    if len(found) == 1:
        return {"ranks": critical_difference(found[0], subject)}
    return {f"ranks_c{100 * of.compression:g}": critical_difference(of, subject) for of in found}
