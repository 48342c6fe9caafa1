"""Run records as one pandas frame, and what stands beside them: missing, left out."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from results import plans
from results.cache import Rows
from results.plans import PlanFile
from results.schema import DamagedRecordError, parse, row_of

FINISHED = "finished"
# What can be the matter with a run that has no record.
FAILED, UNFINISHED, TO_COME, DAMAGED = "failed", "unfinished", "to come", "damaged"


STATES = (FAILED, UNFINISHED, TO_COME, DAMAGED)
LEFT_OUT = "left out (damaged or newer)"


class ResultsError(Exception):
    """Wrong usage: one line that names what was given and what is allowed."""


@dataclass(frozen=True)
class Records:
    """The usable records, one row a run, and the runs that have none.

    Attributes:
        frame: one row a finished run whose target has labels, in an order that depends on the
            content only. Accuracies are in the columns `<selection>.<metric>` (see
            `schema.accuracy_column`), in percent, the label-free scores of the last epoch in
            `score.<key>` (see `schema.score_column`); NaN where the record has none.
        unlabelled: the same of the runs whose target has no labels, and so no accuracies.
        missing: what is known of runs that a plan asks for and that have no record: the columns of
            `schema.identity_of`, and `state`, one of `FAILED`, `UNFINISHED`, `TO_COME`, `DAMAGED`.
        missing_unlabelled: the same of those whose target has no labels.
        failed: run directories with a `failure.json` and no record.
        unfinished: run directories with a `config.yaml` and neither of the two.
        damaged: run directories whose record is damaged or of a newer schema, where no other
            directory has one of the same run.
        left_out: one line for each record that is damaged or of a newer schema.
        damaged_plans: one line for each plan that cannot be used.
        plans: what was asked for, the oldest first.
        leaderboards: those that were read instead of runs; what is missing or was left out, and
            what records say besides their rows, is not known then.
    """

    frame: pd.DataFrame
    unlabelled: pd.DataFrame
    missing: pd.DataFrame = field(default_factory=pd.DataFrame)
    missing_unlabelled: pd.DataFrame = field(default_factory=pd.DataFrame)
    failed: tuple[Path, ...] = ()
    unfinished: tuple[Path, ...] = ()
    damaged: tuple[Path, ...] = ()
    left_out: tuple[str, ...] = ()
    damaged_plans: tuple[str, ...] = ()
    plans: tuple[PlanFile, ...] = ()
    leaderboards: tuple[Path, ...] = ()

    def gaps(self) -> str:
        """What is in neither frame, in words; empty where every run has a usable record."""
        counts = self.count_missing().items()
        return ", ".join(f"{plural(count, 'run')} {what}" for what, count in counts if count)

    def count_missing(self) -> dict[str, int]:
        """How many runs are in neither frame, by what is the matter with them."""
        both = (self.missing, self.missing_unlabelled)
        return {
            FAILED: len(self.failed),
            UNFINISHED: len(self.unfinished),
            TO_COME: sum(int((f["state"] == TO_COME).sum()) for f in both if len(f)),
            LEFT_OUT: len(self.damaged),
        }

    def at(self, compressions: Collection[float]) -> Records:
        """The runs of these compressions, and those that are not compressed.

        Raises:
            ResultsError: no run has one of them.
        """
        there = {float(value) for value in self._values("compression")}
        if unknown := sorted(set(compressions) - there):
            known = ", ".join(str(value) for value in sorted(there) if value) or "none"
            asked = ", ".join(map(str, unknown))
            raise ResultsError(f"no run removes {asked} of the MACs; there are runs at: {known}")
        return self._where("compression", {0.0, *compressions})

    def of_tasks(self, tasks: Collection[str]) -> Records:
        """The runs of these tasks, such as `print->hand`.

        Raises:
            ResultsError: no run has one of them.
        """
        there = {str(value) for value in self._values("task")}
        if unknown := sorted(set(tasks) - there):
            raise ResultsError(
                f"no run is of task {', '.join(unknown)}; there are: {', '.join(sorted(there))}"
            )
        return self._where("task", tasks)

    def _frames(self) -> tuple[pd.DataFrame, ...]:
        return self.frame, self.unlabelled, self.missing, self.missing_unlabelled

    def _values(self, column: str) -> set[Any]:
        """All that stands in a column, of any run."""
        return {value for frame in self._frames() if len(frame) for value in frame[column].unique()}

    def _where(self, column: str, values: Collection[Any]) -> Records:
        """The runs that have one of these values there."""
        chosen = (f[f[column].isin(set(values))] if len(f) else f for f in self._frames())
        frame, unlabelled, missing, other = (f.reset_index(drop=True) for f in chosen)
        return replace(
            self, frame=frame, unlabelled=unlabelled, missing=missing, missing_unlabelled=other
        )

    def require_accuracies(self) -> None:
        """Raise ResultsError where no run has a target with labels."""
        if self.frame.empty:
            raise ResultsError(
                f"no accuracies: the targets of {plural(len(self.unlabelled), 'run')} have no "
                "labels; 'python -m results.table RUNS' shows their label-free scores"
            )


@dataclass
class _Found:
    """What reading comes upon."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    missing: list[dict[str, Any]] = field(default_factory=list)
    failed: list[Path] = field(default_factory=list)
    unfinished: list[Path] = field(default_factory=list)
    damaged: list[Path] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    damaged_plans: list[str] = field(default_factory=list)
    plans: list[PlanFile] = field(default_factory=list)

    def without_record(self) -> pd.DataFrame:
        """The rows of the runs that no folder has a record of, each once."""
        finished = {row["run"] for row in self.rows}
        # What one folder waits for may have failed in another.
        known_last = sorted(self.missing, key=lambda row: bool(row["state"] != TO_COME))
        rows = {row["run"]: row for row in known_last if row["run"] not in finished}
        return pd.DataFrame(list(rows.values()))

    def folders(self, runs: Sequence[Path]) -> tuple[Path, ...]:
        """Those of these folders whose run has no record in another, each run once."""
        finished = {row["run"] for row in self.rows}
        return tuple({run.name: run for run in runs if run.name not in finished}.values())


