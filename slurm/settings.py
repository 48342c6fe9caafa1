"""What a job asks of the cluster: from a YAML, and from options that override it."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from itmc.config import Frozen
from itmc.errors import UsageError

CLUSTERS = Path(__file__).parent / "clusters"
ClusterKind = Literal["slurm", "local", "debug"]
CLUSTER_KINDS: tuple[ClusterKind, ...] = ("slurm", "local", "debug")
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<rest>\d+(?::\d+){0,2})")
_BARE_TIME = re.compile(r"^time:\s*\d+:", re.MULTILINE)
_MEMORY = re.compile(r"\d+(?:[KMGT]B?)?", re.IGNORECASE)


def minutes(given: Any) -> Any:
    """SLURM's ways to write a time as whole minutes, seconds rounded up.

    ``90`` is minutes, ``2:30:00`` hours, ``1-12`` days and hours, ``1-12:30`` with minutes.
    """
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    found = _TIME.fullmatch(str(given).strip())
    if found is None:
        raise ValueError("a time is written MINUTES, MM:SS, HH:MM:SS, D-HH or D-HH:MM[:SS]")
    parts = [int(part) for part in found["rest"].split(":")]
    if found["days"] is not None:
        hours, mins, seconds = (*parts, 0, 0)[:3]
        hours += 24 * int(found["days"])
    elif len(parts) == 3:
        hours, mins, seconds = parts
    else:
        hours, mins, seconds = 0, *(*parts, 0)[:2]
    return 60 * hours + mins + math.ceil(seconds / 60)


def _lines(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


def _memory(given: Any) -> Any:
    if given is not None and not _MEMORY.fullmatch(str(given)):
        raise ValueError("memory is written as 16GB, 500M or megabytes, in whole numbers")
    return None if given is None else str(given)


class ClusterSettings(Frozen):
    """What every job of a grid asks for. The names are those of sbatch."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time: Annotated[int, BeforeValidator(minutes)] = Field(240, ge=1)
    """Limit of a job, in minutes. A run that takes longer is stopped with its checkpoint before it
    is over, and goes on in a further job. Without a cluster nothing is limited."""
    nodes: int = Field(1, ge=1)
    """Of a single run: with more than one process (nodes times GPUs) they train it together."""
    gpus_per_node: int | None = Field(None, ge=0)
    """By default 1 on a cluster; without a cluster, one where the machine has any."""
    cpus_per_task: int | None = Field(None, ge=1)
    """By default one for each of ``runs_per_job``."""
    mem: Annotated[str | None, BeforeValidator(_memory)] = None
    constraint: str | None = None
    array_parallelism: int | None = Field(None, ge=1)
    """Jobs at once: by default as many as the cluster gives, and without a cluster as many as
    cores or GPUs allow."""
    runs_per_job: int = Field(1, ge=1)
    """Runs side by side in one job: on one GPU, or one core each."""
    setup: Annotated[list[str], BeforeValidator(_lines)] = Field(default_factory=list)
    """Lines of shell before a job starts, such as ``module load cuda``."""
    signal_seconds: int = Field(120, ge=10)
    """How long before its time limit a job is told to write its checkpoint."""
    sbatch: dict[str, str | int | bool] = Field(default_factory=dict)
    """Further options of sbatch, by their long names, such as ``exclude: node7``."""
    python: str | None = None
    """Command that starts Python in a job, such as one in a container; by default this Python."""
    tflops: float | None = Field(None, gt=0)
    """What one run makes of its GPU or cores, in 10^12 floating-point operations a second: to
    estimate how long a grid takes before anything of it was measured. By default 5 on a GPU and
    0.03 on a core, which are orders of magnitude and no more."""

    @model_validator(mode="after")
    def _one_run_or_many(self) -> Self:
        if self.runs_per_job > 1 and self.nodes > 1:
            raise ValueError(
                f"runs_per_job {self.runs_per_job} packs several runs into one job, nodes "
                f"{self.nodes} spreads one run over several: choose one of the two"
            )
        if self.runs_per_job > 1 and (self.gpus_per_node or 0) > 1:
            raise ValueError(
                f"runs_per_job {self.runs_per_job} packs several runs on one GPU, but "
                f"gpus_per_node is {self.gpus_per_node}: choose 1, or runs_per_job 1"
            )
        return self

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        if 60 * self.time <= self.signal_seconds:
            raise ValueError(
                f"a --time of {self.time} min is over before a job can be told to stop, "
                f"{self.signal_seconds} s before the end: give it longer, or a smaller "
                "signal_seconds in the cluster file"
            )
        return self

    @property
    def assumed_tflops(self) -> float:
        """``tflops``, or what stands for it where it is not given."""
        return self.tflops or (5.0 if self.gpus_per_node else 0.03)

    @property
    def cpus(self) -> int:
        """Cores of a task."""
        return self.cpus_per_task or self.runs_per_job

    @property
    def tasks_per_node(self) -> int:
        """Processes of a job on each node: one a GPU."""
        return max(1, self.gpus_per_node or 0)

    @property
    def processes(self) -> int:
        """Processes that train one run together."""
        return self.nodes * self.tasks_per_node


