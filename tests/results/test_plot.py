"""The plots: files, the same look for a method everywhere, bands and n, nothing hidden."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation

from results.comparison import Comparison, comparisons
from results.looks import look
from results.plot import accuracy_vs_compression, main, per_task
from results.records import read
from tests.results.factory import TASKS, record, write


def load(out: Path, *records: dict[str, Any]) -> Comparison:
    """The only comparison of these records."""
    (comparison,) = comparisons(read([write(out, *records)]).frame)
    return comparison


def grid(
    methods: tuple[str, ...] = ("itmc", "kd", "new_one"),
    seeds: int = 2,
    compressions: tuple[float, ...] = (0.5, 0.75),
    tasks: tuple[str, ...] = TASKS[:4],
) -> list[dict[str, Any]]:
    """Runs of compressed methods and of two references whose accuracies are close."""
    made = []
    for seed in range(seeds):
        for task in tasks:
            for place, reference in enumerate(("source_only", "dan")):
                accuracy = 70 + seed + 0.1 * place
                made.append(record(reference, task, seed=seed, compression=0.0, accuracy=accuracy))
            for place, method in enumerate(methods):
                for compression in compressions:
                    accuracy = 80 - 20 * compression - place + seed
                    made.append(
                        record(method, task, seed=seed, compression=compression, accuracy=accuracy)
                    )
    return made


def axes_of(figure: Figure) -> Axes:
    """The only axes."""
    (axes,) = figure.axes
    return axes


def xs(line: Line2D) -> list[float]:
    """A line's places on the horizontal axis."""
    return [float(x) for x in np.asarray(line.get_xdata())]


def ys(line: Line2D) -> list[float]:
    """A line's places on the vertical axis."""
    return [float(y) for y in np.asarray(line.get_ydata())]


def colours(axes: Axes) -> list[str]:
    """Colours of the lines with points, in the order of drawing; the ends of bars do not count."""
    markers = {look(method).marker for method in ("dan_student", "itmc", "new_one")}
    return [to_hex(line.get_color()) for line in axes.lines if line.get_marker() in markers]


def test_writes_png_and_pdf(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "runs", *grid(tasks=TASKS[:1]))
    assert main([str(tmp_path / "runs"), "--out", str(tmp_path / "plots")]) == 0
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted((tmp_path / "plots").iterdir()) == sorted(printed)
    assert {path.name for path in printed} == {
        f"{stem}.{kind}"
        for stem in ("accuracy_vs_compression", "per_task")
        for kind in ("png", "pdf")
    }
    for path in printed:
        magic = b"\x89PNG" if path.suffix == ".png" else b"%PDF"
        assert path.read_bytes().startswith(magic)


def test_the_same_records_give_the_same_files(tmp_path: Path) -> None:
    write(tmp_path / "runs", *grid(tasks=TASKS[:1]))
    for name in ("a", "b"):
        main([str(tmp_path / "runs"), "--out", str(tmp_path / name)])
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_two_settings_get_plots_of_their_own(tmp_path: Path) -> None:
    write(tmp_path / "runs", *grid(tasks=TASKS[:1]), record(protocol="paper"))
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "plots")])
    assert len(list((tmp_path / "plots").iterdir())) == 8


def test_a_method_has_the_same_colour_in_every_plot(tmp_path: Path) -> None:
    first = load(tmp_path / "a", *grid(("dan_student", "itmc", "new_one")))
    second = load(tmp_path / "b", *grid(("itmc", "new_one"), compressions=(0.9,)))
    # Baselines come first and by name, the method last.
    want = [look(method).colour.lower() for method in ("dan_student", "new_one", "itmc")]
    assert colours(axes_of(accuracy_vs_compression(first, "last", "overall"))) == want
    for axes in per_task(first, "last", "overall").axes:
        assert colours(axes) == want
    assert colours(axes_of(accuracy_vs_compression(second, "last", "overall"))) == want[1:]


