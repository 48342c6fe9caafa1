"""What ``suites.methods`` shows: descriptions of methods as text for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from suites.described import COMPRESSION, Entry, Phase, paragraphs, value

_WIDE = 120
"""Columns of a terminal from which on labels and types have columns of their own."""
_MORE = (
    "Values are defaults: a suite may set others (`methods:` in its YAML), and so does "
    "`--set NAME.KEY=VALUE`. `python -m suites.methods NAME` shows a method, or a group, in full."
)


def _settings(entry: Entry) -> str:
    """``key=default, ...`` for a line of a list; of an ablation what it changes."""
    if entry.changes:
        return _changes(entry)
    if entry.base:
        return paragraphs(entry.about)[0]
    return ", ".join(f"{knob.name}={value(knob.default)}" for knob in entry.hyper_parameters)


def _changes(entry: Entry) -> str:
    return ", ".join(
        f"{change.name}={value(change.own)} ({entry.base}: {value(change.base)})"
        for change in entry.changes
    )


def _facts(entry: Entry) -> dict[str, str]:
    """What a method is, in lines."""
    facts = {
        "group": entry.group,
        "citation": entry.citation,
        "compresses": "yes" if entry.compressed else "no",
        "teacher": "guides the student" if entry.guided else "none",
    }
    if entry.base:
        facts["ablation of"] = entry.base
    if entry.changes:
        facts["changes"] = _changes(entry)
    if entry.without:
        facts["without"] = ", ".join(entry.without)
    return facts


def _use(entry: Entry, phase: Phase) -> str:
    """Whose network a stage trains, and who else has the stage."""
    whose = " and ".join(phase.networks) + (", guided by the teacher" if phase.guided else "")
    return f"{whose}; {_sharing(phase)}" if entry.guided else _sharing(phase)


def _sharing(phase: Phase) -> str:
    from itmc.training.method import methods

    if not phase.shared_with:
        return "its own"
    known = methods()
    if len(phase.shared_with) == len(known) - 1:
        return "shared with all other methods"
    named = [name for name in phase.shared_with if known[name].group != "ablations"]
    if count := len(phase.shared_with) - len(named):
        named.append(f"{count} ablation{'s' if count > 1 else ''}")
    return f"shared with {', '.join(named)}"


def _unfolded(entry: Entry) -> str:
    """For what the stages are shown."""
    text = "from a shared start"
    if entry.compressed:
        text += f", at compression {COMPRESSION:g}"
    if entry.guided:
        text += "; a teacher of another backbone has stages of its own"
    return text


def _explained(phase: Phase) -> str:
    """What a stage does: its losses, of those that a method does not share with others."""
    return "" if phase.shared_with else phase.about


def _cited(group: Sequence[Entry]) -> str:
    """The citation that all of a group share, which then is told once; or empty."""
    citations = {entry.citation for entry in group}
    return citations.pop() if len(group) > 1 and len(citations) == 1 else ""


# Text


def show_list(entries: Sequence[Entry], console: Console) -> None:
    """A block a group; of a method its name, label, citation and hyper-parameters."""
    for name, members in groupby(entries, lambda entry: entry.group):
        group = list(members)
        common = _cited(group)
        console.print(Text.assemble((name, "bold"), f": {common}" if common else ""))
        wide = console.width >= _WIDE
        table = _table(3 if wide else 2)
        for entry in group:
            label, settings = Text(entry.label), Text(_settings(entry))
            body = settings if common else Text(entry.citation)
            cells = (label, body) if wide else (Text(": ").join((label, body)),)
            table.add_row(Text(entry.name, "bold"), *cells)
            if settings and not common:
                settings.stylize("dim")
                table.add_row(*[""] * len(cells), settings)
        _indented(table, console)
    console.print(Text(_MORE))


def show(entries: Sequence[Entry], console: Console) -> None:
    """Each method in full."""
    for index, entry in enumerate(entries):
        if index:
            console.rule() if console.is_terminal else console.print()
        _show(entry, console)


def _show(entry: Entry, console: Console) -> None:
    console.print(Text.assemble((entry.name, "bold"), f": {entry.label}"))
    facts = _table(2)
    for name, fact in _facts(entry).items():
        facts.add_row(Text(name, "dim"), Text(fact))
    _indented(facts, console)
    for paragraph in paragraphs(entry.about):
        _indented(Text(paragraph), console)
    console.print(Text.assemble(("stages", "bold"), f" ({_unfolded(entry)})"))
    stages = _table(3)
    for number, phase in enumerate(entry.stages, 1):
        stages.add_row(Text(str(number)), Text(phase.title), Text(_use(entry, phase)))
        if explained := _explained(phase):
            stages.add_row("", "", Text(explained, "dim"))
    _indented(stages, console)
    console.print(Text("hyper-parameters" if entry.hyper_parameters else "no hyper-parameters",
                       "bold"))  # fmt: skip
    wide = console.width >= _WIDE
    knobs = _table(4 if wide else 3)
    for knob in entry.hyper_parameters:
        allowed, description = Text(knob.allowed, "dim"), Text(knob.description)
        cells = Text(knob.name, "bold"), Text(value(knob.default))
        if wide:
            knobs.add_row(*cells, allowed, description)
        else:
            knobs.add_row(*cells, Text("\n").join((allowed, description)))
    if entry.hyper_parameters:
        _indented(knobs, console)


def _indented(what: RenderableType, console: Console) -> None:
    console.print(Padding(what, (0, 0, 1, 2), expand=False))


def _table(columns: int) -> Table:
    """A table without lines, of which nothing is cut off; the first column is of names."""
    names, *others = (Column(overflow="fold", no_wrap=index == 0) for index in range(columns))
    return Table.grid(names, *others, padding=(0, 2, 0, 0))


# Markdown


def overview(entries: Sequence[Entry]) -> str:
    """A page that lists the methods, a table a group."""
    parts = ["# Methods", _MORE]
    for name, members in groupby(entries, lambda entry: entry.group):
        group = list(members)
        what = "changes" if all(entry.base for entry in group) else "hyper-parameters"
        rows = [
            (f"`{entry.name}`", entry.label, entry.citation, _settings(entry)) for entry in group
        ]
        parts += [f"## {name}", _markdown_table(("name", "label", "citation", what), rows)]
    return _joined(parts)


def pages(entries: Sequence[Entry]) -> str:
    """A page with each method in full."""
    parts = ["# Methods"]
    for entry in entries:
        parts += [f"## {entry.label} (`{entry.name}`)", *_page(entry)]
    return _joined(parts)


def _page(entry: Entry) -> Iterator[str]:
    yield "\n".join(f"- {name}: {_escaped(fact)}" for name, fact in _facts(entry).items())
    yield from map(_escaped, paragraphs(entry.about))
    yield f"Stages, {_unfolded(entry)}:"
    explained = [(phase, _explained(phase)) for phase in entry.stages]
    yield "\n".join(
        f"{number}. {phase.title} ({_use(entry, phase)})" + (about and f": {_escaped(about)}")
        for number, (phase, about) in enumerate(explained, 1)
    )
    if not entry.hyper_parameters:
        yield "No hyper-parameters."
        return
    rows = [
        (f"`{knob.name}`", knob.allowed, value(knob.default), knob.description)
        for knob in entry.hyper_parameters
    ]
    yield _markdown_table(("hyper-parameter", "allowed", "default", "description"), rows)


def _markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [[_escaped(cell) for cell in row] for row in rows]
    lines = [heads, ["---"] * len(heads), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(text: str) -> str:
    """``text`` with nothing that Markdown takes for HTML or for the end of a cell."""
    for character in "|<":
        text = text.replace(character, f"\\{character}")
    return text


def _joined(parts: Sequence[str]) -> str:
    return "\n\n".join(parts) + "\n"
