"""Accuracy against compression: what is drawn, bands and n, the same look, nothing hidden."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from results.looks import look
from results.plots.compression import accuracy_vs_compression, per_task
from results.plots.subject import NoDataError
from tests.results.drawing import axes_of, grid, load, title, xs, ys
from tests.results.factory import TASKS, record


def colours(axes: Axes) -> list[str]:
    """Colours of the lines with points, in the order of drawing; the ends of bars do not count."""
    markers = {look(method).marker for method in ("dan_student", "itmc", "new_one")}
    return [to_hex(line.get_color()) for line in axes.lines if line.get_marker() in markers]


def test_a_method_has_the_same_colour_in_every_plot(tmp_path: Path) -> None:
    first = load(tmp_path / "a", *grid(("dan_student", "itmc", "new_one")))
    second = load(tmp_path / "b", *grid(("itmc", "new_one"), compressions=(0.9,)))
    # Baselines come first and by name, the method last.
    want = [look(method).colour.lower() for method in ("dan_student", "new_one", "itmc")]
    assert colours(axes_of(accuracy_vs_compression(first))) == want
    for axes in per_task(first).axes:
        assert colours(axes) == want
    assert colours(axes_of(accuracy_vs_compression(second))) == want[1:]


def test_lines_hold_averages_over_tasks_against_reached_macs(tmp_path: Path) -> None:
    made = grid(("itmc",))
    for run in made:
        if run["compression"]["asked"] > 0:
            run["compression"]["reached"] += 0.004 if run["seed"] else 0.0
    axes = axes_of(accuracy_vs_compression(load(tmp_path, *made)))
    (line,) = (line for line in axes.lines if line.get_marker() == "o")
    assert xs(line) == pytest.approx([50.2, 75.2])
    assert ys(line) == pytest.approx([70.5, 65.5])
    (band,) = axes.collections
    heights = np.asarray(band.get_paths()[0].vertices)[:, 1]
    # Two seeds one apart: t of one degree of freedom at 0.975 is tan(0.475 pi), s / sqrt(2) is 0.5.
    half = 0.5 * math.tan(0.475 * math.pi)
    assert (heights.min(), heights.max()) == pytest.approx((65.5 - half, 70.5 + half))


def test_a_seed_that_lacks_a_task_is_not_in_the_average(tmp_path: Path) -> None:
    made = [
        run
        for run in grid(("itmc",))
        if (run["method"]["name"], run["seed"], run["task"]["name"]) != ("itmc", 1, TASKS[0])
    ]
    figure = accuracy_vs_compression(load(tmp_path, *made))
    (line,) = (line for line in axes_of(figure).lines if line.get_marker() == "o")
    assert ys(line) == pytest.approx([70.0, 65.0])
    assert "n = 1 to 2" in title(figure)


def test_one_seed_has_no_band_and_says_so(tmp_path: Path) -> None:
    figure = accuracy_vs_compression(load(tmp_path, *grid(seeds=1)))
    assert "n = 1" in title(figure)
    assert not any(band.get_paths() for band in axes_of(figure).collections)


def test_a_single_compression_is_points_with_bars_side_by_side(tmp_path: Path) -> None:
    comparison = load(tmp_path, *grid(compressions=(0.5,)))
    figure = accuracy_vs_compression(comparison)
    axes = axes_of(figure)
    points = [
        line for line in axes.lines if line.get_marker() in {"o", "s", look("new_one").marker}
    ]
    assert [xs(line) for line in points] == [[0], [1], [2]]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["kd", "new one", "ITMC"]
    assert axes.get_xlabel() == "MACs removed (%): 50.0"
    assert not figure.legends
    assert "bars: 95 % t interval over seeds, n = 2" in title(figure)


def test_references_are_dashed_lines_whose_labels_do_not_overlap(tmp_path: Path) -> None:
    comparison = load(tmp_path, *grid())
    figure = accuracy_vs_compression(comparison)
    axes = axes_of(figure)
    level = [line for line in axes.lines if len(set(ys(line))) == 1]
    assert sorted(ys(line)[0] for line in level) == pytest.approx([70.5, 70.6])
    assert all(line.is_dashed() for line in level)
    figure.draw_without_rendering()
    labels = [text for text in axes.texts if isinstance(text, Annotation)]
    assert {text.get_text() for text in labels} == {"source only 70.5", "dan 70.6"}
    boxes = [mpl.text.Text.get_window_extent(text) for text in labels]
    for below, above in pairwise(sorted(boxes, key=lambda box: box.y0)):
        assert below.y1 <= above.y0
    for box in boxes:
        assert box.x0 > axes.get_window_extent().x1
        assert box.x1 <= figure.bbox.x1


def test_references_are_labelled_with_the_mean_that_tables_show(tmp_path: Path) -> None:
    # Added up as they come, these would be 72.64999… and shown as 72.6.
    values = (84.58, 68.08, 65.29)
    runs = [record("dan", seed=s, compression=0.0, accuracy=v) for s, v in enumerate(values)]
    axes = axes_of(accuracy_vs_compression(load(tmp_path, *runs)))
    assert [text.get_text() for text in axes.texts] == ["dan 72.7"]


def test_without_references_there_is_no_line_for_them(tmp_path: Path) -> None:
    made = [run for run in grid() if run["method"]["group"] != "references"]
    axes = axes_of(accuracy_vs_compression(load(tmp_path, *made)))
    assert not axes.texts
    assert not [line for line in axes.lines if len(set(ys(line))) == 1]


@pytest.mark.parametrize("draw", [accuracy_vs_compression, per_task])
def test_the_legend_hides_neither_data_nor_axis_names(tmp_path: Path, draw: Any) -> None:
    figure = draw(load(tmp_path, *grid()))
    figure.draw_without_rendering()
    (legend,) = figure.legends
    top = legend.get_window_extent().y1
    for axes in figure.axes:
        assert axes.get_window_extent().y0 > top
        if axes.get_xlabel():
            assert axes.xaxis.label.get_window_extent().y0 >= top
    names = {text.get_text() for text in legend.get_texts()}
    assert {"ITMC", "kd", "new one"} <= names


@pytest.mark.parametrize("count", [1, 3, 4, 5, 6])
def test_each_task_has_its_panel_with_readable_axes(tmp_path: Path, count: int) -> None:
    figure = per_task(load(tmp_path, *grid(tasks=TASKS[:count])))
    titles = [axes.get_title().replace(" → ", "->") for axes in figure.axes]
    assert titles == list(TASKS[:count])
    figure.draw_without_rendering()
    for axes in figure.axes[-2:]:
        assert axes.get_xlabel() == "MACs removed (%)"
        assert axes.xaxis.label.get_visible()
        assert any(label.get_visible() and label.get_text() for label in axes.get_xticklabels())


def test_without_an_average_there_is_nothing_to_draw(tmp_path: Path) -> None:
    subject = load(tmp_path, record(task=TASKS[0]), record("kd", task=TASKS[1]))
    with pytest.raises(NoDataError, match="no seed has the accuracies of all 2 tasks"):
        accuracy_vs_compression(subject)
    assert len(per_task(subject).axes) == 2


def test_runs_without_this_accuracy_are_nothing_to_draw(tmp_path: Path) -> None:
    subject = load(tmp_path, *grid(), selection="entropy")
    with pytest.raises(NoDataError, match="no run has this accuracy"):
        per_task(subject)


@pytest.mark.parametrize("draw", [accuracy_vs_compression, per_task])
def test_references_alone_are_drawn(tmp_path: Path, draw: Any) -> None:
    made = [run for run in grid() if run["method"]["group"] == "references"]
    lines = draw(load(tmp_path, *made)).axes[0].lines
    assert [len(set(ys(line))) for line in lines] == [1, 1]


@pytest.mark.parametrize("size", ["column", "page"])
def test_a_figure_is_as_wide_as_the_column_or_the_page(tmp_path: Path, size: str) -> None:
    subject = load(tmp_path, *grid(("itmc", *(f"new_{number}" for number in range(9)))), size=size)
    for figure in (accuracy_vs_compression(subject), per_task(subject)):
        figure.draw_without_rendering()
        assert figure.get_figwidth() == {"column": 3.35, "page": 6.9}[size]
        inside = figure.get_tightbbox()
        assert inside.x0 > -0.02 and inside.x1 < figure.get_figwidth() + 0.02
        types = {text.get_fontsize() for text in figure.findobj(mpl.text.Text) if text.get_text()}
        assert types == {7.0}


def test_many_tasks_have_a_page(tmp_path: Path) -> None:
    few = load(tmp_path / "a", *grid(("itmc",), tasks=TASKS))
    more = (*TASKS, "a->b", "a->c")
    many = load(tmp_path / "b", *grid(("itmc",), tasks=more))
    assert per_task(few).get_figwidth() == 3.35
    assert per_task(many).get_figwidth() == 6.9


def drawn(figure: Figure) -> set[str]:
    """Names in the legend."""
    return {text.get_text() for legend in figure.legends for text in legend.get_texts()}


@pytest.mark.parametrize("draw", [accuracy_vs_compression, per_task])
def test_ablations_are_drawn_only_where_no_baseline_is(tmp_path: Path, draw: Any) -> None:
    ablations = ("itmc_fixed", "itmc_one_shot", "tkd_only")
    beside = draw(load(tmp_path / "a", *grid(("itmc", "kd", *ablations))))
    assert {"ITMC", "kd"} <= drawn(beside)
    assert not {"itmc fixed", "itmc one shot", "tkd only"} & drawn(beside)
    assert "without 3 ablations" in title(beside)
    alone = draw(load(tmp_path / "b", *grid(("itmc", *ablations))))
    assert {"ITMC", "itmc fixed", "itmc one shot", "tkd only"} <= drawn(alone)
    assert "without" not in title(alone)


def test_of_many_methods_only_itmc_keeps_its_band(tmp_path: Path) -> None:
    many = tuple(f"new_{number}" for number in range(7))
    few = accuracy_vs_compression(load(tmp_path / "a", *grid(many[:5])))
    assert len(axes_of(few).collections) == 5
    assert "bands: 95 % t interval over seeds, n = 2" in title(few)
    figure = accuracy_vs_compression(load(tmp_path / "b", *grid((*many, "itmc"))))
    (band,) = axes_of(figure).collections
    assert to_hex(np.asarray(band.get_facecolor())[0]) == look("itmc").colour.lower()
    assert "band (ITMC only): 95 % t interval over seeds, n = 2" in title(figure)
    assert figure.get_figheight() > few.get_figheight()
    without = accuracy_vs_compression(load(tmp_path / "c", *grid(many)))
    assert not axes_of(without).collections
    assert "interval" not in title(without) and "n = 2" in title(without)


def test_many_methods_at_one_compression_are_named_below_and_within_the_figure(
    tmp_path: Path,
) -> None:
    many = ("itmc", *(f"itmc_a_rather_long_name_{number}" for number in range(25)))
    comparison = load(tmp_path, *grid(many, compressions=(0.5,), tasks=TASKS[:1]))
    figure = accuracy_vs_compression(comparison)
    figure.draw_without_rendering()
    axes = axes_of(figure)
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert len(boxes) == len(many)
    for left, right in pairwise(boxes):
        assert left.x1 <= right.x0
    for box in boxes:
        assert box.y1 <= axes.get_window_extent().y0
        assert box.y0 >= axes.xaxis.label.get_window_extent().y1
    assert axes.xaxis.label.get_window_extent().y0 >= 0
    # The names take no room from the data.
    assert axes.get_window_extent().height > 1.8 * figure.dpi
    # As many points as methods, each with bars.
    assert len(axes.containers) == len(many)
