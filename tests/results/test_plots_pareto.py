"""Accuracy against cost: the front, what is a point, latencies that may stand together."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation, Text

from results.plots.pareto import accuracy_vs_latency, accuracy_vs_macs, front, macs_in_words
from results.plots.points import t_interval
from results.plots.subject import NoDataError
from tests.results.drawing import axes_of, grid, load, title, xs, ys
from tests.results.factory import TASKS, TEACHER_MACS, record

# Few values, so that many points share a cost, an accuracy or both.
points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=25)


def dominated(point: tuple[int, int], others: list[tuple[int, int]]) -> bool:
    """Whether another point costs at most as much, is at least as accurate, and is not alike."""
    return any(o[0] <= point[0] and o[1] >= point[1] and o != point for o in others)


@given(points)
def test_on_the_front_is_what_no_other_dominates(several: list[tuple[int, int]]) -> None:
    found = front([cost for cost, _ in several], [accuracy for _, accuracy in several])
    want = {place for place, point in enumerate(several) if not dominated(point, several)}
    assert set(found) == want and len(found) == len(want)
    for left, right in pairwise(several[place] for place in found):
        assert left == right or (left[0] < right[0] and left[1] < right[1])


def test_the_t_interval_of_three_values_is_that_of_the_tables() -> None:
    # t of two degrees of freedom at 0.975 is 4.303; the standard deviation is 1.
    low, high = t_interval([79.0, 80.0, 81.0])
    assert (low, high) == pytest.approx(
        (80 - 4.303 / math.sqrt(3), 80 + 4.303 / math.sqrt(3)), 1e-4
    )
    assert all(map(math.isnan, t_interval([80.0])))


def step_of(figure: Figure) -> Line2D:
    """The line of the front."""
    (line,) = (line for line in axes_of(figure).lines if line.get_drawstyle() == "steps-post")
    return line


def names(figure: Figure) -> list[str]:
    """The labels at points."""
    return [text.get_text() for text in axes_of(figure).texts]


def test_points_are_means_over_seeds_of_averages_over_tasks_at_the_macs(tmp_path: Path) -> None:
    figure = accuracy_vs_macs(load(tmp_path, *grid(("itmc",))))
    (own,) = (line for line in axes_of(figure).lines if line.get_marker() == "o")
    assert xs(own) == pytest.approx([0.5 * TEACHER_MACS, 0.25 * TEACHER_MACS])
    assert ys(own) == pytest.approx([70.5, 65.5])
    (whole,) = (line for line in axes_of(figure).lines if line.get_marker() == "x")
    assert sorted(ys(whole)) == pytest.approx([70.5, 70.6])
    assert axes_of(figure).get_xscale() == "log"


def test_the_front_goes_over_compressed_and_uncompressed_and_is_named(tmp_path: Path) -> None:
    figure = accuracy_vs_macs(load(tmp_path, *grid()))
    step = step_of(figure)
    assert xs(step)[:3] == pytest.approx([TEACHER_MACS / 4, TEACHER_MACS / 2, TEACHER_MACS])
    assert ys(step) == pytest.approx([65.5, 70.5, 70.6, 70.6])
    assert names(figure) == ["ITMC", "ITMC", "dan"]


def test_one_seed_has_points_without_bars(tmp_path: Path) -> None:
    figure = accuracy_vs_macs(load(tmp_path, *grid(seeds=1)))
    assert "n = 1, no interval" in title(figure)
    assert names(figure) == ["ITMC", "ITMC", "dan"]


def crowd() -> list[dict[str, Any]]:
    """Methods that all are on the front, so near that their names would cover one another."""
    made = []
    for place in range(8):
        run = record(f"a_name_that_is_long_{place}", TASKS[0], accuracy=60 + 0.05 * place)
        run["cost"]["student"]["macs"] = 1_000_000 + 500 * place
        made.append(run)
    return [*made, record("dan", TASKS[0], compression=0.0, accuracy=75.0)]


def test_names_of_points_cover_neither_one_another_nor_leave_the_axes(tmp_path: Path) -> None:
    figure = accuracy_vs_macs(load(tmp_path, *crowd()))
    figure.draw_without_rendering()
    axes = axes_of(figure)
    labels = [text for text in axes.texts if isinstance(text, Annotation)]
    assert len(labels) == 9
    boxes = [Text.get_window_extent(label) for label in labels]
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:place])
        assert box.x0 >= axes.get_window_extent().x0 and box.y1 <= figure.bbox.y1


def measured(latency: float, **changed: Any) -> dict[str, Any]:
    """A run with this latency, on another device or with other threads."""
    run = record(**changed.pop("run", {}))
    for network in ("student", "teacher"):
        run["cost"][network]["latency_ms"]["batch_1"] = {"p50": latency, "p95": latency}
        run["cost"][network]["latency_ms"]["threads"] = changed.get("threads", 1)
    run["environment"]["device"] = changed.get("device", "cpu")
    return run


def test_latency_is_the_median_over_runs_and_says_where_it_was_measured(tmp_path: Path) -> None:
    made = [measured(latency, run={"seed": seed}) for seed, latency in enumerate((2.0, 3.0, 50.0))]
    figure = accuracy_vs_latency(load(tmp_path, *made))
    (own,) = (line for line in axes_of(figure).lines if line.get_marker() == "o")
    assert xs(own) == [3.0]
    assert "measured on cpu (x86_64), 1 thread" in title(figure)
    assert "elsewhere" not in title(figure)


@pytest.mark.parametrize("other", [{"device": "cuda"}, {"threads": 4}])
def test_latencies_of_several_devices_or_threads_are_not_mixed(
    tmp_path: Path, other: dict[str, Any]
) -> None:
    made = [measured(2.0, run={"seed": seed}) for seed in range(3)]
    made += [
        measured(9.0, run={"method": "kd"}, **other),
        measured(9.0, run={"seed": 3}, **other),
    ]
    figure = accuracy_vs_latency(load(tmp_path, *made))
    assert "measured on cpu (x86_64), 1 thread, without 2 runs measured elsewhere" in title(figure)
    drawn = [x for line in axes_of(figure).lines for x in xs(line) if line.get_marker() != "None"]
    assert set(np.round(drawn, 6)) == {2.0}


def test_without_costs_there_is_nothing_to_draw(tmp_path: Path) -> None:
    run = record()
    run["cost"] = {}
    subject = load(tmp_path, run)
    with pytest.raises(NoDataError, match="no run says the MACs"):
        accuracy_vs_macs(subject)
    with pytest.raises(NoDataError, match="no run has a measured latency"):
        accuracy_vs_latency(subject)


@pytest.mark.parametrize(
    ("macs", "words"), [(640_000, "640 k"), (1_300_000, "1.3 M"), (4.1e9, "4.1 G"), (12, "12")]
)
def test_macs_are_short_on_an_axis(macs: float, words: str) -> None:
    assert macs_in_words(macs) == words


@pytest.mark.parametrize("factor", [1.0, 1.3, 3.0, 1e4])
def test_an_axis_of_macs_has_ticks_that_do_not_touch(tmp_path: Path, factor: float) -> None:
    few, many = record(), record("kd", accuracy=90.0)
    few["cost"]["student"]["macs"] = 410_000
    many["cost"]["student"]["macs"] = 410_000 * factor
    figure = accuracy_vs_macs(load(tmp_path, few, many))
    figure.draw_without_rendering()
    axes = axes_of(figure)
    low, high = axes.get_xlim()
    boxes = [
        label.get_window_extent()
        for label, at in zip(axes.get_xticklabels(), axes.get_xticks(), strict=True)
        if low <= at <= high
    ]
    assert boxes
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
