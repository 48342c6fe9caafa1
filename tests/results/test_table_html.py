"""The HTML of tables: a page by itself, with the figures of other formats; names run nothing."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from results.aggregate import tables
from results.records import read
from results.render import document
from tests.results.factory import record, write

VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """The rows of all tables, the texts by tag, and whether tags close as they opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.texts: dict[str, list[str]] = {}
        self.tags: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data


def page(out: Path, label: str = "ITMC") -> Page:
    runs = [
        record(method, seed=seed, accuracy=accuracy)
        for method, accuracy in (("itmc", 80.0), ("kd", 75.0), ("dan_student", 70.0))
        for seed in (0, 1)
    ]
    for run in runs[:2]:
        run["method"]["label"] = label
    return Page(document(tables(read([write(out, *runs)]))).text("html"))


def test_rows_hold_what_the_terminal_shows(tmp_path: Path) -> None:
    made = page(tmp_path)
    assert made.rows[0] == ["", "hand->print", "average", "MACs removed %"]
    assert made.rows[1] == ["50 % of MACs to be removed"]
    assert ["ITMC", "80.0 ± 0.0", "80.0 ± 0.0", "50.0"] in made.rows
    assert {len(row) for row in made.rows[2:]} == {4}


def test_best_and_second_best_are_marked(tmp_path: Path) -> None:
    made = page(tmp_path)
    assert made.texts["strong"] == ["80.0 ± 0.0"] * 2
    assert made.texts["u"] == ["75.0 ± 0.0"] * 2
    assert "Bold: best" in made.texts["figcaption"][0]


def test_a_name_is_text_and_nothing_else(tmp_path: Path) -> None:
    label = '</th><script>alert("1")</script>&amp;'
    made = page(tmp_path, label)
    assert "script" not in made.tags
    assert label in [row[0] for row in made.rows]
