"""From jobs to job arrays: one, or several where the cluster bounds them, for each level."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from suites.plan import Job

T = TypeVar("T")


@dataclass(frozen=True)
class ArrayPlan:
    """A job array to submit; each element is one job of the cluster, with its runs or stages."""

    name: str
    level: int
    elements: tuple[tuple[Job, ...], ...]
    after: tuple[str, ...]
    """Names of the arrays that must be over before it starts, however they end."""


def levels(jobs: Sequence[Job]) -> list[list[Job]]:
    """``jobs`` by level: each needs only what lies in levels before its own, or is not in ``jobs``.

    The order within a level is that of the plan, in which stages come before what needs them.
    """
    level_of: dict[str, int] = {}
    for job in jobs:
        level_of[job.key] = 1 + max((level_of.get(key, -1) for key in job.needs), default=-1)
    found: list[list[Job]] = [[] for _ in range(max(level_of.values(), default=-1) + 1)]
    for job in jobs:
        found[level_of[job.key]].append(job)
    return found


def arrays(
    jobs: Sequence[Job],
    queued: Mapping[str, str],
    name: str,
    runs_per_job: int,
    largest: int,
    one_by_one: bool,
) -> list[ArrayPlan]:
    """The arrays that compute ``jobs``, in the order in which they are submitted.

    Args:
        jobs: what is to be done, stages before what needs them.
        queued: by key of a stage that the cluster has already, the array that it is in.
        name: how the names of the arrays begin.
        runs_per_job: jobs in an element.
        largest: elements that the cluster takes in an array.
        one_by_one: whether each array waits for the one before, so that a limit on what an array
            runs at once is one on all of them.
    """
    made: list[ArrayPlan] = []
    holder = dict(queued)
    for level, members in enumerate(levels(jobs)):
        # Apart, for what comes next waits for the stages alone.
        for kind in ([j for j in members if not j.is_run], [j for j in members if j.is_run]):
            for elements in parts(list(parts(kind, runs_per_job)), largest):
                needs = {key for element in elements for job in element for key in job.needs}
                after = {holder[key]: None for key in sorted(needs) if key in holder}
                if one_by_one and made:
                    after[made[-1].name] = None
                made.append(ArrayPlan(f"{name}-{len(made)}", level, elements, tuple(after)))
        for array in made:
            holder |= {job.key: array.name for element in array.elements for job in element}
    return made


def parts(values: Sequence[T], size: int) -> Iterator[tuple[T, ...]]:
    """``values`` in tuples of ``size``, the last of which may be shorter."""
    for start in range(0, len(values), size):
        yield tuple(values[start : start + size])
