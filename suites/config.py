"""Configuration of suites and runs: validated, resolved, and hashed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

import baselines  # noqa: F401 - registers the baselines
import itmc.ablations
import itmc.itmc  # noqa: F401 - registers ITMC
from itmc.config import Frozen, canonical, text_digest
from itmc.domains.augment import DataConfig
from itmc.domains.catalog import DatasetSpec, dataset
from itmc.domains.own import OwnDataset, own_dataset
from itmc.domains.store import Kind
from itmc.errors import UsageError
from itmc.networks.build import NetworkConfig
from itmc.networks.kernels import Kernels
from itmc.training.config import TrainingConfig
from itmc.training.method import Node, Setting, knobs_of, method, settings_of
from suites.shared import recipe, setting

SUITES = Path(__file__).parent
_OWN = "own"
"""What suites of the user's own data extend: all but the dataset."""
T = TypeVar("T")
Protocol = Literal["strict", "paper"]
"""``strict``: ours, the headline being the last epoch. ``paper``: what the papers' own code did, to
compare with their tables: the best epoch by target accuracy, no source held out, 10-crop for CDAN.
Never mixed in one table."""


def _distinct(values: list[T]) -> list[T]:
    if not values:
        raise ValueError("at least one is needed")
    return list(dict.fromkeys(values))


def _shares(values: list[float]) -> list[float]:
    for value in values:
        if not 0 <= value < 1:
            raise ValueError(f"{value} is outside [0, 1)")
    return values


def _not_negative(values: list[int]) -> list[int]:
    for value in values:
        if value < 0:
            raise ValueError(f"{value} is negative")
    return values


def _which_dataset(value: Any) -> str:
    return "name" if isinstance(value, str) else "own"


AnyDataset = Annotated[
    Annotated[str, Tag("name")] | Annotated[OwnDataset, Tag("own")], Discriminator(_which_dataset)
]
"""A dataset of the catalog by its name, or the user's own."""
Tasks = Annotated[list[str], AfterValidator(_distinct)]
_Number = Annotated[float, Field(allow_inf_nan=True)]  # told with the range that is allowed
Compressions = Annotated[list[_Number], AfterValidator(_shares), AfterValidator(_distinct)]
Seeds = Annotated[list[int], AfterValidator(_not_negative), AfterValidator(_distinct)]


class SuiteNetwork(Frozen):
    """The network of a suite; classes and image size follow from data."""

    backbone: str
    weights: str = "none"
    bottleneck: int = Field(256, ge=1)


class SuiteTeacher(Frozen):
    """A teacher of another architecture than the student's; its bottleneck is as wide."""

    backbone: str
    weights: str = "none"


class TuningConfig(Frozen):
    """How hyper-parameters are chosen: the same effort for all methods, and no target label.

    Each method has a grid of as many points as every other, its trials; each trial runs on the
    same tasks, compressions and seeds; the one with the best mean of the criterion, after the last
    epoch, is taken. ``python -m suites.tune SUITE`` does it.
    """

    tasks: Tasks
    """None of those that the suite reports by default."""
    compression: Compressions
    seeds: Seeds
    criterion: Literal["source_validation", "entropy", "infomax", "snd", "dev"]
    """The label-free validator."""
    trials: int = Field(ge=1)
    grids: dict[str, dict[str, list[Any]]]
    """By method, the values of each hyper-parameter; all combinations, of which there are
    ``trials``, are tried."""

    @model_validator(mode="after")
    def _equal_effort(self) -> Self:
        for name, values in self.grids.items():
            count = math.prod(len(choices) for choices in values.values())
            if count != self.trials:
                raise ValueError(f"the grid of {name} has {count} points; all have {self.trials}")
        return self


