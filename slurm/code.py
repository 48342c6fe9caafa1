"""Which code a grid was planned with: a worker that finds another one refuses to start."""

from __future__ import annotations

import hashlib
import json
from importlib import metadata
from pathlib import Path

from itmc.errors import UsageError

PROJECT = Path(__file__).parents[1]
# What determines results; how they are shown and submitted does not.
_FOLDERS = ("itmc", "baselines", "suites")
_SOURCES = ("*.py", "*.cpp")
_NO_RESULTS = ("suites/bench/", "suites/zoo", "suites/methods_page.py")
"""How the names of files in these folders begin that compute nothing of a run."""
_WORKER = Path("slurm", "worker.py")
_LIBRARIES = ("numpy", "timm", "torch", "torch-pruning", "torchvision")


def code_version() -> dict[str, str]:
    """By file of the project a digest of its content, by library its version."""
    found = [
        path.relative_to(PROJECT)
        for folder in _FOLDERS
        for pattern in _SOURCES
        for path in (PROJECT / folder).rglob(pattern)
    ]
    names = sorted(str(path) for path in [*found, _WORKER])
    return {
        name: hashlib.sha256((PROJECT / name).read_bytes()).hexdigest()[:12]
        for name in names
        if not name.startswith(_NO_RESULTS)
    } | {name: metadata.version(name) for name in _LIBRARIES}


def refuse_other_code(planned: Path) -> None:
    """Raise UsageError where the code here is not that whose version is in the file ``planned``."""
    try:
        asked = dict(json.loads(planned.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{planned} is gone or damaged; submit the grid again") from error
    here = code_version()
    changed = sorted(
        name for name in asked.keys() | here.keys() if asked.get(name) != here.get(name)
    )
    if not changed:
        return
    first = changed[0]
    others = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    raise UsageError(
        f"the code differs from what was submitted: {first} (planned {asked.get(first, 'without')},"
        f" here {here.get(first, 'gone')}){others}; restore it, or submit again with the code as "
        "it is"
    )
