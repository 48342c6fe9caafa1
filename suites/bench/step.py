"""``python -m suites.bench step``: what a training step takes, and what it could take at best."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

import suites.config  # noqa: F401 - registers all methods
from itmc.errors import UsageError
from itmc.files import write_atomic
from itmc.itmc import ITMCConfig
from itmc.networks.build import NetworkConfig, build
from itmc.networks.compute import Compute
from itmc.training.method import method
from itmc.training.precision import resolved, settled
from suites.bench import machine
from suites.bench.arguments import among, numbers
from suites.bench.domains import CLASSES, make_domains
from suites.bench.page import page
from suites.bench.rows import Cell, Effort, measured, over_a_run, rated
from suites.bench.stages import Settings, context_of, stage_of
from suites.command import DONE, at_least
from suites.config import Places
from suites.options import add_machine_options, cores
from suites.outputs import check_file
from suites.progress import Steps, bars
from suites.worker import set_up_torch

SCHEMA = 1
METHODS = ("dan", "cdan", "itmc")
_FINAL = 0.75
"""What ITMC prunes to where no pruned student is asked for."""
_SECONDS = 20.0


def run(options: argparse.Namespace, command: str) -> int:
    """The command; returns the exit code."""
    check_file("--out", options.out)
    check_file("--json", options.json)
    if bad := [c for c in options.compressions if not 0 <= c < 1]:
        raise UsageError(f"--compressions: {bad[0]:g} is not allowed; give 0 <= compression < 1")
    with bars() as (console, bar), tempfile.TemporaryDirectory() as folder:
        found = _measure(options, Path(folder), Steps(console, bar))
    report = {"schema": SCHEMA, "command": command, **found}
    text = page(report)
    print(text)
    if options.json is not None:
        write_atomic(options.json, (json.dumps(report, indent=1) + "\n").encode())
    if options.out is not None:
        write_atomic(options.out, text.encode())
    return DONE


def _measure(options: argparse.Namespace, folder: Path, shown: Steps) -> dict[str, Any]:
    """The report, but for what says where it comes from."""
    settings = _settings(options, folder, shown)
    effort = Effort(options.rounds, options.seconds)
    shown.say("measuring the machine's matrix rate and copy bandwidth")
    limits = machine.limits(settings.device)
    shown.say("drawing two domains of images")
    domains = make_domains(folder, settings.image_size)
    final = max(options.compressions) or _FINAL
    cells = list(_cells(options.methods, options.compressions, final))
    for cell in cells:  # so that what cannot be that small is said before anything is timed
        stage_of(cell.method, cell.compression, cell.final, context_of(settings, domains))
    rows: list[dict[str, Any]] = []
    for cell in cells:
        what = f"{cell.method} c={cell.compression:g}"
        report = partial(shown.step, what, total=effort.rounds, unit="rounds")
        rows += (found := measured(cell, settings, domains, options.naive, effort, report))
        shown.step(what, found[0]["rounds"], found[0]["rounds"], "rounds")  # which ends its bar
        times = (f"{row['way']} {1e3 * row['seconds']['median']:.4g} ms" for row in found)
        shown.say(f"{what}: {', '.join(times)}")
    limits = limits.or_more(machine.limits(settings.device))
    knobs = method("itmc").Knobs()
    assert isinstance(knobs, ITMCConfig)
    return {
        "settings": _described(settings) | {"bn": "joint"},
        "data": {
            "images": len(domains.source.images),
            "classes": CLASSES,
            "stored_size": domains.stored_size,
            "file_bytes": domains.file_bytes,
        },
        "machine": machine.facts(settings.device) | asdict(limits),
        "rows": [rated(row, limits) for row in rows],
        "run": {"final": final, "images_per_second": over_a_run(rows, knobs, final)},
    }  # fmt: skip


def _described(settings: Settings) -> dict[str, Any]:
    compute = settings.compute
    return {
        "backbone": settings.backbone,
        "image_size": settings.image_size,
        "batch": settings.batch,
        "device": settings.device.type,
        "precision": compute.precision,
        "channels_last": compute.channels_last,
        "compile": compute.compile,
        "kernels": compute.kernels,
    }


def _settings(options: argparse.Namespace, folder: Path, shown: Steps) -> Settings:
    """What steps have in common; torch is then set up as it is for all runs."""
    name = options.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    set_up_torch(Places(out=folder, data=folder, device=name, threads=options.threads or cores()))
    build(  # so that a wrong name is said before anything is measured
        NetworkConfig(backbone=options.backbone, classes=CLASSES, image_size=options.image_size)
    )
    precision = resolved(options.precision or "auto", name)
    compute = Compute(precision, options.channels_last, options.compile)
    kernels = settled(options.kernels, compute, name, shown.say)
    return Settings(
        backbone=options.backbone,
        image_size=options.image_size,
        batch=options.batch,
        device=device,
        compute=replace(compute, kernels=kernels),
    )


def _cells(methods: Sequence[str], compressions: Sequence[float], final: float) -> Iterator[Cell]:
    """What is measured; DAN and CDAN train the whole network."""
    for name in dict.fromkeys(methods):
        for compression in dict.fromkeys(compressions) if name == "itmc" else [0.0]:
            yield Cell(name, compression, final)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command may be asked for."""
    parser.add_argument("--backbone", default="mobilenet_v2", help="default: %(default)s")
    parser.add_argument("--image-size", type=at_least(8), default=224, help="default: %(default)s")
    parser.add_argument(
        "--batch", type=at_least(2), default=32, help="images of each domain; default: %(default)s"
    )
    parser.add_argument(
        "--methods", type=among(METHODS), default=list(METHODS), help="default: dan,cdan,itmc"
    )
    parser.add_argument(
        "--compressions", type=numbers, default=[0.0, 0.5, 0.75],
        help="of ITMC's student; default: 0,0.5,0.75",
    )  # fmt: skip
    parser.add_argument(
        "--naive", action="store_true", help="measure the step of public code too, in turns"
    )
    add_machine_options(parser)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--rounds", type=at_least(1), help="so many, each way one turn")
    length.add_argument(
        "--seconds", type=float, default=_SECONDS, help="of measuring a row; default: %(default)s"
    )
    parser.add_argument("--json", type=Path, help="write all that was measured here")
    parser.add_argument("--out", type=Path, help="write the page here too")