def test_lines_hold_averages_over_tasks_against_reached_macs(tmp_path: Path) -> None:
    made = grid(("itmc",))
    for run in made:
        if run["compression"]["asked"] > 0:
            run["compression"]["reached"] += 0.004 if run["seed"] else 0.0
    axes = axes_of(accuracy_vs_compression(load(tmp_path, *made), "last", "overall"))
    (line,) = (line for line in axes.lines if line.get_marker() == "o")
    assert xs(line) == pytest.approx([50.2, 75.2])
    assert ys(line) == pytest.approx([70.5, 65.5])
    (band,) = axes.collections
    heights = np.asarray(band.get_paths()[0].vertices)[:, 1]
    # Seeds one apart: ddof 1.
    assert (heights.min(), heights.max()) == pytest.approx((65.5 - 0.5**0.5, 70.5 + 0.5**0.5))


def test_a_seed_that_lacks_a_task_is_not_in_the_average(tmp_path: Path) -> None:
    made = [
        run
        for run in grid(("itmc",))
        if (run["method"]["name"], run["seed"], run["task"]["name"]) != ("itmc", 1, TASKS[0])
    ]
    figure = accuracy_vs_compression(load(tmp_path, *made), "last", "overall")
    (line,) = (line for line in axes_of(figure).lines if line.get_marker() == "o")
    assert ys(line) == pytest.approx([70.0, 65.0])
    assert "n = 1 to 2" in figure.get_suptitle()


def test_one_seed_has_no_band_and_says_so(tmp_path: Path) -> None:
    figure = accuracy_vs_compression(load(tmp_path, *grid(seeds=1)), "last", "overall")
    assert "n = 1" in figure.get_suptitle()
    assert not any(band.get_paths() for band in axes_of(figure).collections)


def test_a_single_compression_is_points_with_bars_side_by_side(tmp_path: Path) -> None:
    comparison = load(tmp_path, *grid(compressions=(0.5,)))
    figure = accuracy_vs_compression(comparison, "last", "overall")
    axes = axes_of(figure)
    points = [
        line for line in axes.lines if line.get_marker() in {"o", "s", look("new_one").marker}
    ]
    assert [xs(line) for line in points] == [[0], [1], [2]]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["kd", "new one", "ITMC"]
    assert axes.get_xlabel() == "MACs removed (%): 50.0"
    assert not figure.legends
    assert "bars: ± sd over seeds, n = 2" in figure.get_suptitle()


def test_references_are_dashed_lines_whose_labels_do_not_overlap(tmp_path: Path) -> None:
    comparison = load(tmp_path, *grid())
    figure = accuracy_vs_compression(comparison, "last", "overall")
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


def test_without_references_there_is_no_line_for_them(tmp_path: Path) -> None:
    made = [run for run in grid() if run["method"]["group"] != "references"]
    axes = axes_of(accuracy_vs_compression(load(tmp_path, *made), "last", "overall"))
    assert not axes.texts
    assert not [line for line in axes.lines if len(set(ys(line))) == 1]


@pytest.mark.parametrize("draw", [accuracy_vs_compression, per_task])
def test_the_legend_hides_neither_data_nor_axis_names(tmp_path: Path, draw: Any) -> None:
    figure = draw(load(tmp_path, *grid()), "last", "overall")
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
    figure = per_task(load(tmp_path, *grid(tasks=TASKS[:count])), "last", "overall")
    titles = [axes.get_title().replace(" → ", "->") for axes in figure.axes]
    assert titles == list(TASKS[:count])
    figure.draw_without_rendering()
    for axes in figure.axes[-3:]:
        assert axes.get_xlabel() == "MACs removed (%)"
        assert axes.xaxis.label.get_visible()
        assert any(label.get_visible() and label.get_text() for label in axes.get_xticklabels())


