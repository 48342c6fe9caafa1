"""Submit the arrays of a grid to SLURM."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from itmc.errors import UsageError
from slurm import ledger
from slurm.arrays import ArrayPlan
from slurm.code import PROJECT
from slurm.ledger import Array, Submission
from slurm.payload import logs_of, workers

# A job that is stopped goes on as often as it takes; the worker ends what gets no further.
TIMEOUTS = 1_000_000
Say = Callable[[str], None]


def submit_arrays(
    submission: Submission,
    made: Sequence[ArrayPlan],
    numbers: Mapping[str, str],
    say: Say,
    accepted: Callable[[], object],
) -> Submission:
    """Submit ``made`` to the cluster; returns ``submission`` as the ledger has it then.

    ``numbers``: by name, those of arrays submitted before that some of ``made`` come after. Each
    array is in the ledger before it is submitted, so that it is found whatever happens here.
    ``accepted`` is called as soon as the cluster has the first of them.
    Raises UsageError where sbatch refuses; what was submitted until then stays.
    """
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    known = dict(numbers)
    for plan in made:
        array = as_submitted(plan)
        submission = ledger.with_array(submission, array)
        executor = SlurmExecutor(logs_of(submission), TIMEOUTS, python=submission.settings.python)
        executor.update_parameters(**sbatch_options(submission, plan, known))
        try:
            jobs = executor.submit_array(workers(submission, plan))
        except (FailedJobError, FailedSubmissionError) as error:
            if isinstance(error, FailedJobError) and len(submission.arrays) == 1:
                ledger.remove(submission)
            raise UsageError(_refusal(str(error), plan, submission)) from error
        known[plan.name] = number = jobs[0].job_id.partition("_")[0]
        submission = ledger.with_array(submission, array.model_copy(update={"job": number}))
        if plan is made[0]:
            accepted()
        say(f"{described(plan)}: job {number}")
    return submission


def as_submitted(plan: ArrayPlan) -> Array:
    """The ledger's line for ``plan``, which is submitted now."""
    return Array(
        name=plan.name,
        level=plan.level,
        elements=tuple(tuple(job.key for job in element) for element in plan.elements),
        after=plan.after,
        submitted=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def described(plan: ArrayPlan) -> str:
    """An array in a few words."""
    jobs = [job for element in plan.elements for job in element]
    runs = sum(job.is_run for job in jobs)
    content = ((len(jobs) - runs, "stage"), (runs, "run"))
    held = " and ".join(counted(count, what) for count, what in content if count)
    after = f", after {', '.join(plan.after)}" if plan.after else ""
    elements = counted(len(plan.elements), "job")
    return f"level {plan.level}, {plan.name}: {elements} with {held}{after}"


def counted(count: int, what: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def sbatch_options(
    submission: Submission, plan: ArrayPlan, numbers: Mapping[str, str]
) -> dict[str, Any]:
    """What sbatch is asked for, by submitit's names."""
    settings = submission.settings
    after = [numbers[name] for name in plan.after if name in numbers]
    given = {
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "constraint": settings.constraint,
        "mem": settings.mem,
        "gpus_per_node": settings.gpus_per_node or None,
        # However they end: what is missing then the worker says, and no failure hides another.
        "dependency": f"afterany:{':'.join(after)}" if after else None,
    }
    return {
        "job_name": plan.name,
        "time": settings.time,
        "nodes": settings.nodes,
        "ntasks_per_node": settings.tasks_per_node,
        "cpus_per_task": settings.cpus,
        "signal_delay_s": settings.signal_seconds,
        "array_parallelism": settings.array_parallelism or len(plan.elements),
        "setup": [*settings.setup, _on_path()],
        # A rank that fails ends the job, instead of letting the others wait for it. From SLURM
        # 22.05 on srun does not take over how many cores sbatch was asked for.
        "srun_args": ["--kill-on-bad-exit=1", f"--cpus-per-task={settings.cpus}"],
        "additional_parameters": {
            name: value
            for name, value in ({"requeue": True} | settings.sbatch).items()
            if value is not False  # an option that is left out
        },
        **{name: value for name, value in given.items() if value is not None},
    }


def script(submission: Submission, plan: ArrayPlan) -> str:
    """The sbatch script of an array, as submitit writes it; its dependencies have no number yet."""
    from submitit.slurm.slurm import _make_sbatch_string

    numbers = {name: f"<{name}>" for name in plan.after}
    options = sbatch_options(submission, plan, numbers)
    count = len(plan.elements) if len(plan.elements) > 1 else None
    python = submission.settings.python or _this_python()
    folder = logs_of(submission)
    command = f"{python} -u -m submitit.core._submit {shlex.quote(str(folder))}"
    return str(_make_sbatch_string(command=command, folder=folder, map_count=count, **options))


def _this_python() -> str:
    import sys

    return shlex.quote(sys.executable)


def _on_path() -> str:
    """The line of shell by which a job finds this copy of the project, wherever it starts."""
    return f"export PYTHONPATH={shlex.quote(str(PROJECT))}${{PYTHONPATH:+:$PYTHONPATH}}"


def _refusal(said: str, plan: ArrayPlan, submission: Submission) -> str:
    lines = [line.strip() for line in said.splitlines() if "sbatch: error" in line]
    reason = "; ".join(line.removeprefix("sbatch: error: ") for line in lines) or said.strip()
    refused = f"sbatch refused {plan.name}: {' '.join(reason.split())}"
    before = len(submission.arrays) - 1
    if not before:
        return f"{refused}. Nothing is submitted; correct it and submit again"
    return (
        f"{refused}. {counted(before, 'array')} before it are submitted; submit again for the rest"
    )
