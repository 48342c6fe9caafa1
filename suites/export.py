"""``python -m suites.export RUN --format onnx|pt2``: a run's student as one file to ship."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itmc.errors import UsageError
from suites.command import DONE, Parser, exit_code

if TYPE_CHECKING:
    from itmc.networks import NetworkConfig

# What loads torch is imported where it is needed, so that wrong usage is told at once.

FORMATS = ("onnx", "pt2")
_WANTED = "give the directory of a finished run, OUT/<hash>"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return exit_code("suites.export", lambda: _run(_parser().parse_args(arguments)))


def _run(options: argparse.Namespace) -> int:
    record = _record(options.run)
    out = options.out or options.run / f"student.{options.format}"
    _check_out(out, options.format, options.force)

    from itmc.networks.build import example
    from itmc.networks.export import BATCHES, export_onnx, export_pt2
    from itmc.networks.spec import load_network

    network, config = load_network(options.run)
    export = {"onnx": export_onnx, "pt2": export_pt2}[options.format]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        made = export(network, example(config), out, about(record, config))
    except OSError as error:
        raise UsageError(
            f"{str(out)!r} cannot be written: {error.strerror}; choose another --out"
        ) from error
    opset = "" if made.opset is None else f", opset {made.opset}"
    print(
        f"{out}: {made.size / 1e6:.2f} MB{opset}, logits within {made.difference:.1e} of torch's "
        f"at batches of {', '.join(map(str, BATCHES))}"
    )
    return DONE


def about(record: dict[str, Any], config: NetworkConfig) -> dict[str, Any]:
    """What a stranger must know to use the network of ``record``: inputs, classes, origin.

    Raises UsageError where the record lacks it, or is of another network than ``config``.
    """
    from pydantic import ValidationError

    from itmc.domains.augment import DataConfig, in_words

    try:
        data = DataConfig.model_validate(record["data"])
        network = type(config).model_validate(record["network"])
        classes, stored_size = record["dataset"]["classes"], record["dataset"]["stored_size"]
        origin = {
            "dataset": record["dataset"]["name"],
            "task": record["task"]["name"],
            "method": record["method"]["name"],
            "macs_removed": record["compression"]["reached"],
            "run": record["run"],
        }
    except (KeyError, TypeError, ValidationError) as error:
        raise UsageError(
            f"record.json is damaged, or of another version ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}); run the suite again in another folder"
        ) from error
    if network != config:
        raise UsageError("record.json and student.json are of different networks")
    mean, deviation = data.statistics
    return {
        "input": f"images: float32 (N, 3, {data.image_size}, {data.image_size}), normalised RGB",
        "output": f"logits: float32 (N, {config.classes})",
        "image_size": data.image_size,
        "mean": list(mean),
        "std": list(deviation),
        "preprocessing": in_words(data, stored_size),
        "classes": classes,
        "network": config.model_dump(mode="json"),
        **origin,
    }


def _record(run: Path) -> dict[str, Any]:
    """The record of the finished run in the directory ``run``."""
    if not run.is_dir():
        raise UsageError(f"{str(run)!r} is no directory; {_WANTED}")
    try:
        record = json.loads((run / "record.json").read_text())
    except FileNotFoundError:
        raise UsageError(f"{str(run)!r} {_why_not(run)}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"record.json in {str(run)!r} cannot be read: {error}; {_WANTED}"
        ) from error
    if not isinstance(record, dict):
        raise UsageError(f"record.json in {str(run)!r} is no record; {_WANTED}")
    return record


def _why_not(run: Path) -> str:
    """Why the directory ``run``, which has no record, is no finished run, and what to give."""
    if (run / "failure.json").exists():
        return "is a run that failed (failure.json says why); run the suite again"
    if (run / "config.yaml").exists():
        return (
            "is a run, or a shared stage, without a record.json: not finished; run the suite again"
        )
    if finished := sorted(path.parent for path in run.glob("*/record.json")):
        return f"is no run, but holds finished ones; give one of them, such as {finished[0]}"
    return f"holds no record.json; {_WANTED}"


def _check_out(out: Path, wanted: str, force: bool) -> None:
    if out.suffix != f".{wanted}":
        raise UsageError(f"--out {str(out)!r} does not end in .{wanted}, as --format {wanted} does")
    if out.is_dir():
        raise UsageError(f"--out {str(out)!r} is a directory; name a file")
    if out.exists() and not force:
        raise UsageError(f"{str(out)!r} exists; give --force to replace it, or another --out")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m suites.export",
        description="Write the student of a finished run as one file that needs nothing of this "
        "project: images in, logits out, any batch size. It is compared with the network first.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="directory of a finished run")
    parser.add_argument(
        "--format", choices=FORMATS, required=True,
        help="onnx (needs pip install 'itmc-bench[onnx]'), or pt2, the archive of torch.export",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="the file (default: RUN/student.FORMAT)")
    parser.add_argument("--force", action="store_true", help="replace a file that exists")
    return parser


if __name__ == "__main__":
    sys.exit(main())
