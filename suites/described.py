"""Methods described from their own files: name, citation, stages, and every knob."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from itmc.training.method import Method, Node

# What loads torch is imported where it is needed, so that wrong usage is told at once.

COMPRESSION = 0.5
"""At which recipes are unfolded."""


@dataclass(frozen=True)
class Knob:
    """A hyper-parameter."""

    name: str
    type: str
    choices: tuple[Any, ...]
    """All allowed values; empty where the type and its bounds say it."""
    bounds: Mapping[str, float]
    """By ``ge``, ``gt``, ``le`` and ``lt``."""
    default: Any
    description: str

    @property
    def allowed(self) -> str:
        """The values it may take, in a few words: ``float in [0, 1)``."""
        if self.choices:
            return " | ".join(map(value, self.choices))
        if self.type == "bool":
            return "true | false"
        low = next((key for key in ("ge", "gt") if key in self.bounds), None)
        high = next((key for key in ("le", "lt") if key in self.bounds), None)
        signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
        if low and high:
            opening, closing = "[" if low == "ge" else "(", "]" if high == "le" else ")"
            ends = f"{self.bounds[low]:g}, {self.bounds[high]:g}"
            return f"{self.type} in {opening}{ends}{closing}"
        return " ".join(
            [self.type, *(f"{signs[key]} {self.bounds[key]:g}" for key in (low, high) if key)]
        )


@dataclass(frozen=True)
class Phase:
    """A stage of a recipe."""

    title: str
    kind: str
    about: str
    networks: tuple[str, ...]
    """Whose network it trains: the student's, the teacher's, or one for both."""
    guided: bool
    """Whether a teacher guides it."""
    shared_with: tuple[str, ...]
    """The other methods that have this stage; with the same knobs it is computed once for all."""


@dataclass(frozen=True)
class Change:
    """A hyper-parameter in which an ablation differs from its base."""

    name: str
    base: Any
    own: Any


@dataclass(frozen=True)
class Entry:
    """All there is to say about a method."""

    name: str
    group: str
    label: str
    citation: str
    compressed: bool
    guided: bool
    base: str
    """The method of which this is an ablation, or empty."""
    changes: tuple[Change, ...]
    without: tuple[str, ...]
    """Hyper-parameters of the base that an ablation lacks."""
    about: str
    stages: tuple[Phase, ...]
    hyper_parameters: tuple[Knob, ...]


def described(chosen: Sequence[type[Method]]) -> list[Entry]:
    """Everything about the methods ``chosen``, in their order."""
    from itmc.training.method import methods

    users: dict[str, list[str]] = {}  # methods by the identity of the stages that others may share
    for known in methods().values():
        for key in _shareable(known):
            users.setdefault(key, []).append(known.name)
    return [_entry(known, users) for known in chosen]


def value(given: Any) -> str:
    """A value as ``--set`` takes it."""
    if isinstance(given, float):
        return f"{given:g}"
    return given if isinstance(given, str) else json.dumps(given)


def _entry(known: type[Method], users: Mapping[str, Sequence[str]]) -> Entry:
    from itmc.training.method import method

    fields = known.Knobs.model_fields
    base = method(known.base).Knobs.model_fields if known.base else {}
    return Entry(
        name=known.name,
        group=known.group,
        label=known.label,
        citation=known.citation,
        compressed=known.compressed,
        guided=known.guided,
        base=known.base,
        changes=tuple(
            Change(name, base[name].get_default(), own) for name, own in known.changes.items()
        ),
        without=tuple(name for name in base if name not in fields),
        about=inspect.getdoc(known) or "",
        stages=tuple(_phases(known, users)),
        hyper_parameters=tuple(_knob(name, field) for name, field in fields.items()),
    )


def _knob(name: str, field: FieldInfo) -> Knob:
    union = get_origin(field.annotation) in (Union, UnionType)
    kinds = get_args(field.annotation) if union else (field.annotation,)
    choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    names = [type(choice).__name__ for choice in choices]
    names += ["null" if kind is NoneType else getattr(kind, "__name__", str(kind))
              for kind in kinds if get_origin(kind) is not Literal]  # fmt: skip
    bounds = {
        key: bound
        for constraint in field.metadata
        for key in ("ge", "gt", "le", "lt")
        if (bound := getattr(constraint, key, None)) is not None
    }
    return Knob(
        name=name,
        type=" or ".join(dict.fromkeys(names)),
        choices=(*choices, None) if choices and NoneType in kinds else tuple(choices),
        bounds=bounds,
        default=field.get_default(call_default_factory=True, validated_data={}),
        description=_flowing(field.description or ""),
    )


def _phases(known: type[Method], users: Mapping[str, Sequence[str]]) -> Iterator[Phase]:
    """The stages in order; one that student and teacher share comes once."""
    shareable = _shareable(known)
    for key, nodes in _stages(known).items():
        stage = nodes[0].stage
        others = users[key] if key in shareable else ()
        roles = {node.network for node in nodes}
        yield Phase(
            title=stage.title(nodes[0].knobs),
            kind=stage.kind,
            about=paragraphs(inspect.getdoc(stage) or "")[0],
            networks=tuple(role for role in ("student", "teacher") if role in roles),
            guided=stage.guided,
            shared_with=tuple(name for name in others if name != known.name),
        )


def _shareable(known: type[Method]) -> list[str]:
    """Identities of the stages that are computed once for all methods which have them.

    As in ``suites.plan``: the last stage of a method that compresses is a run's own.
    """
    keys = list(_stages(known))
    return keys[:-1] if known.compressed else keys


def _stages(known: type[Method]) -> dict[str, list[Node]]:
    """The nodes of the recipe by identity, inputs first, the teacher being of the same backbone."""
    from itmc.training.adapt import Adapt
    from itmc.training.method import Setting, Start, knobs_of

    start = Start(
        Adapt.node(None, network="student", pretraining=True),
        Adapt.node(None, network="teacher", pretraining=True),
    )
    compression = COMPRESSION if known.compressed else 0.0
    last = known.recipe(knobs_of(known.name, known.changes), compression, start)
    stages: dict[str, list[Node]] = {}
    for node in last.walk():
        stages.setdefault(node.identity(Setting({}, None)), []).append(node)
    return stages


def paragraphs(text: str) -> list[str]:
    """Paragraphs of a docstring, without the line breaks of the file."""
    return [_flowing(paragraph) for paragraph in text.split("\n\n")]


def _flowing(text: str) -> str:
    return " ".join(text.replace("``", "`").split())
