"""Looks: a method is drawn alike everywhere, and no two methods of a plot alike."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations
from pathlib import Path

from hypothesis import given, strategies as st

from itmc.training.method import methods as registered
from results.looks import look, looks
from suites import config  # noqa: F401 - registers all methods
from tests.results.factory import REFERENCES

ROOT = Path(__file__).parents[2]
COMPRESSED = (
    *("itmc", "kd", "dkd", "dan_student", "cdan_student", "prune_then_adapt"),
    *("adapt_then_prune", "tcp", "kd_stda", "mobileda", "admp", "mean_teacher", "mcc_student"),
)
ABLATIONS = ("tkd_only", "acp_only", *(f"itmc_part_{number}" for number in range(30)))
names = st.lists(st.text("abkd_[=]", min_size=1, max_size=6), max_size=60)


def points(methods: list[str] | tuple[str, ...]) -> set[tuple[str, str]]:
    """Colours and markers as drawn together."""
    return {(look.colour, look.marker) for look in looks(methods).values()}


def test_a_look_does_not_depend_on_the_process() -> None:
    code = "from results.looks import look; print(look('new_one'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7"},
    )
    assert done.stdout.strip() == str(look("new_one"))


def test_all_methods_of_the_field_are_here() -> None:
    groups = {name: method.group for name, method in registered().items()}
    assert {name for name in groups if groups[name] in ("baselines", "itmc")} == set(COMPRESSED)
    assert {name for name in groups if groups[name] == "references"} == set(REFERENCES)


def test_looks_can_be_told_apart_by_colour_and_in_grey() -> None:
    found = [look(method) for method in COMPRESSED]
    assert len({look.colour for look in found}) == len(found)
    assert len({look.marker for look in found}) == len(found)
    for one, other in combinations(found, 2):
        assert (one.marker, one.dash) != (other.marker, other.dash)


def test_references_are_lines_that_can_be_told_apart() -> None:
    found = [look(method) for method in REFERENCES]
    assert {look.marker for look in found} == {""}
    assert len({look.dash for look in found}) == len(found)


def test_ablations_can_be_told_apart_from_one_another_and_from_the_rest() -> None:
    methods = (*COMPRESSED, *ABLATIONS)
    assert len(points(methods)) == len(methods)
    assert all(look.marker != "o" for name, look in looks(methods).items() if name != "itmc")


def test_variants_keep_the_colour_of_their_method() -> None:
    variants = [f"itmc[tau={tau}]" for tau in range(8)]
    found = looks([*COMPRESSED, *variants, "itmc[teacher=densenet121]"])
    assert {found[name].colour for name in found if name.startswith("itmc")} == {
        look("itmc").colour
    }
    assert len(set(found.values())) == len(found)


@given(names)
def test_no_two_looks_are_alike_whatever_the_names_and_their_order(methods: list[str]) -> None:
    found = looks(methods)
    assert found == looks(methods[::-1])
    # Variants of one method share its colour: for them there are fewer places.
    plain = [method for method in found if "[" not in method]
    assert len(points(plain)) == len(plain)
    assert len(set(found.values())) == len(found)


@given(names)
def test_the_looks_placed_by_hand_depend_on_nothing(methods: list[str]) -> None:
    together = looks([*methods, *COMPRESSED])
    assert all(together[method] == look(method) for method in COMPRESSED)