def test_no_average_is_said_in_the_plot(tmp_path: Path) -> None:
    comparison = load(tmp_path, record(task=TASKS[0]), record("kd", task=TASKS[1]))
    (text,) = axes_of(accuracy_vs_compression(comparison, "last", "overall")).texts
    assert "No seed has all 2 tasks" in text.get_text()


@pytest.mark.parametrize("kept", [{"references"}, {"itmc"}, set()])
def test_what_is_missing_does_not_stop_the_plots(tmp_path: Path, kept: set[str]) -> None:
    # Only references; only compressed; and runs without any accuracy, as with unlabeled targets.
    made = [run for run in grid(tasks=TASKS[:1]) if run["method"]["group"] in kept]
    made = made or [run | {"accuracy": None} for run in grid(tasks=TASKS[:1])]
    write(tmp_path / "runs", *made)
    assert main([str(tmp_path / "runs"), "--out", str(tmp_path / "plots")]) == 0
    assert len(list((tmp_path / "plots").iterdir())) == 4


def test_an_output_that_cannot_be_written_is_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, record())
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as left:
        main([str(tmp_path), "--out", str(tmp_path / "file")])
    assert left.value.code == 2
    err = capsys.readouterr().err
    assert "cannot write" in err
    assert err.count("\n") == 1


def drawn(figure: Figure) -> set[str]:
    """Names in the legend."""
    return {text.get_text() for legend in figure.legends for text in legend.get_texts()}


@pytest.mark.parametrize("draw", [accuracy_vs_compression, per_task])
def test_ablations_are_drawn_only_where_no_baseline_is(tmp_path: Path, draw: Any) -> None:
    ablations = ("itmc_fixed", "itmc_one_shot", "tkd_only")
    beside = draw(load(tmp_path / "a", *grid(("itmc", "kd", *ablations))), "last", "overall")
    assert {"ITMC", "kd"} <= drawn(beside)
    assert not {"itmc fixed", "itmc one shot", "tkd only"} & drawn(beside)
    assert "without 3 ablations" in beside.get_suptitle().replace("\N{NO-BREAK SPACE}", " ")
    alone = draw(load(tmp_path / "b", *grid(("itmc", *ablations))), "last", "overall")
    assert {"ITMC", "itmc fixed", "itmc one shot", "tkd only"} <= drawn(alone)
    assert "without" not in alone.get_suptitle()


def test_of_many_methods_only_itmc_keeps_its_band(tmp_path: Path) -> None:
    many = tuple(f"new_{number}" for number in range(7))
    few = accuracy_vs_compression(load(tmp_path / "a", *grid(many[:5])), "last", "overall")
    assert len(axes_of(few).collections) == 5
    assert "bands: ± sd over seeds, n = 2" in few.get_suptitle()
    figure = accuracy_vs_compression(
        load(tmp_path / "b", *grid((*many, "itmc"))), "last", "overall"
    )
    (band,) = axes_of(figure).collections
    assert to_hex(np.asarray(band.get_facecolor())[0]) == look("itmc").colour.lower()
    assert "band (ITMC only): ± sd over seeds, n = 2" in figure.get_suptitle()
    assert figure.get_figheight() > few.get_figheight()
    without = accuracy_vs_compression(load(tmp_path / "c", *grid(many)), "last", "overall")
    assert not axes_of(without).collections
    assert "sd over seeds: see the table, n = 2" in without.get_suptitle()


def test_many_methods_at_one_compression_are_named_below_and_within_the_figure(
    tmp_path: Path,
) -> None:
    many = ("itmc", *(f"itmc_a_rather_long_name_{number}" for number in range(25)))
    comparison = load(tmp_path, *grid(many, compressions=(0.5,), tasks=TASKS[:1]))
    figure = accuracy_vs_compression(comparison, "last", "overall")
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
    assert axes.get_window_extent().height > 2 * figure.dpi
    # As many points as methods, each with bars.
    assert len(axes.containers) == len(many)
