"""What the tests of figures share: runs to draw, and what is seen of a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from results.comparison import comparisons, method_order
from results.looks import looks
from results.plots.histories import read_histories
from results.plots.subject import Subject
from results.records import read
from tests.results.factory import TASKS, record, write


def load(out: Path, *records: dict[str, Any], **changed: Any) -> Subject:
    """The only setting of these records, as it is drawn; `changed` replaces what is usual."""
    found = read([write(out, *records)])
    (comparison,) = comparisons(found.frame, found.missing)
    usual: dict[str, Any] = {
        "whole": comparison,
        "comparison": comparison,
        "records": found,
        "selection": "last",
        "metric": "overall",
        "looks": looks(method_order(comparison)),
        "details": read_histories(comparison)[0],
    }
    return Subject(**usual | changed)


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


def title(figure: Figure) -> str:
    """The title in one line, without hard spaces."""
    return " ".join(figure.get_suptitle().replace("\N{NO-BREAK SPACE}", " ").split())


def xs(line: Line2D) -> list[float]:
    """A line's places on the horizontal axis."""
    return [float(x) for x in np.asarray(line.get_xdata())]


def ys(line: Line2D) -> list[float]:
    """A line's places on the vertical axis."""
    return [float(y) for y in np.asarray(line.get_ydata())]
