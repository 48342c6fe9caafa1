"""``python -m suites.methods`` as a user calls it: complete, readable, and never out of date."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from typing import Any, Literal

import pytest
from pydantic import Field
from rich.console import Console

from itmc.config import Frozen
from itmc.training.method import GROUPS, method, methods
from suites import (  # config registers all methods
    config,
    described,
    methods as command,
    methods_page,
)
from tests.suites.conftest import REPOSITORY, Answer, Call

assert config
NAMES = list(methods())
ABLATIONS = [name for name, known in methods().items() if known.base]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """The command in this process, which saves its imports."""

    def answer(*arguments: str) -> Answer:
        capfd.readouterr()
        code = command.main(arguments)
        said = capfd.readouterr()
        return Answer(code, said.out, said.err)

    return answer


@pytest.fixture(scope="module")
def entries() -> dict[str, described.Entry]:
    return {entry.name: entry for entry in described.described(list(methods().values()))}


def flowing(text: str) -> str:
    """``text`` without the line breaks and marks of its file."""
    return " ".join(text.replace("``", "`").split())


def block(text: str, name: str) -> str:
    """What a plain text says of one method."""
    (found,) = re.findall(rf"^{name}: .*?(?=\n\n\S+: |\Z)", text, re.MULTILINE | re.DOTALL)
    return str(found)


def test_every_method_is_listed_in_the_order_of_the_groups(call: Call) -> None:
    answer = call()
    assert answer.code == 0 and answer.err == "" and "\x1b" not in answer.out
    heads = [line.split(":")[0] for line in answer.out.splitlines() if line in GROUPS
             or line.startswith("ablations: ")]  # fmt: skip
    assert heads == list(GROUPS)
    listed = [line for line in answer.out.splitlines() if re.match(r"  \S", line)]
    assert [line.split()[0] for line in listed] == NAMES
    for name, line in zip(NAMES, listed, strict=True):
        assert method(name).label in line
        assert method(name).citation in (answer.out if name in ABLATIONS else line)


def test_the_list_shows_defaults_and_of_ablations_what_they_change(call: Call) -> None:
    text = call().out
    line = "teacher=dan, teacher_weight=1, min_width=2, min_share=0.1, round_to=1"
    assert (
        f" {line}, layer_scale=mean, cost_aware=none, criterion=taylor, temperature=4, alpha=0.9\n"
        in text
    )
    assert re.search(r"itmc_no_ramp +ITMC, no ramp on D +ramp=false \(itmc: true\)\n", text)
    assert re.search(r"tkd_only +TKD only +TKD without ACP: the student is narrowed", text)


def test_every_hyper_parameter_has_a_description() -> None:
    lacking = {
        f"{owner.__module__}.{owner.__qualname__}.{key}"
        for known in methods().values()
        for key, field in known.Knobs.model_fields.items()
        if not (field.description or "").strip()
        for owner in known.Knobs.__mro__
        if key in vars(owner).get("__annotations__", {})
    }
    assert lacking == set()


def test_every_hyper_parameter_is_shown_in_full(call: Call) -> None:
    text = call(*NAMES).out
    assert "\x1b" not in text
    for name, known in methods().items():
        shown = block(text, name)
        assert known.citation in shown and flowing(known.__doc__ or "") in flowing(shown)
        for key, field in known.Knobs.model_fields.items():
            default = described.value(field.default)
            (line,) = re.findall(rf"^  {key} +{re.escape(default)}  .*$", shown, re.MULTILINE)
            assert line.endswith(flowing(field.description or ""))


def test_types_ranges_and_choices() -> None:
    class Knobs(Frozen):
        share: float = Field(0.5, ge=0, lt=1)
        factor: float = Field(1 / 12, gt=0)
        at_most: int = Field(3, le=4)
        free: int = 1
        on: bool = True
        kind: Literal["a", "b"] | None = None
        steps: int | None = Field(None, ge=1)
        names: list[str] = Field(default_factory=list)

    knobs = [described._knob(name, field) for name, field in Knobs.model_fields.items()]
    assert [(knob.allowed, described.value(knob.default)) for knob in knobs] == [
        ("float in [0, 1)", "0.5"),
        ("float > 0", "0.0833333"),
        ("int <= 4", "3"),
        ("int", "1"),
        ("true | false", "true"),
        ("a | b | null", "null"),
        ("int or null >= 1", "null"),
        ("list", "[]"),
    ]


def test_json_is_the_registry(call: Call) -> None:
    answer = call("--format", "json")
    assert answer.code == 0
    told = json.loads(answer.out)
    assert [entry["name"] for entry in told] == NAMES
    for entry in told:
        known = method(entry["name"])
        for key in ("group", "label", "citation", "compressed", "guided", "base"):
            assert entry[key] == getattr(known, key)
        assert flowing(entry["about"]) == flowing(known.__doc__ or "")
        assert {change["name"]: change["own"] for change in entry["changes"]} == known.changes
        knobs = {knob["name"]: knob for knob in entry["hyper_parameters"]}
        assert list(knobs) == list(known.Knobs.model_fields)
        assert {key: knob["default"] for key, knob in knobs.items()} == known.Knobs().model_dump()
        schema = known.Knobs.model_json_schema()["properties"]
        for key, knob in knobs.items():
            assert knob["choices"] == schema[key].get("enum", [])
            assert knob["bounds"] == bounds(schema[key])
            assert knob["description"] == flowing(schema[key].get("description", ""))


def bounds(schema: dict[str, Any]) -> dict[str, float]:
    keys = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
    return {ours: schema[theirs] for ours, theirs in keys.items() if theirs in schema}


def test_what_is_named_is_shown_once_by_method_or_group(call: Call) -> None:
    def names(*arguments: str) -> list[str]:
        return [entry["name"] for entry in json.loads(call(*arguments, "--format", "json").out)]

    assert names("tcp", "kd") == names("tcp,kd", "kd") == ["kd", "tcp"]
    assert names("itmc") == ["itmc"]
    baselines = [name for name in NAMES if method(name).group == "baselines"]
    assert names("baselines", "kd") == baselines


def test_stages_and_who_shares_them(entries: dict[str, described.Entry]) -> None:
    first, adapted, last = entries["kd"].stages
    assert [first.title, adapted.title, last.title] == [
        "pretrain",
        "adapt by dan",
        "prune to c=0.5, distil",
    ]
    assert first.networks == adapted.networks == ("student", "teacher")
    assert set(first.shared_with) == set(NAMES) - {"kd"}
    assert {"dan", "itmc_lead_100", "tcp"} <= set(adapted.shared_with)
    assert not {"cdan", "itmc", "itmc_cdan", "itmc_lead_75"} & set(adapted.shared_with)
    assert last.networks == ("student",) and last.guided and last.shared_with == ()
    assert "CE(source)" in last.about
    for entry in entries.values():
        assert not entry.compressed or entry.stages[-1].shared_with == ()
        for phase in entry.stages:  # sharing is mutual
            for other in phase.shared_with:
                assert any(entry.name in theirs.shared_with for theirs in entries[other].stages)
    # A whole adapted network is a method of its own, and the start of others.
    assert "itmc_lead_100" in entries["dan"].stages[-1].shared_with
    _, lead, _ = entries["itmc"].stages
    assert lead.networks == ("student", "teacher") and "acp_only" in lead.shared_with
    _, teachers, _ = entries["itmc_initial_student"].stages
    assert teachers.networks == ("teacher",) and "itmc" in teachers.shared_with
    pruned = entries["prune_then_adapt"].stages[1]
    assert pruned.title == "prune to c=0.5, train on source" and pruned.shared_with == ()


def test_stages_in_words(call: Call) -> None:
    text = call("kd", "tcp", "source_only", "itmc").out
    assert (
        "  1  pretrain                student and teacher; shared with all other methods\n" in text
    )
    assert "  3  prune to c=0.5, distil  student, guided by the teacher; its own\n" in text
    assert re.search(r"2  adapt by dan +shared with dan, .*, kd, 1 ablation\n", block(text, "tcp"))
    assert re.search(r"2  adapt by dan .*; shared with \d\d ablations\n", block(text, "itmc"))
    assert "stages (from a shared start)\n" in block(text, "source_only")
    assert block(text, "source_only").rstrip().endswith("no hyper-parameters")


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations_show_base_and_change(name: str, entries: dict[str, described.Entry]) -> None:
    shown = io.StringIO()
    methods_page.show([entries[name]], Console(file=shown, width=10_000))
    known, text = method(name), shown.getvalue()
    assert re.search(rf"^  ablation of +{known.base} *$", text, re.MULTILINE)
    assert known.changes or entries[name].without
    base = method(known.base).Knobs.model_fields
    for key, own in known.changes.items():
        change = (
            f"{key}={described.value(own)} ({known.base}: {described.value(base[key].default)})"
        )
        assert change in text
        # Of one default: it differs where a suite has another D.
        assert (own == base[key].default) == (name == "itmc_dan")
    for key in entries[name].without:
        assert key in base and key not in known.Knobs.model_fields


@pytest.mark.parametrize("width", [80, 120, 160, 200])
def test_a_terminal_is_filled_and_nothing_is_cut_off(
    width: int, entries: dict[str, described.Entry]
) -> None:
    for shower in (methods_page.show_list, methods_page.show):
        texts = {}
        for columns in (width, 10_000):
            shown = io.StringIO()
            terminal = Console(file=shown, width=columns, force_terminal=True, highlight=False)
            shower(list(entries.values()), terminal)
            texts[columns] = re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue())
        assert max(map(len, texts[width].splitlines())) <= width
        assert "…" not in texts[width]
        # Cells are wrapped between words, and words are in other places then, but all there.
        wrapped, whole = (
            sorted(word.rstrip(":") for word in text.split() if word.strip(":─"))
            for text in texts.values()
        )
        assert wrapped == whole


def test_a_terminal_has_bold_names_and_its_width(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    text = call("kd").out
    assert text.startswith("\x1b[1mkd\x1b[0m: KD")
    assert max(map(len, re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines())) <= 90


def test_markdown_lists_and_shows(call: Call) -> None:
    page = call("--format", "markdown").out
    assert [line[3:] for line in page.splitlines() if line.startswith("## ")] == list(GROUPS)
    rows = re.findall(r"^\| `(\w+)` \| .* \|$", page, re.MULTILINE)
    assert rows == NAMES
    page = call("kd", "itmc_tau_1", "source_only", "--format", "markdown").out
    assert "## KD (`kd`)\n" in page
    assert "\n3. prune to c=0.5, distil (student, guided by the teacher; its own): (1" in page
    assert "\n| `cost_aware` | none \\| macs \\| latency | none | Rank channels by " in page
    assert "\n- ablation of: itmc\n- changes: temperature=1 (itmc: 4)\n" in page
    assert page.count("\n| `temperature` | float > 0 | ") == 2
    assert "\nNo hyper-parameters.\n" in page
    for line in page.splitlines():  # every row has the columns of its table
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["itmcc"], "unknown method 'itmcc' (did you mean itmc?); allowed: "),
        (["kd", "baseline"], "unknown method 'baseline' (did you mean baselines?); allowed: "),
        ([""], "no method is named; allowed: "),
        (["--format", "yaml"], "'yaml' (choose from 'text', 'markdown', 'json') (see --help)"),
        (["--speed"], "--speed (see --help)"),
    ],
)
def test_wrong_usage_is_one_line(call: Call, arguments: list[str], said: str) -> None:
    answer = call(*arguments)
    assert answer.code == 2 and answer.out == ""
    (line,) = answer.err.splitlines()
    assert line.startswith("suites.methods: ") and said in line


def test_a_process_of_its_own_writes_plain_text_and_a_reader_may_leave() -> None:
    piped = f"FORCE_COLOR=1 {sys.executable} -m suites.methods"
    script = f"set -o pipefail; {piped} kd; {piped} ablations | head -1"
    done = subprocess.run(
        ["bash", "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stderr == ""
    assert "\x1b" not in done.stdout
    assert done.stdout.startswith("kd: KD\n  group       baselines\n")
    assert done.stdout.splitlines()[-1].endswith(f": {method(ABLATIONS[0]).label}")
