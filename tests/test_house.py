"""The rules of the house: who imports whom, files that can be read, suites that load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from itmc.domains.catalog import dataset
from itmc.training.method import methods
from suites.config import load_suite, suite_names

REPOSITORY = Path(__file__).parents[1]
FOLDERS = ("itmc", "baselines", "suites", "results", "slurm", "tests")
ALLOWED = {
    "itmc": {"itmc"},
    "baselines": {"itmc", "baselines"},
    "suites": {"itmc", "baselines", "results", "suites"},
    "results": {"results"},
    "slurm": {"itmc", "suites", "results", "slurm"},
}
LINES = 400


def sources(folder: str) -> list[Path]:
    return sorted((REPOSITORY / folder).rglob("*.py"))


def imports(file: Path) -> Iterator[str]:
    """The modules that a file imports, also within functions; relative ones made absolute."""
    package = file.relative_to(REPOSITORY).with_suffix("").parts
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: -node.level] if node.level else ()
            yield ".".join([*above, node.module or ""]).rstrip(".")
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (a.value for a in node.args if isinstance(a, ast.Constant))


@pytest.mark.parametrize("folder", ALLOWED)
def test_arrows_between_the_folders(folder: str) -> None:
    wrong = [
        f"{file.relative_to(REPOSITORY)} imports {module}"
        for file in sources(folder)
        for module in imports(file)
        if (top := module.partition(".")[0]) in FOLDERS and top not in ALLOWED[folder]
    ]
    assert wrong == []


def test_the_arrows_are_looked_for_where_there_are_some() -> None:
    """Else a wrong path would pass the test above."""
    found = {module.partition(".")[0] for file in sources("suites") for module in imports(file)}
    assert {"itmc", "baselines", "results", "suites"} <= found
    assert all(sources(folder) for folder in ("itmc", "baselines", "results"))


def test_results_do_not_name_torch() -> None:
    named = {module.partition(".")[0] for file in sources("results") for module in imports(file)}
    assert not {"torch", "torchvision", "timm"} & named


@pytest.mark.parametrize(
    "module",
    [
        f"results.{name}"
        for name in ("compare", "diff", "leaderboard", "plot", "report", "summary", "table")
    ],
)
def test_results_run_without_torch(module: str) -> None:
    code = f"import {module}, sys; assert 'torch' not in sys.modules, 'torch is loaded'"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_files_can_be_read_in_one_sitting() -> None:
    lengths = {
        str(file.relative_to(REPOSITORY)): len(file.read_text().splitlines())
        for folder in FOLDERS
        for file in sources(folder)
    }
    assert {name: length for name, length in lengths.items() if length > LINES} == {}


def registrations(file: Path) -> Iterator[str]:
    """The names under which a file's classes are registered."""
    for node in ast.walk(ast.parse(file.read_text())):
        decorators = node.decorator_list if isinstance(node, ast.ClassDef) else []
        if any(ast.unparse(decorator) == "register" for decorator in decorators):
            assert isinstance(node, ast.ClassDef)
            for line in node.body:
                if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "name":
                    yield ast.literal_eval(line.value)


def test_each_method_is_registered_once() -> None:
    found = [
        n for folder in ("itmc", "baselines") for f in sources(folder) for n in registrations(f)
    ]
    # ITMC's ablations of one knob are lines of one table, which a dictionary keeps distinct.
    of_one_knob = [name for name, method in methods().items() if method.changes]
    assert Counter([*found, *of_one_knob]) == Counter(methods().keys())


def test_a_baseline_is_a_short_file_of_its_name() -> None:
    for file in sources("baselines"):
        names = list(registrations(file))
        assert names in ([], [file.stem])
        assert len(file.read_text().splitlines()) <= 120


@pytest.mark.parametrize("name", suite_names())
def test_each_suite_loads(name: str) -> None:
    suite = load_suite(name, {})
    assert suite.name == name
    spec = dataset(suite.dataset)
    written = [suite.tasks] if isinstance(suite.tasks, str) else suite.tasks
    assert written == ["all"] or all(spec.task(task) for task in written)
    pinned = suite.network.weights
    assert pinned == "none" or "." in pinned or "_" in pinned  # by full tag, not by bare name


def test_there_is_a_suite_for_each_dataset_built_so_far() -> None:
    assert {"digits", "office31"} <= set(suite_names())
