"""``python -m suites.data``: prepare the images of datasets, list them, check them."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from itmc.domains.catalog import DatasetSpec, dataset, names
from itmc.domains.own import OwnDataset, own_dataset
from itmc.domains.prepare import prepare
from itmc.domains.store import Manifest, default_store, is_prepared, read_manifest
from itmc.domains.verify import verify
from itmc.errors import UsageError
from suites.command import DONE, FAILED, Parser, exit_code
from suites.options import add_store_option, words
from suites.progress import Steps, bars

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[Parser]

STOPPED = "stopped; the same command takes up where it stopped"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return exit_code("suites.data", lambda: _run(_parser().parse_args(arguments)), STOPPED)


def _run(options: argparse.Namespace) -> int:
    commands = {"prepare": _prepare, "verify": _verify, "list": _list}
    return commands[options.command](options)


def _prepare(options: argparse.Namespace) -> int:
    spec, origin = _meant(options.dataset)
    if options.origin is not None:
        if origin is not None or spec.embedded:
            raise UsageError(f"--from {str(options.origin)!r}: {spec.name} needs no other images")
        origin = options.origin
    _check_mirrors(options.mirror, spec, origin)
    chosen = _chosen(options.domains, spec)
    home = default_store() / spec.store_name
    with bars() as (console, bar):
        steps = Steps(console, bar)
        domains = prepare(spec, chosen, home, steps, origin, options.store, options.mirror)
    for name, domain in domains.items():
        print(f"{spec.name}/{name}: {len(domain.images)} images in {home / name}")
    return DONE


def _chosen(asked: str | None, spec: DatasetSpec) -> list[str]:
    """The domains that ``--domains`` names, each once; all without it."""
    if asked is None:
        return list(spec.domains)
    chosen = list(dict.fromkeys(spec.domain(word) for word in words(asked)))
    if not chosen:
        raise UsageError(
            f"--domains {asked!r} names none; allowed: {', '.join(spec.domains)}, or their letters"
        )
    return chosen


def _check_mirrors(mirrors: Sequence[str], spec: DatasetSpec, origin: Path | None) -> None:
    """Raise UsageError for a mirror that is no address, or where nothing is downloaded."""
    for mirror in mirrors:
        if urlsplit(mirror).scheme not in ("http", "https") or not urlsplit(mirror).hostname:
            raise UsageError(
                f"--mirror {mirror!r} is no address; give that of a folder, http:// or https://"
            )
        if origin is not None:
            raise UsageError(f"--mirror {mirror!r}: {str(origin)!r} is taken, so leave one out")
        if not spec.sources:
            why = "makes its images" if spec.embedded else "has no files that could be downloaded"
            raise UsageError(f"--mirror {mirror!r}: {spec.name} {why}; leave it out")


def _verify(options: argparse.Namespace) -> int:
    """Re-read every image of the datasets asked for, or of all that are prepared."""
    homes = {name: default_store() / _meant(name)[0].store_name for name in options.dataset}
    for name, home in homes.items():
        if not _prepared(home):
            raise UsageError(
                f"{name} is not prepared; python -m suites.data prepare {shlex.quote(name)} does it"
            )
    places = [place for home in homes.values() or _homes() for place in _prepared(home)]
    if not places:
        print(f"nothing is prepared in {default_store()}")
    wrong = 0
    with bars() as (console, bar):
        steps = Steps(console, bar)
        for place in places:
            faults = verify(place, steps)
            wrong += len(faults)
            for fault in faults:
                print(fault)
            if not faults:
                manifest = read_manifest(place)
                print(f"{place.parent.name}/{place.name}: {manifest.count} images as prepared")
                _print_gaps(manifest)
    return FAILED if wrong else DONE


def _print_gaps(manifest: Manifest) -> None:
    for gap in manifest.gaps:
        print(f"{manifest.dataset}/{manifest.domain}: {gap}")


def _list(options: argparse.Namespace) -> int:
    """What is prepared, and what could be."""
    table = Table("domain", "letter", "images", "MB", "kept as", "differences", box=None)
    for column in table.columns[:5]:
        column.no_wrap = True  # what is too wide for the terminal is the last one
    table.columns[2].justify = table.columns[3].justify = "right"
    table.columns[5].overflow = "fold"
    for spec in (dataset(name) for name in names()):
        for domain, declared in spec.domains.items():
            place = default_store() / spec.store_name / domain
            official = "" if declared.count is None else str(declared.count)
            table.add_row(f"{spec.name}/{domain}", spec.letters[domain], *_state(place, official))
    known = {dataset(name).store_name for name in names()}
    for home in _homes():
        for place in _prepared(home) if home.name not in known else []:
            table.add_row(f"{home.name}/{place.name}", "", *_state(place, ""))
    width = None if sys.stdout.isatty() else 160
    console = Console(file=sys.stdout, width=width, highlight=False, markup=False)
    console.print(f"the store is {default_store()}", soft_wrap=True)
    console.print(table)
    return DONE


def _state(place: Path, official: str) -> tuple[str, str, str, str]:
    """Images, megabytes, kind and gaps of a domain, in words."""
    if not is_prepared(place):
        return official, "", "not prepared", ""
    try:
        manifest = read_manifest(place)
    except UsageError as error:
        return official, "", "damaged", str(error)
    gaps = "; ".join(manifest.gaps) or ("none" if official else "")
    return str(manifest.count), f"{manifest.bytes / 1e6:.1f}", manifest.kind, gaps


def _meant(name: str) -> tuple[DatasetSpec, Path | None]:
    """A dataset of the catalog, or that of a folder or YAML of the user's own, and its images."""
    path = Path(name)
    if name not in names() and path.is_dir():
        return own_dataset(OwnDataset(path=path)), path
    if name.endswith((".yaml", ".yml")):
        from suites.config import load_suite  # loads torch

        suite = load_suite(name, {})
        own = suite.dataset
        return suite.spec, own.path if isinstance(own, OwnDataset) else None
    if name not in names():
        raise UsageError(
            f"unknown dataset {name!r}; allowed: {', '.join(names())}, a folder of your own "
            "images, <domain>/<class>/*, or a suite's YAML"
        )
    return dataset(name), None


