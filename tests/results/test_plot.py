"""The command: which figures it writes, what it says of the others, wrong usage in one line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from results import plot
from results.plot import KINDS, Request, draw, main
from results.records import read
from tests.results.drawing import grid
from tests.results.factory import TASKS, record, write

ROOT = Path(__file__).parents[2]
SUMMARY = ("accuracy_vs_compression", "per_task", "accuracy_vs_macs", "accuracy_vs_latency")


def small(*methods: str) -> list[dict[str, Any]]:
    """Two seeds of one task."""
    return grid(methods or ("itmc", "kd"), compressions=(0.5,), tasks=TASKS[:1])


def stems(folder: Path) -> set[str]:
    """Names of the files without suffix."""
    return {path.stem for path in folder.iterdir()}


def test_by_default_all_kinds_with_data_are_written_and_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "runs", *small("itmc", "kd", "tkd_only"))
    assert main([str(tmp_path / "runs"), "--out", str(tmp_path / "plots")]) == 0
    said = capsys.readouterr()
    printed = [Path(line) for line in said.out.splitlines()]
    assert sorted((tmp_path / "plots").iterdir()) == sorted(printed)
    assert said.err.startswith("not drawn: guidance: no teacher was judged")
    assert len(said.err.splitlines()) == 1
    assert stems(tmp_path / "plots") == {*SUMMARY, "curves", "widths", "ablations", "ranks"}
    assert {path.suffix for path in printed} == {".png", ".pdf"}
    magic = {".png": b"\x89PNG", ".pdf": b"%PDF"}
    for path in printed:
        assert path.read_bytes().startswith(magic[path.suffix])


def test_kinds_formats_and_size_are_chosen(tmp_path: Path) -> None:
    write(tmp_path / "runs", *small())
    asked = ["--kind", "macs,curves", "--format", "svg,png", "--size", "page"]
    assert main([str(tmp_path / "runs"), *asked, "--out", str(tmp_path / "plots")]) == 0
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert names == {"accuracy_vs_macs.svg", "accuracy_vs_macs.png", "curves.svg", "curves.png"}
    with Image.open(tmp_path / "plots" / "curves.png") as image:
        assert image.width == 6.9 * 300
    root = ElementTree.parse(tmp_path / "plots" / "curves.svg").getroot()
    assert float(root.attrib["width"].removesuffix("pt")) == pytest.approx(6.9 * 72)
    # Letters stay text, which an editor can change and a reader can search.
    texts = {text for element in root.iter() for text in [element.text or ""]}
    assert "epoch of the student, all its stages" in texts


def test_the_same_records_give_the_same_files(tmp_path: Path) -> None:
    write(tmp_path / "runs", *small())
    for name in ("a", "b"):
        asked = ["--kind", "compression,macs,widths", "--format", "png,pdf,svg"]
        main([str(tmp_path / "runs"), *asked, "--out", str(tmp_path / name)])
    files = sorted((tmp_path / "a").iterdir())
    assert len(files) == 9
    for path in files:
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_two_settings_get_figures_of_their_own_that_say_which(tmp_path: Path) -> None:
    write(tmp_path / "runs", *small(), record(protocol="paper"))
    drawn = draw(read([tmp_path / "runs"]), Request(("compression", "ablations")))
    assert set(drawn.figures) == {"accuracy_vs_compression_1", "accuracy_vs_compression_2"}
    # Which weights, how many epochs: what else may tell two settings apart.
    assert all("weights none" in of.get_suptitle() for of in drawn.figures.values())
    assert set(drawn.empty) == {"ablations_1", "ablations_2"}


def test_what_has_no_data_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = record(seed=1)
    run["cost"] = {}
    assert main([str(write(tmp_path / "runs", run)), "--out", str(tmp_path / "plots")]) == 0
    err = capsys.readouterr().err
    assert err.startswith("not drawn: ") and err.count("\n") == 1
    assert "ablations: no ablations here" in err and "latency: no run" in err
    assert stems(tmp_path / "plots") == {"accuracy_vs_compression", "per_task", "curves", "widths"}


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that wrong usage gets."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--kind", "ablations"], ["ablations: no ablations here"]),
        (["--kind", "compression,ablations"], ["ablations: no ablations here"]),
        (["--kind", "bars"], ["'bars'", *KINDS]),
        (["--format", "png,gif"], ["'gif'", "png", "pdf", "svg"]),
        (["--methods", "itmc,dna"], ["--methods 'dna'", "baselines", "itmc, kd, source_only"]),
        (["--methods", "itmc,"], ["--methods '': no such method or group"]),
        (["--select", "entropy"], ["no seed has the accuracies", "no run has this accuracy"]),
    ],
)
def test_wrong_usage_is_one_line_that_says_what_is_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    write(tmp_path / "runs", *small())
    if arguments[0] == "--select":
        # Without histories and widths nothing at all is left to draw.
        for path in tmp_path.glob("runs/*/record.json"):
            path.write_text(path.read_text().replace('"history"', '"past"').replace('"lay', '"l'))
    err = refused(capsys, str(tmp_path / "runs"), "--out", str(tmp_path / "plots"), *arguments)
    for word in words:
        assert word in err
    assert not (tmp_path / "plots").exists()


def test_the_help_says_what_bands_and_bars_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert "t intervals over seeds; those of widths are the standard deviation over runs" in words
    assert "those of ablations paired bootstrap intervals" in words


def test_an_output_that_cannot_be_written_is_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, record())
    (tmp_path / "file").write_text("")
    arguments = ["--kind", "compression", "--out", str(tmp_path / "file")]
    said = refused(capsys, str(tmp_path), *arguments)
    assert "cannot write" in said
    assert "file is a file, no folder" in said


def legend(figure: Any) -> list[str]:
    """Names in the legend."""
    return [text.get_text() for of in figure.legends for text in of.get_texts()]


@pytest.mark.parametrize(
    ("methods", "names", "references"),
    [
        (("itmc", "tkd_only"), {"ITMC", "tkd only"}, 2),
        (("baselines",), {"kd", "new one"}, 2),
        (("itmc", "dan"), {"ITMC"}, 1),
    ],
)
def test_methods_are_chosen_by_name_or_group(
    tmp_path: Path, methods: tuple[str, ...], names: set[str], references: int
) -> None:
    write(tmp_path, *grid(("itmc", "kd", "new_one", "tkd_only"), tasks=TASKS[:1]))
    drawn = draw(read([tmp_path]), Request(("compression",), methods=methods))
    figure = drawn.figures["accuracy_vs_compression"]
    assert set(legend(figure)) == names
    assert len(figure.axes[0].texts) == references
    assert "without" not in figure.get_suptitle()


def test_variants_of_a_method_are_chosen_with_it(tmp_path: Path) -> None:
    made = grid(("itmc", "kd"), tasks=TASKS[:1])
    for run in made:
        run["method"]["knobs"] = {"tau": run["seed"]}
    write(tmp_path, *made)
    drawn = draw(read([tmp_path]), Request(("tasks",), methods=("itmc", "dan")))
    names = legend(drawn.figures["per_task"])
    assert {"ITMC (tau=0)", "ITMC (tau=1)"} <= set(names)
    assert not any(name.startswith("kd") for name in names)


def test_a_variant_is_named_with_the_commas_in_its_brackets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = small("itmc")
    for tau, rate in ((2, 0.1), (4, 0.2)):
        other = record("kd", accuracy=70.0 + tau)
        made.append(other | {"method": other["method"] | {"knobs": {"rate": rate, "tau": tau}}})
    for number, one in enumerate(made):
        one["run"] = f"{number:03}"
    arguments = (str(write(tmp_path / "runs", *made)), "--kind", "compression", "--format", "svg")
    chosen = ("--out", str(tmp_path / "plots"), "--methods", "itmc, kd[rate=0.1, tau=2]")
    assert main([*arguments, *chosen]) == 0
    capsys.readouterr()
    picture = (tmp_path / "plots" / "accuracy_vs_compression.svg").read_text()
    assert "tau=2" in picture
    assert "tau=4" not in picture


@pytest.mark.parametrize("label", [r"KD $\x$", "$", "a_b^c", r"\frac"])
def test_a_name_is_no_formula(tmp_path: Path, label: str) -> None:
    made = small("itmc", "kd")
    for one in made:
        if one["method"]["name"] == "kd":
            one["method"]["label"] = label
    arguments = (str(write(tmp_path / "runs", *made)), "--kind", "compression,macs,tasks")
    assert main([*arguments, "--format", "svg", "--out", str(tmp_path / "plots")]) == 0
    for path in (tmp_path / "plots").iterdir():
        assert label in path.read_text()
        assert "mathdefault" not in path.read_text()  # numbers of axes are no formulas either


def test_a_method_looks_the_same_whatever_else_is_drawn(tmp_path: Path) -> None:
    names = tuple(f"new_{number}" for number in range(40))
    write(tmp_path, *(record(name) for name in names))
    records = read([tmp_path])
    every = draw(records, Request(("tasks",))).figures["per_task"].legends[0].get_lines()
    for name, line in list(zip(sorted(names), every, strict=True))[::9]:
        alone = draw(records, Request(("tasks",), methods=(name,))).figures["per_task"]
        (own,) = alone.legends[0].get_lines()
        assert (own.get_color(), own.get_marker()) == (line.get_color(), line.get_marker())


def test_a_damaged_history_is_named_and_the_rest_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = record(seed=1) | {"history": {"stage": ["adapt"], "overall": 3}}
    write(tmp_path / "runs", record(), broken)
    arguments = ["--kind", "curves", "--out", str(tmp_path / "plots")]
    assert main([str(tmp_path / "runs"), *arguments]) == 0
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert f"{broken['run']}/record.json" in said.err and "history" in said.err
    assert "curves.png" in said.out


def test_a_suite_gets_the_figures_that_sum_it_up(tmp_path: Path) -> None:
    write(tmp_path / "runs", *small("itmc", "kd", "tkd_only"))
    paths = plot.write(read([tmp_path / "runs"]), tmp_path / "plots")
    assert {path.stem for path in paths} == {*SUMMARY, "ablations"}
    assert sorted((tmp_path / "plots").iterdir()) == sorted(paths)


def test_targets_without_labels_are_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, record(labelled=False))
    assert "no accuracies" in refused(capsys, str(tmp_path), "--out", str(tmp_path / "plots"))


def test_nothing_that_draws_is_loaded_before_something_is_drawn() -> None:
    code = (
        "import sys, results.plot\n"
        "slow = {'matplotlib', 'seaborn', 'scipy.stats', 'torch'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_as_a_command_it_writes_what_it_prints(tmp_path: Path) -> None:
    write(tmp_path / "runs", *small())
    done = subprocess.run(
        [sys.executable, "-m", "results.plot", "runs", "--kind", "macs", "--out", "plots"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.fullmatch(r"plots/accuracy_vs_macs\.png\nplots/accuracy_vs_macs\.pdf\n", done.stdout)
    assert all((tmp_path / line).stat().st_size for line in done.stdout.split())
