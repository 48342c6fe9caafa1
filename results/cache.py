"""Rows of records that were read before, in one file an out directory, keyed by the records."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from results import migrations, schema

_NAME = ".records.json"
# Below this many records, reading them is as fast as reading what was kept of them.
_WORTH = 100


class Rows:
    """Rows by record; what has changed on disk since it was kept is not known here.

    The file can be deleted at any time. Where it cannot be written, records are read each time.
    """

    def __init__(self, folder: Path) -> None:
        """`folder`: an out directory, whose records have rows here by the names of their runs."""
        self._path = folder / _NAME
        self._kept: dict[str, list[Any]] = _read(self._path)
        self._seen: dict[str, list[Any]] = {}

    def get(self, run: str, state: os.stat_result) -> dict[str, Any] | None:
        """The row of a record, if its file is the one that the row was made of."""
        entry = self._kept.get(run)
        if entry is None or entry[:2] != _key(state):
            return None
        self._seen[run] = entry
        row: dict[str, Any] = entry[2]
        return row

    def put(self, run: str, state: os.stat_result, row: dict[str, Any]) -> None:
        """Remember the row of a record."""
        self._seen[run] = [*_key(state), row]

    def save(self) -> None:
        """Write what was asked for, if anything in it is new and there is enough of it."""
        if len(self._seen) < _WORTH or self._seen == self._kept:
            return
        content = json.dumps({"reader": _reader(), "rows": self._seen}).encode()
        temporary = None
        try:
            handle, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=_NAME)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chmod(temporary, 0o644)  # others may read the folder, too
            os.replace(temporary, self._path)
        except OSError:  # a folder that is only read, a full disk: nothing is lost but time
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)


def _key(state: os.stat_result) -> list[int]:
    return [state.st_mtime_ns, state.st_size]


def _read(path: Path) -> dict[str, list[Any]]:
    """The rows of the file; none where there is none, or one of another reader, or damage."""
    try:
        content = json.loads(path.read_bytes())
        rows = content["rows"] if content["reader"] == _reader() else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return rows if isinstance(rows, dict) and all(map(_is_entry, rows.values())) else {}


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, list)
        and len(entry) == 3
        and isinstance(entry[2], dict)
        and schema.is_row(entry[2])
    )


@cache
def _reader() -> str:
    """Hash of the code that makes rows: with another one, all are made anew."""
    code = (inspect.getsource(module) for module in (schema, migrations))
    return hashlib.sha256("".join(code).encode()).hexdigest()[:16]
