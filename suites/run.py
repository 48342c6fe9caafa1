"""``python -m suites.run SUITE``: plan a grid, execute it, and show the table."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from itmc.errors import UsageError
from suites.command import DONE, FAILED, INTERRUPTED, Parser, exit_code

if TYPE_CHECKING:
    from itmc.training.method import Method
    from suites.config import Places, SuiteConfig

# What loads torch is imported where it is needed, so that Ctrl-C in these seconds is caught too.

STOPPED = "stopped; the same command takes up where it stopped"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return exit_code("suites.run", lambda: _run(_parser().parse_args(arguments)), STOPPED)


def _run(options: argparse.Namespace) -> int:
    from itmc.training.method import selected
    from suites.config import load_suite
    from suites.display import display, show_plan
    from suites.execute import run_plan
    from suites.plan import grid, plan

    suite = load_suite(options.suite, _changes(options))
    chosen = selected(_words(options.methods))
    _refuse_unused(options.set, chosen)
    places = _places(options, suite)
    with display() as screen:
        made = plan(grid(suite, chosen, places, screen.say))
        if options.dry_run:
            show_plan(made, places)
            return DONE
        _check_writable(places.out)
        screen.begin(made, places)
        outcome = run_plan(made, places, _jobs(options.jobs, places.device), screen)
    if outcome.interrupted:
        print(STOPPED, file=sys.stderr)
        return INTERRUPTED
    _show_results(places.out)
    for title, reason in outcome.failures.items():
        print(f"FAILED {title}: {reason}", file=sys.stderr)
    return FAILED if outcome.failures else DONE


def _show_results(out: Path) -> None:
    """Write tables and plots of all records in ``out``; print the table and the paths."""
    from results import summary
    from results.records import ResultsError

    try:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        written = summary.write(out, width)
    except ResultsError as error:
        print(f"suites.run: {error}", file=sys.stderr)
        return
    print(written.text)
    for path in (*written.tables, *written.plots):
        inside = path.is_relative_to(Path.cwd())
        print(path.relative_to(Path.cwd()) if inside else path)


def _changes(options: argparse.Namespace) -> dict[str, Any]:
    """What the command line changes, in the layout of a suite's YAML."""
    from itmc.training.method import method

    changes: dict[str, Any] = {"network": {}, "data": {}, "training": {}, "methods": {}}
    if options.tasks is not None:
        changes["tasks"] = "all" if options.tasks == "all" else _words(options.tasks)
    if options.compression is not None:
        changes["compression"] = _numbers(options.compression, "--compression", float)
    if options.seeds is not None:
        changes["seeds"] = _numbers(options.seeds, "--seeds", int)
    if options.epochs is not None:
        changes["training"]["epochs"] = options.epochs
    if options.image_size is not None:
        changes["data"]["image_size"] = options.image_size
    if options.backbone is not None:
        changes["network"]["backbone"] = options.backbone
    if options.weights is not None:
        changes["network"]["weights"] = options.weights
    elif options.backbone is not None and _suite_is_pretrained(options.suite):
        raise UsageError(
            f"--backbone {options.backbone} needs --weights too (a tag, a file or none): the "
            "suite's own weights are of its own backbone"
        )
    for assignment in options.set:
        section, key, value = _assignment(assignment)
        if section in ("network", "data", "training"):
            changes[section][key] = value
        else:
            method(section)  # refuse an unknown name
            changes["methods"].setdefault(section, {})[key] = value
    return changes


def _suite_is_pretrained(name: str) -> bool:
    from suites.config import load_suite

    return load_suite(name, {}).network.weights != "none"


def _assignment(text: str) -> tuple[str, str, Any]:
    name, equals, value = text.partition("=")
    section, dot, key = name.partition(".")
    if not (equals and dot and section and key):
        raise UsageError(f"--set {text!r} is not written METHOD.KEY=VALUE")
    try:
        return section, key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {text!r}: the value is no valid YAML") from error