def _homes() -> list[Path]:
    """The folders of datasets in the store."""
    store = default_store()
    return sorted(path for path in store.iterdir() if path.is_dir()) if store.is_dir() else []


def _prepared(home: Path) -> list[Path]:
    """The prepared domains of a dataset."""
    if not home.is_dir():
        return []
    return [p for p in sorted(home.iterdir()) if not p.name.startswith(".") and is_prepared(p)]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m suites.data",
        description="Prepare the images of datasets, list what is there, and check it.",
        epilog=f"datasets: {', '.join(names())}, a folder <domain>/<class>/*, or a suite's YAML; "
        "they are kept in $ITMC_STORE, else in the user's cache folder",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_prepare(commands)
    checking = commands.add_parser("verify", help="re-read all images and compare")
    checking.add_argument("dataset", nargs="*", help="default: all that are prepared")
    commands.add_parser("list", help="show what is prepared, its size and its gaps")
    return parser


def _add_prepare(commands: Subparsers) -> None:
    preparing = commands.add_parser(
        "prepare", help="download or take images, check them, and decode them once"
    )
    preparing.add_argument("dataset", help=f"{', '.join(names())}, a folder, or a suite's YAML")
    preparing.add_argument(
        "--from", dest="origin", type=Path, metavar="PATH",
        help="your folder, or zip or tar archive, instead of a download",
    )  # fmt: skip
    preparing.add_argument("--domains", help="names or letters, such as A,W (default: all)")
    preparing.add_argument(
        "--mirror", action="append", default=[], metavar="URL",
        help="folder with the same files, to try before the official addresses; may be repeated",
    )  # fmt: skip
    add_store_option(preparing)


if __name__ == "__main__":
    sys.exit(main())
