"""What the commands share: arguments, wrong usage in one line, files written whole."""

from __future__ import annotations

import argparse
import errno
import io
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import NoReturn

from results.leaderboard_records import choice, read_leaderboards
from results.records import Records, ResultsError, read
from results.schema import SELECTIONS
from results.sheet import FORMATS, Document, one_line

WRONG_USAGE = 2
# For people, who rather see a '?' than nothing; the other formats are for programs.
_READ_BY_PEOPLE = ("terminal", "markdown")


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; the usage is `--help`'s to show."""

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        # Whether anybody reads it or not: the exit code tells, too.
        with suppress(OSError):
            say(f"{self.prog}: {message}")
        sys.exit(WRONG_USAGE)


def parser(prog: str, description: str, leaderboards: bool = False) -> Parser:
    """A parser with the arguments that every command over run records takes.

    `leaderboards`: whether it takes leaderboards, too; `run` reads them.
    """
    built = Parser(
        prog=f"python -m {prog}",
        description=description,
    )
    built.add_argument(
        "runs",
        metavar="RUNS",
        nargs="+",
        type=Path,
        help="out directory of runs (RUNS/*/record.json), or the directory of one run"
        + (", or a leaderboard (CSV)" if leaderboards else ""),
    )
    built.set_defaults(leaderboards=leaderboards)
    built.add_argument(
        "--tasks",
        metavar="TASKS",
        type=split_names,
        help="only these, such as 'print->hand,hand->print' (default: all)",
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


def split_names(text: str) -> tuple[str, ...]:
    """Names of methods between commas; those in the brackets of a variant belong to its name."""
    return tuple(name.strip() for name in re.split(r",(?![^\[]*\])", text))


def deliver(document: Document, arguments: argparse.Namespace) -> None:
    """Print the document or write it to the file that was asked for."""
    if arguments.out is not None:
        write_whole(arguments.out, encoded(document.text(arguments.format)))
        show(f"{arguments.out}\n")
        return
    text = document.text(arguments.format, terminal_width())
    show(text, for_program=arguments.format not in _READ_BY_PEOPLE)


def terminal_width() -> int | None:
    """Columns of the terminal; None where nobody looks at the output."""
    # Python has no standard output where it was closed before the start.
    seen = sys.stdout is not None and sys.stdout.isatty()
    return shutil.get_terminal_size().columns if seen else None


def encoded(text: str) -> bytes:
    """The text in UTF-8; half a character, which a name may hold, does not keep the rest back."""
    return text.encode("utf-8", errors="replace")


def show(text: str, for_program: bool = False) -> None:
    """Print a text; who reads it may stop anywhere (`head`, a pager), or never have begun.

    Args:
        text: with its ends of lines.
        for_program: whether it is printed in UTF-8 whatever the locale; for people, characters
            that the locale lacks become a `?`.

    Raises:
        ResultsError: it cannot be written, such as on a full disk.
    """
    if sys.stdout is None:
        return
    try:
        if for_program and hasattr(sys.stdout, "buffer"):
            sys.stdout.buffer.write(encoded(text))
        else:
            sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # Python flushes once more at exit, and would say so again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # Of a broken pipe the reader has seen enough.
        if not isinstance(error, BrokenPipeError):
            raise ResultsError(f"cannot write to standard output: {error.strerror}") from None


def say(text: str) -> None:
    """Print a line on standard error, where there is any."""
    if sys.stderr is not None:
        print(" ".join(one_line(text).split()), file=sys.stderr, flush=True)


def run(
    built: Parser,
    command: Callable[[argparse.Namespace, Records], None],
    argv: Sequence[str] | None,
) -> int:
    """Parse, read the records, run the command; the exit code, 2 with one line for wrong usage."""
    arguments = built.parse_args(argv)

    def body() -> int:
        files = [path for path in arguments.runs if path.is_file()]
        if arguments.leaderboards and files:
            records = _read_leaderboards(built, arguments, files)
        else:
            records = read_and_say(built, arguments.runs)
        if arguments.tasks is not None:
            records = records.of_tasks(arguments.tasks)
        command(arguments, records)
        return 0

    return guarded(built, body)


def guarded(built: Parser, body: Callable[[], int]) -> int:
    """The exit code of `body`; wrong usage, and what the system refuses, leaves with 2 and a line.

    What `body` says on standard error stands there once it has succeeded: an error stands alone.
    """
    # A terminal that lacks a character gets a '?', not a traceback.
    for stream in (sys.stdout, sys.stderr):
        getattr(stream, "reconfigure", lambda **_: None)(errors="replace")
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            code = body()
        for line in said.getvalue().splitlines():
            say(line)
    except (ResultsError, OSError) as error:
        built.error(str(error))
    return code


def read_and_say(built: Parser, paths: Sequence[Path]) -> Records:
    """Read records, and say on standard error which are left out."""
    records = read(paths)
    for line in (*records.left_out, *records.damaged_plans):
        say(f"{built.prog}: left out {line}")
    return records


def _read_leaderboards(
    built: Parser, arguments: argparse.Namespace, files: Sequence[Path]
) -> Records:
    """Read leaderboards, and let the accuracies by which they were made count.

    Raises:
        ResultsError: there are runs beside them, or other accuracies were asked for.
    """
    if others := [path for path in arguments.runs if path not in files]:
        raise ResultsError(f"{files[0]} is a leaderboard and {others[0]} is not; give one or other")
    records, entries = read_leaderboards(files)
    if not all(entry.figures for entry in entries):
        say(
            f"{built.prog}: of an older version, with means over seeds for costs and none of "
            "training; 'python -m results.leaderboard RUNS' writes the present one"
        )
    arguments.select, arguments.metric = choice(entries, arguments.select, arguments.metric)
    return records


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all; its folder is made if need be.

    A link stays, and its file is written. What is no file, such as a pipe, takes the content.

    Raises:
        ResultsError: it cannot be written.
    """
    try:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        # Before links are followed: those of open files in /proc lead to no path.
        if os.path.exists(path) and not os.path.isfile(path):
            path.write_bytes(content)
        else:
            _replace(Path(os.path.realpath(path)), content)
    except OSError as error:
        raise ResultsError(f"cannot write {path}: {_reason(path, error)}") from None


def _replace(path: Path, content: bytes) -> None:
    """Write beside the file first, then put it in its place; raises OSError."""
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


def _reason(path: Path, error: OSError) -> str:
    """Why a path cannot be written, in words."""
    if isinstance(error, FileExistsError | NotADirectoryError):
        for folder in path.parents:
            if os.path.isfile(folder):
                return f"{folder} is a file, no folder"
    return str(error.strerror)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
