"""Criteria of importance and costs, chosen on the command line and in a suite's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.suites.conftest import SMALL, Call

SUITE = """\
dataset: digits
tasks: [hand->print]
compression: [0.5]
seeds: [0]
network: {backbone: digits_convnet, weights: none, bottleneck: 64}
data: {image_size: 32, augment: shift, flip: false, test_crop: 1.0, normalise: half}
training: {epochs: 2, pretrain_epochs: 1, steps_per_epoch: 4, lr: 0.03, new_layer_lr: 1}
methods:
  itmc: {criterion: taylor_min, cost_aware: latency}
"""


def records(out: Path) -> dict[str, Any]:
    found = [json.loads(path.read_text()) for path in out.glob("*/record.json")]
    return {record["method"]["name"]: record for record in found}


def test_a_criterion_and_a_cost_are_chosen_with_set(here: Call, tmp_path: Path) -> None:
    answer = here(
        "digits", "--methods", "itmc,prune_then_adapt,kd", "--compression", "0.5", *SMALL,
        "--set", "itmc.criterion=fpgm", "--set", "itmc.cost_aware=macs",
        "--set", "kd.criterion=bn_scale", "--set", "prune_then_adapt.cost_aware=macs",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    found = records(tmp_path / "out")
    chosen = {
        name: tuple(record["method"]["knobs"][key] for key in ("criterion", "cost_aware"))
        for name, record in found.items()
    }
    assert chosen == {
        "itmc": ("fpgm", "macs"),
        "kd": ("bn_scale", "none"),
        "prune_then_adapt": ("taylor", "macs"),
    }
    assert all(abs(r["compression"]["reached"] - 0.5) <= 0.01 for r in found.values())


def test_a_criterion_and_a_cost_are_chosen_in_a_file(here: Call, tmp_path: Path) -> None:
    suite = tmp_path / "mine.yaml"
    suite.write_text(SUITE)
    answer = here(suite, "--methods", "itmc", "--out", tmp_path / "out")
    assert answer.code == 0, answer.err
    record = records(tmp_path / "out")["itmc"]
    assert record["method"]["knobs"]["criterion"] == "taylor_min"
    assert record["method"]["knobs"]["cost_aware"] == "latency"
    assert abs(record["compression"]["reached"] - 0.5) <= 0.01


def test_what_there_is_not_is_refused_in_one_line(here: Call) -> None:
    for method, value, allowed in (
        ("itmc", "criterion=fisher", "'l1', 'l2'"),
        ("kd", "cost_aware=joules", "'none', 'macs' or 'latency'"),
        ("dan_student", "cost_aware=macs", "min_width, min_share"),  # its widths are uniform
        ("prune_then_adapt", "criterion=taylor_min", "'taylor', 'l1'"),  # it sees one domain
        ("kd", "criterion=taylor_min", "'taylor', 'l1'"),
    ):
        answer = here("digits", "--methods", method, "--set", f"{method}.{value}", "--dry-run")
        assert answer.code == 2
        (line,) = answer.err.splitlines()
        assert method in line and value.split("=")[0] in line and allowed in line
