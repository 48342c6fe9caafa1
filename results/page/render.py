"""The page as one HTML text: everything is in it, and nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from results.aggregate import tables
from results.page.build import page_data
from results.page.facts import facts
from results.page.summary import summary
from results.records import Records, plural
from results.render import document
from results.schema import SELECTIONS
from results.sheet import html_table

_FOLDER = Path(__file__).parent
# In the order in which they build on one another.
_SCRIPTS = (
    *("base.js", "state.js", "markers.js", "chart.js", "details.js", "leaderboard.js"),
    *("pareto.js", "curves.js", "page.js"),
)


def page(records: Records, folders: tuple[Path, ...], selection: str | None, metric: str) -> str:
    """The report.

    Args:
        records: the runs; at least one has accuracies.
        folders: where they were read, for shorter paths.
        selection: a key of `schema.SELECTIONS`; None for each protocol's own.
        metric: a key of `schema.METRICS`.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    data = page_data(records, selection, metric)
    style = (_FOLDER / "page.css").read_text(encoding="utf-8")
    script = "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    return environment.get_template("page.html.j2").render(
        title=f"ITMC Bench: {', '.join(sorted({setting.suite for setting in data.settings}))}",
        data=data,
        facts=facts(records, folders),
        summary=summary(data),
        selection=None if selection is None else SELECTIONS[selection],
        unlabelled=len(records.unlabelled),
        plural=plural,
        tables=[
            Markup(html_table(sheet))
            for sheet in document(tables(records, selection, metric)).sheets
        ],
        json=Markup(json_text(data.as_json())),
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
    )


def json_text(value: Any) -> str:
    """JSON that may stand in a script element, whatever its texts say."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _policy(style: str, script: str) -> str:
    """What the browser may do with the page: run this script, use this style, fetch nothing."""
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