class SuiteConfig(Frozen):
    """A suite: what its YAML says, and what the command line changed."""

    name: str
    dataset: AnyDataset
    tasks: str | list[str] = "all"
    compression: Compressions
    seeds: Seeds
    network: SuiteNetwork
    teacher: SuiteTeacher | None = None
    """Guides the student in the methods that have a teacher; by default the student's own backbone,
    unpruned, does."""
    data: DataConfig
    training: TrainingConfig
    protocol: Protocol = "strict"
    share: bool = True
    """Whether runs share the stages that are equal; off, to measure what that saves."""
    compare: list[str] = Field(default=["itmc", "baselines"])
    """Methods and groups that run unless the command line names others."""
    methods: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Hyper-parameters of methods that differ from their defaults in this suite."""
    tuning: TuningConfig | None = None
    """How those were chosen."""

    @field_validator("tasks")
    @classmethod
    def _some(cls, value: str | list[str]) -> str | list[str]:
        if not value:
            raise ValueError("at least one task is needed")
        return value

    @cached_property
    def spec(self) -> DatasetSpec:
        """What its dataset is. Raises UsageError where there is no such dataset."""
        return (
            own_dataset(self.dataset)
            if isinstance(self.dataset, OwnDataset)
            else dataset(self.dataset)
        )

    def asked_tasks(self) -> list[tuple[str, str]]:
        """``(source, target)`` of its tasks, each once."""
        written = [self.tasks] if isinstance(self.tasks, str) else self.tasks
        if written == ["all"]:
            return list(self.spec.tasks())
        return list(dict.fromkeys(self.spec.task(text) for text in written))

    @model_validator(mode="after")
    def _scored(self) -> Self:
        held_out = self.data.source_holdout > 0 and self.protocol == "strict"
        of_source = ("source_validation", "dev")
        if self.tuning is not None and self.tuning.criterion in of_source and not held_out:
            raise ValueError(
                f"tuning.criterion {self.tuning.criterion!r} needs a part of the source held out: "
                "data.source_holdout above 0, and the protocol strict"
            )
        return self


class RunConfig(Frozen):
    """One run, resolved: everything that determines its result, and nothing about the machine."""

    suite: str
    protocol: Protocol
    dataset: str
    digests: dict[str, str]
    """Of the decoded images and labels, by domain."""
    images: dict[str, int]
    """How many are trained on, by domain."""
    classes: tuple[str, ...]
    stored_size: int
    """Side of the stored images in pixels."""
    source: str
    target: str
    task_index: int
    """Where the task stands among those of the data, for tables: no part of the run's name, as one
    domain more moves it."""
    method: str
    knobs: dict[str, Any]
    compression: float
    seed: int
    network: NetworkConfig
    teacher: NetworkConfig | None = None
    """Where the method has a teacher, and it is another network."""
    data: DataConfig
    training: TrainingConfig
    alone: bool = False
    """Whether the run computes all of its stages for itself. Its result is the same."""

    @field_validator("training")
    @classmethod
    def _settled(cls, value: TrainingConfig) -> TrainingConfig:
        if value.precision == "auto":  # its name would then mean another result on each machine
            raise ValueError("precision auto is to be settled before a run is planned")
        return value

    @cached_property
    def key(self) -> str:
        """Name of the run's directory: the hash of configuration and code versions."""
        before, after = self._beside_seed
        run = f'{before},"seed":{self.seed},{after}'
        return text_digest(f'[{run},"{self.stage_key(self.recipe())}"]')[:16]

    @cached_property
    def _beside_seed(self) -> tuple[str, str]:
        """The run as canonical JSON: what stands before its seed, and what after it."""
        fields = self.model_dump(mode="json", exclude={"seed", "task_index"})
        before = canonical({name: value for name, value in fields.items() if name < "seed"})
        after = canonical({name: value for name, value in fields.items() if name > "seed"})
        return before.removesuffix("}"), after.removeprefix("{")

    def with_seed(self, seed: int) -> RunConfig:
        """This run with another seed: of a grid there may be 100,000, so it shares all it can."""
        other = self.model_copy(update={"seed": seed})
        for name in ("_last_stage", "_beside_seed"):  # where a cached property keeps its value
            other.__dict__[name] = getattr(self, name)
        return other

    @property
    def task(self) -> str:
        """The task as it is written: ``source->target``."""
        return f"{self.source}->{self.target}"

    @property
    def title(self) -> str:
        """The run in one line."""
        compression = f" c={self.compression:g}" if method(self.method).compressed else ""
        return f"{self.method} {self.task}{compression} seed {self.seed}"

    def recipe(self) -> Node:
        """The last stage of the run's method; the stages before it hang on it."""
        return self._last_stage

    @cached_property
    def _last_stage(self) -> Node:
        pretrained = self.network.pretrained, self.guide.pretrained
        return recipe(method(self.method), canonical(self.knobs), self.compression, *pretrained)

    @property
    def guide(self) -> NetworkConfig:
        """The teacher's network."""
        return self.teacher or self.network

    def network_of(self, node: Node) -> NetworkConfig:
        """The unpruned network of a stage."""
        return self.guide if node.network == "teacher" else self.network

    def stage_key(self, node: Node) -> str:
        """Name of a stage's directory."""
        return node.identity(self._setting)

    @cached_property
    def _setting(self) -> Setting:
        return setting(
            self.protocol, self.dataset, tuple(self.digests.items()), self.source, self.target,
            self.seed, self.data, self.training, self.network, self.teacher,
            owner=canonical([self.method, self.knobs, self.compression]) if self.alone else None,
        )  # fmt: skip