def plural(count: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def default_selection(protocol: str) -> str:
    """The protocol's own choice of the epoch: `oracle` where it is `paper`, else `last`."""
    return "oracle" if protocol == "paper" else "last"


def read(paths: Sequence[Path]) -> Records:
    """Read the records of out directories (`<path>/*/record.json`) or of single run directories.

    Raises:
        ResultsError: a path is not a directory, or there is no usable record at all.
    """
    found = _Found()
    whole = {path.resolve() for path in paths}
    for folder, runs in _run_directories(paths, found).items():
        # Who gives one run's directory does not ask for the others of the plan.
        planned = plans.read_plans(folder) if folder.resolve() in whole else ((), ())
        _read_folder(folder, runs, planned, found)
    found.plans.sort(key=lambda plan: plan.written)
    missing, missing_unlabelled = _by_labels(found.without_record())
    made = Records(
        frame=pd.DataFrame(),
        unlabelled=pd.DataFrame(),
        missing=missing,
        missing_unlabelled=missing_unlabelled,
        failed=found.folders(found.failed),
        unfinished=found.folders(found.unfinished),
        damaged=found.folders(found.damaged),
        left_out=tuple(found.left_out),
        damaged_plans=tuple(found.damaged_plans),
        plans=tuple(found.plans),
    )
    if not found.rows:
        given = ", ".join(str(path) for path in paths)
        gaps = f" ({made.gaps()})" if made.gaps() else ""
        why = f"; the first: {found.left_out[0]}" if found.left_out else "; expected */record.json"
        raise ResultsError(f"no usable record under {given}{gaps}{why}")
    frame = pd.DataFrame(found.rows).sort_values(["run", "finished"])
    # The same run copied to two out directories is one run.
    frame = frame.drop_duplicates("run", keep="last")
    labelled, unlabelled = _by_labels(frame)
    return replace(made, frame=labelled, unlabelled=unlabelled)


def _by_labels(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs whose targets have labels, and the others."""
    if frame.empty:
        return frame, frame
    there = frame["labelled"].astype(bool)
    return frame[there].reset_index(drop=True), frame[~there].reset_index(drop=True)


def _read_folder(
    folder: Path,
    runs: Sequence[Path],
    planned: tuple[Sequence[PlanFile], Sequence[str]],
    found: _Found,
) -> None:
    """Read these runs of an out directory; `planned`: its plans, and what is wrong with some."""
    found.plans += planned[0]
    found.damaged_plans += planned[1]
    wanted = plans.wanted(planned[0])
    cached = Rows(folder)
    for run in runs:
        record = run / "record.json"
        if record.exists():
            asked = wanted.pop(run.name, None)
            try:
                found.rows.append(_row(record, cached))
            except DamagedRecordError as error:
                found.damaged.append(run)
                found.left_out.append(f"{record}: {error}")
                found.missing += [] if asked is None else [asked.row | {"state": DAMAGED}]
            continue
        failed = (run / "failure.json").exists()
        if run.name in wanted:
            row = wanted.pop(run.name).row
            found.missing.append(row | {"state": FAILED if failed else UNFINISHED})
        elif planned[0] and not planned[1]:
            continue  # of an older version of the code: nothing asks for it any more
        (found.failed if failed else found.unfinished).append(run)
    found.missing += [run.row | {"state": TO_COME} for run in wanted.values()]
    cached.save()


def _row(path: Path, cached: Rows) -> dict[str, Any]:
    """The row of a record, with its `path` and `record`, the hash of its content.

    Raises:
        DamagedRecordError: it cannot be used.
    """
    run = path.parent.name
    try:
        state = path.stat()
        row = cached.get(run, state)
        if row is None:
            text = path.read_bytes()
            row = row_of(parse(text)) | {"record": hashlib.sha256(text).hexdigest()[:12]}
            cached.put(run, state, row)
    except OSError as error:
        raise DamagedRecordError(f"not readable ({error.strerror})") from None
    return row | {"path": str(path)}


def _run_directories(paths: Sequence[Path], found: _Found) -> dict[Path, list[Path]]:
    """Each run directory once, by the folder it is in, sorted, whichever paths lead to it.

    What is beside the runs and cannot be looked into is named in `found`.
    """
    folders: dict[Path, list[Path]] = {}
    known: dict[Path, Path] = {}
    seen: set[Path] = set()
    for path in paths:
        try:
            folder, runs = _runs_in(path, found)
        except OSError as error:
            raise ResultsError(f"cannot read {_short(path)}: {error.strerror}") from None
        # One folder by two names is one folder.
        folder = known.setdefault(folder.resolve(), folder)
        folders.setdefault(folder, [])
        for run in runs:
            resolved = run.resolve()
            if resolved not in seen:
                seen.add(resolved)
                folders[folder].append(run)
    return folders


def _runs_in(path: Path, found: _Found) -> tuple[Path, list[Path]]:
    """The folder that runs are in, and those of them that a path asks for."""
    if not path.is_dir():
        state = "is not a directory" if path.exists() else "does not exist"
        raise ResultsError(
            f"{_short(path)} {state}; give an out directory of runs or one run's directory"
        )
    if _is_run(path):
        return path.parent, [path]
    runs = []
    for child in sorted(path.iterdir()):
        try:
            if _is_run(child):
                runs.append(child)
        except OSError as error:
            found.damaged.append(child)
            found.left_out.append(f"{child}: cannot be looked into ({error.strerror})")
    return path, runs


def _short(path: Path) -> str:
    """The path, or its end where it is longer than anybody would read."""
    text = str(path)
    return text if len(text) <= 200 else f"…{text[-200:]}"


def _is_run(path: Path) -> bool:
    # As `Path.exists`, but what may not be looked into is no answer.
    for name in ("record.json", "failure.json", "config.yaml"):
        try:
            (path / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        return True
    return False
