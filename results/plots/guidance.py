"""What the teacher knew and what the student took over from it, epoch by epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from results.figure import add_legend, centre_names, frame, handle, new_figure, panels, style
from results.plots.histories import damaged_in_words, few
from results.plots.lines import draw_lines, over_tasks
from results.plots.points import interval_in_words
from results.plots.subject import NoDataError, Subject
from results.records import plural

if TYPE_CHECKING:  # Drawing libraries are slow to import: they wait until something is drawn.
    from matplotlib.figure import Figure

_PANELS = {
    "teacher": "the teacher's accuracy",
    "agrees_wrong": "student repeats the teacher's wrong class",
}


def guidance(subject: Subject) -> Figure:
    """The teacher's accuracy, and how much of what it has wrong the student repeats.

    A row a compression, a line a method: the mean over the seeds that have all tasks, averaged over
    these, with its band. Only overall accuracy is known of teachers.

    Raises:
        NoDataError: in no run a teacher was judged.
    """
    epochs = _epochs(subject)
    if epochs.empty:
        raise NoDataError("no teacher was judged in these runs (suites.run --judge-teacher)")
    drawn = over_tasks(subject, epochs, list(_PANELS))
    tasks = plural(len(subject.comparison.tasks), "task")
    if drawn.empty:
        raise NoDataError(f"no seed has judged teachers in all {tasks}")
    shares = sorted(drawn["compression"].unique())
    methods = [method for method in few(subject) if method in set(drawn["method"])]
    with style():
        figure = new_figure(subject, max(1.6 * len(shares), 1.8), "page")
        titles = [f"{what}, compression {c:g}" for c in shares for what in _PANELS.values()]
        made = panels(figure, len(titles), len(_PANELS), titles, sharex=True)
        places = [(share, column) for share in shares for column in _PANELS]
        for axes, (share, column) in zip(made, places, strict=True):
            draw_lines(axes, subject, drawn[drawn["compression"] == share], column, methods)
        for axes in made[-len(_PANELS) :]:
            axes.set_xlabel("epoch beside a teacher")
        first = drawn[drawn["epoch"] == 1]
        band = interval_in_words(subject, first, "band", all_have=True)
        looking = "for looking only"
        what = f"target images, average over {tasks}"
        frame(figure, subject, (what, looking, band, damaged_in_words(subject)), y="%")
        add_legend(figure, [handle(subject, method) for method in methods])
        centre_names(figure)
    return figure


def _epochs(subject: Subject) -> pd.DataFrame:
    """A row an epoch of a run in which a teacher was judged, counted from the first such."""
    methods, rows = few(subject), []
    runs = subject.comparison.frame
    for run in runs[runs["method"].isin(methods)].to_dict("records"):
        details = subject.details.get(run["path"])
        columns = {} if details is None else dict(details.guidance)
        judged = [of for of in zip(*columns.values(), strict=True) if of[0] is not None]
        rows += [
            {
                **{name: run[name] for name in ("run", "method", "compression", "task", "seed")},
                "epoch": epoch,
                **dict(zip(columns, of, strict=True)),
            }
            for epoch, of in enumerate(judged, start=1)
        ]
    return pd.DataFrame(rows)
