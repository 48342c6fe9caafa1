"""The protocol of a method, and the one registry.

A method declares what it is (name, group, citation, typed hyper-parameters) and a recipe: the node
of its last stage, which names the stages before it. Nodes that are equal are computed once.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import ValidationError

from itmc.config import Canonical, Frozen, canonical, digest
from itmc.errors import UsageError
from itmc.training.config import TrainingConfig
from itmc.training.stage import Passes, Stage

GroupName = Literal["references", "baselines", "itmc", "ablations"]
GROUPS: tuple[GroupName, ...] = ("references", "baselines", "itmc", "ablations")


CORE_VERSION = 5
"""Raise it when a change of what all stages use (networks, losses, pruning, data) alters results:
nothing that was computed before is then taken for finished."""

Role = Literal["student", "teacher"]


@dataclass(frozen=True)
class Setting:
    """What determines the result of a stage besides its knobs and the stages before it.

    Each is a JSON-like value, or what ``canonical`` makes of one, which is written out once then.
    """

    common: Any
    """Data, task, training and seed."""
    student: Any
    """The student's unpruned network."""
    teacher: Any = None
    """The teacher's, where it is another."""
    known: dict[str, str] = field(init=False, default_factory=dict, compare=False, repr=False)
    """Identities of nodes under it, by ``Node.content``: the runs of a task and seed share many."""


@dataclass(frozen=True, eq=False)
class Node:
    """A stage with its hyper-parameters, and the stages whose networks it starts from, by role."""

    stage: type[Stage]
    knobs: Frozen
    inputs: Mapping[str, Node] = field(default_factory=dict)
    network: Role = "student"
    """Whose network the stage trains: the teacher may have another architecture."""

    def identity(self, setting: Setting) -> str:
        """Hash of everything that determines the result."""
        if self.content not in setting.known:
            setting.known[self.content] = self._hash(setting)
        return setting.known[self.content]

    @cached_property
    def content(self) -> str:
        """Hash of what the recipe says of the node and those before it, whatever the setting."""
        before = {role: node.content for role, node in self.inputs.items()}
        return digest([self.stage.kind, self.network, self._knobs, before])

    @cached_property
    def _knobs(self) -> Canonical:
        return canonical(self.knobs.model_dump(mode="json"))

    def _hash(self, setting: Setting) -> str:
        network = setting.student
        if self.network == "teacher" and setting.teacher is not None:
            network = setting.teacher
        return digest(
            {
                "kind": self.stage.kind,
                "version": [CORE_VERSION, self.stage.version],
                "knobs": self._knobs,
                "inputs": {role: node.identity(setting) for role, node in self.inputs.items()},
                "common": setting.common,
                "network": network,
                "guide": setting.teacher if self.stage.guided else None,
            }
        )[:16]

    def passes(self, training: TrainingConfig) -> Passes:
        """Estimated cost of this stage alone."""
        return self.stage.passes(self.knobs, training, self._kept_before())

    def domain_epochs(self, training: TrainingConfig) -> int:
        """Epochs of this stage alone, those that train on both domains counted twice."""
        return self.stage.length(self.knobs, training) * self.stage.domains(self.knobs)

    def paper_crops(self) -> int:
        """Crops to test each image with in the protocol ``paper``."""
        return self.stage.paper_crops(self.knobs, self._kept_before())

    def _kept_before(self) -> float:
        """Share of the unpruned MACs that the network has left which this stage trains."""
        before = self.inputs.get("student") or self.inputs.get("network")
        return 1.0 if before is None else before.stage.kept(before.knobs, before._kept_before())

    def walk(self) -> Iterator[Node]:
        """This node and all before it, inputs first."""
        for node in self.inputs.values():
            yield from node.walk()
        yield self


@dataclass(frozen=True)
class Start:
    """Where recipes begin: the shared pretraining, ``None`` with pretrained weights."""

    student: Node | None
    teacher: Node | None
    """That of the teacher's network, which by default is the student's own, unpruned."""


