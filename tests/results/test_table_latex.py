"""The LaTeX of all tables compiles, as a paper has it: two columns, booktabs, graphicx."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from results.aggregate import selection_tables, tables
from results.latex import escaped
from results.records import read
from results.render import COLUMNS, document
from results.sheet import Document, Line, Section, Sheet, Text
from tests.results.factory import REFERENCES, record, write
from tests.results.test_literature import OFFICE_TASKS, office

pytestmark = pytest.mark.latex


@pytest.fixture
def pdflatex() -> str:
    """The compiler; without it the test is skipped, or fails where it must run."""
    found = shutil.which("pdflatex")
    if found is None:
        reason = "no pdflatex (texlive-latex-base and texlive-latex-recommended have all it needs)"
        if os.environ.get("ITMC_REQUIRE_LATEX") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def compiled(pdflatex: str, folder: Path, made: Document) -> str:
    """The log of compiling a document; a LaTeX error fails the test."""
    text = made.text("latex")
    packages = re.search(r"% (\\usepackage{.*})", text)
    assert packages is not None  # the first line says what is needed
    head = r"\documentclass[twocolumn]{article}" + packages[1]
    page = rf"{head}\begin{{document}}{text}\end{{document}}"
    (folder / "paper.tex").write_text(page)
    done = subprocess.run(
        [pdflatex, "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (folder / "paper.pdf").read_bytes().startswith(b"%PDF")
    return done.stdout


def test_a_table_with_all_columns(tmp_path: Path, pdflatex: str) -> None:
    names = [*REFERENCES, "itmc", "kd", "dan_student"]
    runs = [
        record(name, "hand->print", seed=seed, compression=0.0 if name in REFERENCES else 0.5)
        for name in names
        for seed in (0, 1)
    ]
    runs[-1]["method"]["label"] = r"50% {off} & #1_a \b ~ ^ $ <x> | → ± — –"
    made = document(tables(read([write(tmp_path, *runs)])), COLUMNS)
    log = compiled(pdflatex, tmp_path, made)
    assert "Overfull" not in log.split("paper.aux", 1)[1]  # shrunk to the column
    assert "Missing character" not in log


def test_published_values_and_choices_of_the_epoch(tmp_path: Path, pdflatex: str) -> None:
    records = read([write(tmp_path, *(office(task) for task in OFFICE_TASKS))])
    by_task, by_selection = document(tables(records)), document(selection_tables(records))
    compiled(pdflatex, tmp_path, by_task)
    compiled(pdflatex, tmp_path, by_selection)


@pytest.mark.parametrize("label", ["[KD] ours", "*KD*", "[1ex]", "]"])
def test_a_name_that_looks_like_an_argument_is_a_name(
    tmp_path: Path, pdflatex: str, label: str
) -> None:
    lines = tuple(Line(label, (Text("80.0"),), begins) for begins in (False, True, False))
    made = Document((Sheet("Caption", ("[a]",), (Section("[b]", lines),), ()),), "")
    compiled(pdflatex, tmp_path, made)
    # Without an error, a star would be taken for the one that keeps pages from ending there.
    after = re.findall(r"(?:\\\\|\\addlinespace|\\[a-z]+rule)\n(.)", made.text("latex"))
    assert not {"[", "*"} & set(after)


def test_every_character_compiles_and_known_ones_keep_their_names(
    tmp_path: Path, pdflatex: str
) -> None:
    known = [*"éüçÅğőšßøłıœ", *"αβλωΓΛΩ", *"≤≥×≈≠·∞°²µ…†", *"“”‘’", "e\u0301"]
    unknown = ["日本語", "\u0301", "\u2028", "\x1b", "🙂", "\ud800", "ą̊"]
    assert "?" not in "".join(map(escaped, known))
    assert [set(escaped(text)) for text in unknown] == [{"?"}] * len(unknown)
    assert escaped("naïve Ω ≤ é") == r"na\"{i}ve $\Omega$ $\leq$ \'{e}"
    lines = tuple(Line(text, (Text(text, 1),)) for text in (*known, *unknown))
    made = Document((Sheet(" ".join(known), ("a",), (Section("b", lines),), ()),), "")
    assert made.text("latex").isascii()
    assert "Missing character" not in compiled(pdflatex, tmp_path, made)