class Places(Frozen):
    """Where things are on this machine. None of it changes a result beyond rounding: another
    device, layout or number of threads, a compiler or other kernels, sums in another order."""

    out: Path
    data: Path
    """Folder of the dataset's prepared domains."""
    origin: Path | None = None
    """The user's folder or archive to prepare them from."""
    kind: Kind | None = None
    """How to store what is not prepared yet; what is there is taken as it is, if ``None``."""
    weights_file: Path | None = None
    teacher_weights_file: Path | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = Field(1, ge=1)
    channels_last: bool = True
    compile: bool = False
    kernels: Kernels = "torch"
    judge_teacher: bool = False
    """Whether a teacher is judged after each epoch beside its student: for looking only."""
    asked: tuple[str, ...] = ()
    """Module and words of the command that asked for the grid, as far as they determine results,
    without what tells its runs apart; ``suites.asked`` makes a run's own command of them."""


def suite_names() -> list[str]:
    """The suites that come with the project."""
    return sorted(path.stem for path in SUITES.glob("*.yaml") if path.stem != _OWN)


def load_suite(given: str, changes: Mapping[str, Any]) -> SuiteConfig:
    """The suite called ``given``, or the YAML file or folder of images, with ``changes`` on top.

    ``changes`` has the layout of the YAML; mappings are merged, all else replaced. So it is with a
    YAML that ``extends`` another suite.
    """
    content = {"name": Path(given).resolve().stem, **_content(given)}
    try:
        suite = SuiteConfig.model_validate(_merged(content, changes))
    except ValidationError as error:
        raise UsageError(f"suite {given!r}: {explain(error)}") from error
    for name in suite.methods:
        knobs_of(name, settings_of(name, suite.methods))
    return suite


def _content(given: str) -> dict[str, Any]:
    """What the YAML of a suite says, on top of the suite that it extends."""
    path = Path(given) if given.endswith((".yaml", ".yml")) else SUITES / f"{given}.yaml"
    if not path.is_file() and Path(given).is_dir():
        return {**_content(_OWN), "dataset": {"path": given}}
    if not path.is_file() and "/" in given:
        raise UsageError(f"{given!r} does not exist; give a suite's YAML or a folder of images")
    if not path.is_file():
        raise UsageError(
            f"unknown suite {given!r}; allowed: {', '.join(suite_names())}, a YAML file, or a "
            "folder of your own images, <domain>/<class>/*"
        )
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"suite file {str(path)!r} is no valid YAML: {reason}") from error
    if not isinstance(content, dict):
        raise UsageError(f"suite file {str(path)!r} holds no mapping of keys to values")
    own = content.get("dataset")
    if isinstance(own, dict) and isinstance(own.get("path"), str):
        own["path"] = str(path.parent / own["path"])  # as the file means it, wherever it is read
    base = content.pop("extends", None)
    if base is None:
        return content
    if base not in (allowed := [*suite_names(), _OWN]):
        raise UsageError(
            f"suite file {str(path)!r}: extends = {base!r}; allowed: {', '.join(allowed)}"
        )
    return _merged(_content(base), content)


def explain(error: ValidationError) -> str:
    """The first complaint of pydantic in one line: the key, what was given, what is allowed."""
    first = error.errors()[0]
    if not first["loc"]:  # of several keys together, which the message names
        return str(first["msg"]).removeprefix("Value error, ")
    # Which kind of dataset was meant is no key that anybody wrote.
    tagged = first["loc"][0] == "dataset" and len(first["loc"]) > 1
    *parents, key = map(str, [first["loc"][0], *first["loc"][1 + tagged :]])
    if first["type"] == "extra_forbidden":
        model: Any = SuiteConfig
        for part in parents:
            model = _model_in(model.model_fields[part].annotation)
        return (
            f"unknown key {'.'.join([*parents, key])!r}; allowed: {', '.join(model.model_fields)}"
        )
    name, reason = ".".join([*parents, key]), first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"the key {name!r} is missing"
    return f"{name} = {first['input']!r}: {reason}"


def _model_in(annotation: Any) -> Any:
    """The model of keys among the alternatives of a field."""
    if hasattr(annotation, "model_fields"):
        return annotation
    return next((m for a in get_args(annotation) if (m := _model_in(a)) is not None), None)


def _merged(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), dict):
            merged[key] = _merged(merged[key], value)
        elif value != {}:  # which changes nothing, and so hides no mistake in the YAML
            merged[key] = value
    return merged
