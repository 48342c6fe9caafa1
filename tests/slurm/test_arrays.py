"""From jobs to arrays: nothing twice, nothing before what it needs, nothing too large."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, strategies as st

from slurm.arrays import arrays, levels, parts
from suites.plan import Job
from tests.slurm.factory import job


@st.composite
def grids(draw: st.DrawFn) -> tuple[list[Job], dict[str, str]]:
    """Jobs, each of which needs some before it, and in which array others are queued already."""
    queued = {f"q{number}": f"old-{number % 2}" for number in range(draw(st.integers(0, 4)))}
    jobs: list[Job] = []
    for number in range(draw(st.integers(0, 15))):
        known = [*queued, "finished", *(one.key for one in jobs)]
        jobs.append(job(f"j{number}", draw(st.lists(st.sampled_from(known), unique=True))))
    return jobs, queued


def depths(jobs: list[Job]) -> dict[str, int]:
    """By key, jobs on the longest way to each; what a job needs comes before it."""
    found: dict[str, int] = {}
    for one in jobs:
        found[one.key] = max((1 + found[key] for key in one.needs if key in found), default=0)
    return found


@given(grids(), st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_arrays_hold_each_job_once_after_what_it_needs(
    grid: tuple[list[Job], dict[str, str]], runs_per_job: int, largest: int, one_by_one: bool
) -> None:
    jobs, queued = grid
    made = arrays(jobs, queued, "name", runs_per_job, largest, one_by_one)
    held = [one.key for plan in made for element in plan.elements for one in element]
    assert Counter(held) == Counter(one.key for one in jobs)
    assert len({plan.name for plan in made}) == len(made)
    depth = depths(jobs)
    array_of = queued | {
        one.key: plan.name for plan in made for element in plan.elements for one in element
    }
    submitted = set(queued.values())
    for plan in made:
        members = [one for element in plan.elements for one in element]
        needed = {array_of[key] for one in members for key in one.needs if key in array_of}
        assert needed <= set(plan.after) <= submitted  # sbatch knows them by then
        assert one_by_one or set(plan.after) == needed
        assert len(plan.after) == len(set(plan.after))
        assert {depth[one.key] for one in members} == {plan.level}  # no later than it must be
        assert len(plan.elements) <= largest
        assert all(1 <= len(element) <= runs_per_job for element in plan.elements)
        submitted.add(plan.name)


@given(grids())
def test_levels_are_as_few_as_can_be(grid: tuple[list[Job], dict[str, str]]) -> None:
    jobs, _ = grid
    depth = depths(jobs)
    assert [{one.key for one in level} for level in levels(jobs)] == [
        {key for key, found in depth.items() if found == number}
        for number in range(1 + max(depth.values(), default=-1))
    ]


def test_elements_are_filled_before_another_is_begun() -> None:
    jobs = [job(f"j{number}") for number in range(10)]
    made = arrays(jobs, {}, "name", runs_per_job=3, largest=2, one_by_one=False)
    assert [[len(element) for element in plan.elements] for plan in made] == [[3, 3], [3, 1]]
    assert [plan.after for plan in made] == [(), ()]


def test_arrays_of_a_level_form_a_chain_where_they_must_not_run_at_once() -> None:
    jobs = [job("stage"), *(job(f"j{number}", ["stage"]) for number in range(5))]
    made = arrays(jobs, {}, "name", runs_per_job=1, largest=2, one_by_one=True)
    assert [plan.after for plan in made] == [
        (), ("name-0",), ("name-0", "name-1"), ("name-0", "name-2"),
    ]  # fmt: skip


def test_parts_of_nothing() -> None:
    assert list(parts([], 3)) == []


def test_runs_wait_for_stages_alone() -> None:
    """Not for other runs of the level before, which are in an array of their own."""
    pretrain, adapt = job("p", is_run=False), job("a", ["p"], is_run=False)
    short, long = job("s", ["p"]), job("l", ["a"])
    made = arrays([pretrain, adapt, short, long], {}, "n", 1, 10, one_by_one=False)
    content = [(array.level, [j.key for e in array.elements for j in e]) for array in made]
    assert content == [(0, ["p"]), (1, ["a"]), (1, ["s"]), (2, ["l"])]
    assert [array.after for array in made] == [(), ("n-0",), ("n-0",), ("n-1",)]
