"""What the commands share: arguments, wrong usage in one line, files written whole."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from results.records import Records, ResultsError, read
from results.schema import SELECTIONS
from results.sheet import FORMATS, Document

WRONG_USAGE = 2


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; the usage is `--help`'s to show."""

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        self.exit(WRONG_USAGE, f"{self.prog}: {' '.join(message.split())}\n")


def parser(prog: str, description: str) -> Parser:
    """A parser with the arguments that every command over run records takes."""
    built = Parser(
        prog=f"python -m {prog}",
        description=description,
    )
    built.add_argument(
        "runs",
        metavar="RUNS",
        nargs="+",
        type=Path,
        help="out directory of runs (RUNS/*/record.json), or the directory of one run",
    )
    add_choice(built)
    return built


def add_choice(built: Parser) -> None:
    """The arguments that say which accuracy of a run counts."""
    built.add_argument(
        "--select",
        choices=list(SELECTIONS),
        help="which epoch's accuracy counts: the last, the oracle's (best by target labels), or "
        "the one that a label-free validator chose (default: the protocol's own, that is last for "
        "strict and oracle for paper)",
    )
    built.add_argument(
        "--mean-class",
        action="store_const",
        const="mean_class",
        default="overall",
        dest="metric",
        help="mean of the accuracies of the classes instead of overall accuracy",
    )


def add_output(built: Parser) -> None:
    """The arguments of commands that print a document; `deliver` follows them."""
    built.add_argument(
        "--format",
        choices=list(FORMATS),
        default="terminal",
        help="output format (default: %(default)s)",
    )
    built.add_argument("--out", metavar="FILE", type=Path, help="write here instead of printing")


def deliver(document: Document, arguments: argparse.Namespace) -> None:
    """Print the document or write it to the file that was asked for."""
    if arguments.out is not None:
        write_whole(arguments.out, document.text(arguments.format).encode())
        print(arguments.out)
        return
    show(document.text(arguments.format, terminal_width()))


def terminal_width() -> int | None:
    """Columns of the terminal; None where nobody looks at the output."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def show(text: str) -> None:
    """Print a text; who reads it may stop anywhere (`head`, a pager)."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough. Python flushes once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(
    built: Parser,
    command: Callable[[argparse.Namespace, Records], None],
    argv: Sequence[str] | None,
) -> int:
    """Parse, read the records, run the command; the exit code, 2 with one line for wrong usage."""
    arguments = built.parse_args(argv)

    def body() -> int:
        command(arguments, read_and_say(built, arguments.runs))
        return 0

    return guarded(built, body)


def guarded(built: Parser, body: Callable[[], int]) -> int:
    """The exit code of `body`; wrong usage leaves with 2 and one line."""
    # A terminal that lacks a character gets a '?', not a traceback.
    for stream in (sys.stdout, sys.stderr):
        getattr(stream, "reconfigure", lambda **_: None)(errors="replace")
    try:
        return body()
    except ResultsError as error:
        built.error(str(error))


def read_and_say(built: Parser, paths: Sequence[Path]) -> Records:
    """Read records, and say on standard error which are left out."""
    records = read(paths)
    for line in records.left_out:
        print(f"{built.prog}: left out {line}", file=sys.stderr)
    return records


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all; its folder is made if need be.

    Raises:
        ResultsError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
            temporary = Path(file.name)
            try:
                file.write(content)
                file.close()
                # A temporary file is its owner's only; a result follows the umask, as any file.
                temporary.chmod(0o666 & ~_umask())
                temporary.replace(path)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise ResultsError(f"cannot write {path}: {error.strerror}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