# By option of the command: what it is. The names are those of the settings.
_OPTIONS: dict[str, str] = {
    "partition": "partition of the cluster",
    "account": "account to charge",
    "qos": "quality of service",
    "time": "limit of a job: minutes, HH:MM:SS or D-HH:MM (default 240; longer runs go on in a "
    "further job)",
    "nodes": "nodes that train one run together (default 1)",
    "gpus-per-node": "GPUs of a job on each node (default 1; 0: a CPU cluster)",
    "cpus-per-task": "cores of a job (default: one a run)",
    "mem": "memory of a job, such as 16GB",
    "constraint": "features that nodes must have",
    "array-parallelism": "jobs at once (default: as many as there is room for)",
    "runs-per-job": "runs side by side in one job (default 1)",
}
_LISTS = {"setup": "a line of shell before a job starts, such as 'module load cuda'"}


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """The settings, each as an option, and the YAML that holds them."""
    group = parser.add_argument_group("cluster")
    group.add_argument(
        "--cluster-file", metavar="NAME",
        help=f"settings as YAML: {', '.join(cluster_names())} or a file; options override it",
    )  # fmt: skip
    for name, meaning in _OPTIONS.items():
        group.add_argument(f"--{name}", metavar="X", help=meaning)
    for name, meaning in _LISTS.items():
        group.add_argument(f"--{name}", action="append", metavar="LINE", help=meaning)


def add_kind_option(parser: argparse.ArgumentParser) -> None:
    """Where jobs run."""
    parser.add_argument(
        "--cluster", choices=CLUSTER_KINDS, default="slurm",
        help="slurm; local: processes of this machine; debug: this process (default: %(default)s)",
    )  # fmt: skip


def given_options(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given as options."""
    names = [name.replace("-", "_") for name in (*_OPTIONS, *_LISTS)]
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def settings_of(
    options: argparse.Namespace, base: Mapping[str, Any] | None = None
) -> ClusterSettings:
    """What ``options`` ask for, on top of their YAML, else on top of ``base``.

    Raises UsageError that names the option or key, what was given and what is allowed.
    """
    held = dict(base or {})
    if options.cluster_file is not None:
        held = _read(options.cluster_file)
    given = given_options(options)
    try:
        return ClusterSettings.model_validate({**held, **given})
    except ValidationError as error:
        raise UsageError(_complaint(error, given)) from error


def cluster_names() -> list[str]:
    """The settings that come with the project."""
    return sorted(path.stem for path in CLUSTERS.glob("*.yaml"))


def _read(name: str) -> dict[str, Any]:
    path = Path(name) if name.endswith((".yaml", ".yml")) else CLUSTERS / f"{name}.yaml"
    if not path.is_file():
        raise UsageError(
            f"--cluster-file {name!r}: there is no such file; allowed: "
            f"{', '.join(cluster_names())}, or a YAML file"
        )
    try:
        text = path.read_text()
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"--cluster-file {name!r} is no valid YAML") from error
    if _BARE_TIME.search(text):
        raise UsageError(
            f"--cluster-file {name!r}: write the time in quotes; YAML takes 8:00:00 for a number"
        )
    if not isinstance(content, dict):
        raise UsageError(f"--cluster-file {name!r} holds no mapping of keys to values")
    return content


def _complaint(error: ValidationError, given: Mapping[str, Any]) -> str:
    """The first complaint in one line."""
    first = error.errors()[0]
    reason = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return reason
    key = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        allowed = ", ".join(ClusterSettings.model_fields)
        return f"unknown cluster setting {key!r}; allowed: {allowed}"
    name = f"--{key.replace('_', '-')}" if key in given else f"cluster setting {key}"
    return f"{name} {first['input']!r}: {reason}"
