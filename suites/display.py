"""What a user sees while a grid runs: a bar with the ETA on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TaskID

from itmc.files import whole_lines
from results.schema import ACCURACY_DECIMALS
from suites.config import Places
from suites.execute import outstanding
from suites.folders import PROGRESS, RECORD, is_finished, job_folder
from suites.plan import Job, Plan
from suites.progress import Steps, bars


class Screen(Steps):
    """Shows the progress of a plan: a line a run and, on a terminal, a bar over all FLOPs."""

    def __init__(self, console: Console, bar: Progress | None, show_accuracy: bool) -> None:
        super().__init__(console, bar)
        self._show_accuracy = show_accuracy
        self._task: TaskID | None = None
        self._shares: dict[str, float] = {}
        self._ended, self._runs = 0, 0

    def begin(self, plan: Plan, places: Places) -> None:
        """The plan is about to be executed."""
        self._runs = len(plan.runs)
        done = sum(is_finished(places.out, run.key, run.is_run) for run in plan.runs)
        finished = f" ({done} finished already)" if done else ""
        self.say(f"{self._runs} runs{finished}, {len(plan.stages)} shared stages")
        self.note_unjudged(plan, places)
        if self._bar is not None:
            self._task = self._bar.add_task("", total=sum(job.flops for job in plan.jobs) or 1.0)

    def note_unjudged(self, plan: Plan, places: Places) -> None:
        """Say so where ``--judge-teacher`` comes too late for runs that are finished."""
        if not places.judge_teacher:
            return
        if count := sum(_is_unjudged(job, places.out) for job in plan.runs):
            runs = "1 finished run was" if count == 1 else f"{count} finished runs were"
            self.say(
                f"note: {runs} not judged with their teacher; delete them or choose another --out"
            )

    def already_finished(self, job: Job) -> None:
        """``job`` was finished before; what it costs does not count towards the ETA."""
        self._ended += job.is_run
        if self._bar is not None and self._task is not None:
            total = self._bar.tasks[self._task].total or 0.0
            self._bar.update(self._task, total=max(1.0, total - job.flops))

    def advance(self, job: Job, share: float) -> None:
        if self._bar is not None and self._task is not None:
            gained = share - self._shares.get(job.key, 0.0)
            self._bar.advance(self._task, gained * job.flops)
        self._shares[job.key] = share

    def finished(self, job: Job, places: Places, seconds: float) -> None:
        self.advance(job, 1.0)
        if job.is_run:
            self._ended += 1
            verdict = f"{_verdict(job, places)}, " if self._show_accuracy else ""
            self.say(f"{self._count()} {job.title}: {verdict}{seconds:.1f} s")

    def failed(self, job: Job, reason: str) -> None:
        self.advance(job, 1.0)
        self._ended += job.is_run
        count = f"{self._count()} " if job.is_run else ""
        self.say(f"{count}{job.title}: FAILED: {reason}")

    def _count(self) -> str:
        return f"[{self._ended}/{self._runs}]"


@contextmanager
def display(show_accuracy: bool = True) -> Iterator[Screen]:
    """A screen on standard error, so that standard output carries nothing but results.

    ``show_accuracy``: say of each finished run what it reached on the target.
    """
    with bars() as (console, bar):
        yield Screen(console, bar, show_accuracy)


def show_plan(plan: Plan, places: Places) -> None:
    """Print what would be run: the runs, the stages they share and their estimated FLOPs."""
    to_do = outstanding(plan, places)
    for title, jobs in (("shared stages", plan.stages), ("runs", plan.runs)):
        print(f"{len(jobs)} {title}:")
        for job in jobs:
            state = "" if job.key in to_do else ", finished"
            users = "" if job.is_run else f", for {plan.users(job)} runs"
            print(f"  {job.key} {job.title}: {_engineering(job.flops)}FLOPs{users}{state}")
    total = sum(job.flops for job in to_do.values())
    print(f"to do: {len(to_do)} of {len(plan.jobs)} jobs, {_engineering(total)}FLOPs of training")


def _is_unjudged(job: Job, out: Path) -> bool:
    """Whether a run is finished whose teacher, where it has one, was not judged."""
    if not job.run.recipe().stage.guided or not is_finished(out, job.key, job.is_run):
        return False
    last = whole_lines(job_folder(out, job.key, job.is_run) / PROGRESS)[-1]
    return "guidance" not in json.loads(last)


def _verdict(job: Job, places: Places) -> str:
    record = json.loads((places.out / job.key / RECORD).read_text())
    last, removed = record["accuracy"]["last"], 100 * record["compression"]["reached"]
    if last is None:
        verdict = f"no labels on target, InfoMax {record['scores']['infomax']:.3f}"
    else:
        # Rounded first as in tables, which then print the same.
        verdict = f"{round(last['overall'], ACCURACY_DECIMALS):.1f} % on target"
    return f"{verdict}, {removed:.1f} % MACs removed"


def _engineering(number: float) -> str:
    """``number`` with three digits and an SI prefix: 1.23e12 is ``1.23 T``."""
    for prefix, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if number >= size:
            return f"{number / size:.3g} {prefix}"
    return f"{number:.3g} "