class Method(ABC):
    """One method of the benchmark. Subclass it in a file of ``baselines/`` and ``register`` it."""

    name: ClassVar[str]
    group: ClassVar[GroupName]
    label: ClassVar[str]
    citation: ClassVar[str]
    compressed: ClassVar[bool] = True
    """Whether it gives a compressed student; references do not, and run once a task and seed."""
    guided: ClassVar[bool] = False
    """Whether a teacher guides the student, which may then be another network."""
    base: ClassVar[str] = ""
    """The method of which this is an ablation: what a suite sets for it holds here too."""
    changes: ClassVar[Mapping[str, Any]] = {}
    """The hyper-parameters in which an ablation differs from its base."""

    Knobs: ClassVar[type[Frozen]] = Frozen
    """Hyper-parameters with the paper's defaults."""

    @classmethod
    @abstractmethod
    def recipe(cls, knobs: Any, compression: float, start: Start) -> Node:
        """The last stage; the stages before it hang on it."""

    @classmethod
    def adapted_by(cls, knobs: Any) -> str | None:
        """The discrepancy that brings the domains together: of the student, or of what it starts
        from. None where another loss does, which then has no name here."""
        stages = cls.recipe(knobs, 0.5, Start(None, None)).walk()
        named = [getattr(node.knobs, "discrepancy", None) for node in stages]
        return next((name for name in reversed(named) if name), None)


M = TypeVar("M", bound=type[Method])

_METHODS: dict[str, type[Method]] = {}


def register(method: M) -> M:
    """Class decorator: make ``method`` known by its name."""
    known = _METHODS.get(method.name)
    if known is not None and known.__qualname__ != method.__qualname__:
        raise ValueError(f"two methods are called {method.name!r}")
    _METHODS[method.name] = method
    return method


def methods() -> dict[str, type[Method]]:
    """All registered methods by name, in the order of the groups."""
    ordered = sorted(_METHODS.values(), key=lambda m: (GROUPS.index(m.group), m.name))
    return {method.name: method for method in ordered}


def method(name: str) -> type[Method]:
    """The method called ``name``; UsageError names what there is."""
    if name not in _METHODS:
        raise UsageError(_unknown_method(name))
    return _METHODS[name]


def selected(names: list[str]) -> list[type[Method]]:
    """Methods for a list of names and groups, each once, in the order of the groups."""
    if not names:
        raise UsageError(f"no method is named; allowed: {_allowed()}")
    wanted: set[str] = set()
    for name in names:
        members = {m.name for m in _METHODS.values() if m.group == name}
        if not members and name not in _METHODS:
            raise UsageError(_unknown_method(name))
        wanted |= members or {name}
    return [m for m in methods().values() if m.name in wanted]


def settings_of(name: str, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What a suite sets for the method ``name``: its own, on top of what its base has.

    So an ablation differs from its base in what it changes and nothing else.
    """
    chosen = method(name)
    inherited = {
        key: value
        for key, value in settings.get(chosen.base, {}).items()
        if key in chosen.Knobs.model_fields
    }
    return inherited | dict(chosen.changes) | dict(settings.get(name, {}))


def knobs_of(name: str, values: Mapping[str, Any]) -> Frozen:
    """The validated hyper-parameters of the method ``name``, defaults filled in."""
    model = method(name).Knobs
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            allowed = ", ".join(model.model_fields) or "none"
            raise UsageError(
                f"{name} has no hyper-parameter {key!r}; allowed: {allowed}"
            ) from error
        reason = first["msg"].removeprefix("Value error, ")
        where = f"{name}.{key}" if key else name
        raise UsageError(f"{where} = {first['input']!r}: {reason}") from error


def _unknown_method(name: str) -> str:
    close = difflib.get_close_matches(name, [*_METHODS, *_groups()], n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"unknown method {name!r}{hint}; allowed: {_allowed()}"


def _groups() -> list[str]:
    return sorted({m.group for m in _METHODS.values()}, key=GROUPS.index)


def _allowed() -> str:
    return f"{', '.join(methods())}, and the groups {', '.join(_groups())}"