def _refuse_unused(assignments: Sequence[str], chosen: Sequence[type[Method]]) -> None:
    names = {m.name for m in chosen} | {"network", "data", "training"}
    for assignment in assignments:
        section = assignment.partition(".")[0]
        if section not in names:
            raise UsageError(
                f"--set {assignment!r} changes {section}, which is not among --methods "
                f"({', '.join(m.name for m in chosen)})"
            )


def _places(options: argparse.Namespace, suite: SuiteConfig) -> Places:
    import torch

    from itmc.domains.store import default_store
    from suites.config import Places

    has_cuda = torch.cuda.is_available()
    if options.device == "cuda" and not has_cuda:
        raise UsageError("--device cuda: torch sees no CUDA device; allowed here: auto, cpu")
    device: Literal["cpu", "cuda"] = "cuda" if has_cuda and options.device != "cpu" else "cpu"
    jobs = _jobs(options.jobs, device)
    return Places(
        out=(options.out or Path("runs") / suite.name).resolve(),
        store=default_store().resolve(),
        data_root=options.data_root and options.data_root.resolve(),
        weights_file=_weights_file(suite.network.weights),
        device=device,
        threads=max(1, _cores() // jobs),
    )


def _weights_file(given: str) -> Path | None:
    """The file that the weights name, or ``None`` for a tag or ``none``."""
    path = Path(given)
    looks_like_file = path.suffix in (".pth", ".pt", ".bin", ".safetensors") or "/" in given
    if not looks_like_file:
        return None
    if not path.is_file():
        raise UsageError(f"weights {given!r}: there is no such file")
    return path.resolve()


def _jobs(asked: int | None, device: str) -> int:
    """Runs side by side: one a core on the CPU, one on a GPU, unless told otherwise."""
    if asked is not None and asked < 1:
        raise UsageError(f"--jobs {asked}: at least 1 is needed")
    return asked or (1 if device == "cuda" else _cores())


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _check_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UsageError(
            f"--out {str(out)!r} cannot be written: {error.strerror}; choose another folder"
        ) from error


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str, option: str, kind: Callable[[str], float]) -> list[float]:
    try:
        return [kind(word) for word in _words(text)]
    except ValueError as error:
        what = "whole numbers" if kind is int else "numbers"
        raise UsageError(f"{option} {text!r}: expected {what} separated by commas") from error


def _parser() -> argparse.ArgumentParser:
    from itmc.training.method import GROUPS, methods
    from suites.config import suite_names

    parser = Parser(
        prog="python -m suites.run",
        description="Run every method on every task, compression and seed; then show the table.",
        epilog=f"methods: {', '.join(methods())}; groups: {', '.join(GROUPS)}",
    )
    parser.add_argument("suite", help=f"{', '.join(suite_names())}, or a YAML file")
    parser.add_argument(
        "--methods", default="itmc,baselines", help="names and groups (default: itmc,baselines)"
    )
    parser.add_argument("--tasks", help="'A->W,W->D', 'print->hand', or all")
    parser.add_argument("--compression", help="shares of MACs to remove, such as 0.5,0.75")
    parser.add_argument("--seeds", help="such as 0,1,2")
    parser.add_argument("--backbone", help="digits_convnet, or a torchvision or timm model")
    parser.add_argument("--weights", help="a full timm or torchvision tag, a file, or none")
    parser.add_argument("--data-root", type=Path, help="folder with your copy of the data")
    parser.add_argument("--epochs", type=int, help="epochs of adaptation of each network")
    parser.add_argument("--image-size", type=int, help="side of the input in pixels")
    parser.add_argument("--out", type=Path, help="where runs are kept (default: runs/SUITE)")
    parser.add_argument("--jobs", type=int, help="runs side by side (default: one a core, or GPU)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--set", action="append", default=[], metavar="METHOD.KEY=VALUE",
        help="a hyper-parameter of a method, or of network, data, training; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--dry-run", action="store_true", help="list runs, shared stages and estimated FLOPs"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
