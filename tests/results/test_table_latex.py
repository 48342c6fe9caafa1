"""The LaTeX of all tables compiles, as a paper has it: two columns, booktabs, graphicx."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from results.aggregate import selection_tables, tables
from results.records import read
from results.render import COLUMNS, document
from results.sheet import Document
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
