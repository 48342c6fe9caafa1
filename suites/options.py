"""Options that commands over a grid share, and what they mean for suite and machine."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from itmc.errors import UsageError
from suites.command import at_least

if TYPE_CHECKING:
    from itmc.training.method import Method
    from suites.config import Places, SuiteConfig

# What loads torch is imported where it is needed, so that Ctrl-C in these seconds is caught too.


# What `--set` may change besides the hyper-parameters of methods.
SECTIONS = ("network", "data", "training")


def add_suite_options(parser: argparse.ArgumentParser) -> None:
    """Which suite, with which networks and data, and where."""
    from suites.config import suite_names

    parser.add_argument(
        "suite",
        help=f"{', '.join(suite_names())}, a YAML file, or a folder of your own images, "
        "<domain>/<class>/*",
    )
    parser.add_argument("--backbone", help="digits_convnet, or a torchvision or timm model")
    parser.add_argument("--weights", help="a full timm or torchvision tag, a file, or none")
    parser.add_argument("--teacher", help="another network to guide (default: the student's own)")
    parser.add_argument("--teacher-weights", help="as --weights, of the teacher")
    parser.add_argument(
        "--data-root",
        type=Path,
        metavar="PATH",
        help="folder or archive with your copy of the data (default: what is prepared, else "
        "downloaded)",
    )
    add_store_option(parser)
    parser.add_argument("--epochs", type=int, help="epochs of adaptation of the unpruned network")
    parser.add_argument("--image-size", type=int, help="side of the input in pixels")
    add_machine_options(parser)
    parser.add_argument(
        "--judge-teacher", action="store_true",
        help="each epoch judge the teacher too, where there is one: its accuracy, and how often "
        "the student says the same where it is right and where it is wrong",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", default=[], metavar="METHOD.KEY=VALUE",
        help="a hyper-parameter of a method, or of network, data, training; may be repeated",
    )  # fmt: skip


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """What to compute on, and how."""
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--precision", choices=("auto", "fp32", "bf16"),
        help="what networks compute in (default: the suite's; auto: bf16 where the processor has "
        "instructions for it)",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=at_least(1), help="of a run on the CPU (default: its share of the cores)"
    )
    parser.add_argument(
        "--channels-last", action=argparse.BooleanOptionalAction, default=True,
        help="keep the channels of a pixel together in memory (default: yes)",
    )  # fmt: skip
    parser.add_argument(
        "--compile", action="store_true",
        help="have torch.compile translate the networks, anew whenever one has lost channels",
    )  # fmt: skip
    parser.add_argument(
        "--kernels", choices=("auto", "native", "torch"), default="auto",
        help="of BatchNorm in bf16 on the CPU: native ones are compiled here, by g++ (default: "
        "auto, native where there is a compiler)",
    )  # fmt: skip


def add_jobs_option(parser: argparse.ArgumentParser) -> None:
    """How many runs at once, for commands that run them on this machine."""
    parser.add_argument(
        "--jobs", type=int,
        help="runs side by side (default: as many as the cores have room for, or one on a GPU)",
    )  # fmt: skip


def add_store_option(parser: argparse.ArgumentParser) -> None:
    """How to keep images that are prepared now."""
    from itmc.domains.store import KINDS

    parser.add_argument(
        "--store", choices=KINDS,
        help="prepare images as decoded arrays (default), or keep their files, jpeg, which takes "
        "a fraction of the room and decodes them whenever they are read",
    )  # fmt: skip


def changes_of(options: argparse.Namespace) -> dict[str, Any]:
    """What the command line changes, in the layout of a suite's YAML."""
    from itmc.training.method import method

    changes: dict[str, Any] = {"network": {}, "data": {}, "training": {}, "methods": {}}
    given = {key: value for key, value in vars(options).items() if value is not None}
    if "tasks" in given:
        changes["tasks"] = "all" if options.tasks == "all" else words(options.tasks)
    if "compression" in given:
        changes["compression"] = _numbers(options.compression, "--compression", float)
    if "seeds" in given:
        changes["seeds"] = _numbers(options.seeds, "--seeds", int)
    for option, section, key in (
        ("epochs", "training", "epochs"),
        ("image_size", "data", "image_size"),
        ("precision", "training", "precision"),
        ("backbone", "network", "backbone"),
        ("weights", "network", "weights"),
    ):
        if option in given:
            changes[section][key] = given[option]
    if "protocol" in given:
        changes["protocol"] = options.protocol
    if given.get("no_share"):
        changes["share"] = False
    if "teacher" in given:
        changes["teacher"] = {"backbone": options.teacher}
        if "teacher_weights" in given:
            changes["teacher"]["weights"] = options.teacher_weights
    elif "teacher_weights" in given:
        raise UsageError("--teacher-weights needs --teacher too: the network that they are of")
    for network, weights in (("backbone", "weights"), ("teacher", "teacher_weights")):
        if network in given and weights not in given and _suite_is_pretrained(options.suite):
            raise UsageError(
                f"--{network} {given[network]} needs --{weights.replace('_', '-')} too (a tag, a "
                "file or none): the suite's own weights are of its own backbone"
            )
    for text in options.set:
        section, key, value = assignment(text)
        if section in SECTIONS:
            changes[section][key] = value
        else:
            method(section)  # refuse an unknown name
            changes["methods"].setdefault(section, {})[key] = value
    return changes


def _suite_is_pretrained(name: str) -> bool:
    from suites.config import load_suite

    return load_suite(name, {}).network.weights != "none"


def assignment(text: str) -> tuple[str, str, Any]:
    """Section (or method), key and value of a ``METHOD.KEY=VALUE``."""
    name, equals, value = text.partition("=")
    section, dot, key = name.partition(".")
    if not (equals and dot and section and key):
        raise UsageError(f"--set {text!r} is not written METHOD.KEY=VALUE")
    try:
        return section, key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {text!r}: the value is no valid YAML") from error


def refuse_unused(
    options: argparse.Namespace, suite: SuiteConfig, chosen: Sequence[type[Method]]
) -> None:
    """Raise UsageError where an option changes nothing that is run."""
    from itmc.training.method import methods, settings_of

    if options.teacher is not None and not any(method.guided for method in chosen):
        guided = ", ".join(name for name, known in methods().items() if known.guided)
        raise UsageError(f"no chosen method has a teacher; with --teacher choose of: {guided}")
    for text in options.set:
        section, key, _ = assignment(text)
        if (section, key) == ("training", "precision"):
            raise UsageError(f"--set {text!r}: the precision is --precision's to set")
        if section == "data" and key == "source_holdout" and suite.protocol == "paper":
            raise UsageError(f"--set {text!r}: the protocol paper holds nothing out")
        if section in SECTIONS:
            continue
        concerned = [method for method in chosen if section in (method.name, method.base)]
        if not concerned:
            raise UsageError(
                f"--set {text!r} changes {section}, which is not among --methods "
                f"({', '.join(method.name for method in chosen)})"
            )
        value = suite.methods[section][key]
        settings = [settings_of(method.name, suite.methods) for method in concerned]
        if not any(key in given and given[key] == value for given in settings):
            raise UsageError(
                f"--set {text!r} changes nothing in "
                f"{', '.join(method.name for method in concerned)}: set their own {key}"
            )


@dataclass(frozen=True)
class Machine:
    """What each run of a grid gets."""

    device: Literal["cpu", "cuda"]
    threads: int


def places_of(
    options: argparse.Namespace,
    suite: SuiteConfig,
    out: Path,
    module: str = "suites.run",
    machine: Machine | None = None,
) -> Places:
    """Where things are, and what ``module`` was asked.

    ``machine``: what the runs will be on, unless it is this one.
    """
    from itmc.domains.store import default_store
    from suites.asked import asked
    from suites.config import Places

    teacher = None if suite.teacher is None else _weights_file(suite.teacher.weights)
    machine = machine or _this_machine(options)
    return Places(
        out=out.resolve(),
        data=default_store().resolve() / suite.spec.store_name,
        origin=_origin_of(options, suite),
        kind=options.store,
        weights_file=_weights_file(suite.network.weights),
        teacher_weights_file=teacher,
        device=machine.device,
        threads=options.threads or machine.threads,
        channels_last=options.channels_last,
        compile=options.compile,
        judge_teacher=options.judge_teacher,
        asked=asked(options, module),
    )


def _this_machine(options: argparse.Namespace) -> Machine:
    import torch

    has_cuda = torch.cuda.is_available()
    if options.device == "cuda" and not has_cuda:
        raise UsageError("--device cuda: torch sees no CUDA device; allowed here: auto, cpu")
    device: Literal["cpu", "cuda"] = "cuda" if has_cuda and options.device != "cpu" else "cpu"
    return Machine(device, max(1, cores() // jobs_of(options.jobs, device, options.threads)))


def _origin_of(options: argparse.Namespace, suite: SuiteConfig) -> Path | None:
    """What to prepare the images from, unless they are prepared already or downloaded."""
    from itmc.domains.own import OwnDataset

    given: Path | None = options.data_root
    if isinstance(suite.dataset, OwnDataset):
        if given is not None:
            raise UsageError(
                f"--data-root {str(given)!r}: the suite has its own images; leave it out"
            )
        return suite.dataset.path.resolve()
    if given is not None and suite.spec.embedded:
        raise UsageError(
            f"--data-root {str(given)!r}: {suite.spec.name} needs no images, it makes them; leave "
            "it out"
        )
    return None if given is None else given.resolve()


def _weights_file(given: str) -> Path | None:
    """The file that the weights name, or ``None`` for a tag or ``none``."""
    path = Path(given)
    looks_like_file = path.suffix in (".pth", ".pt", ".bin", ".safetensors") or "/" in given
    if not looks_like_file:
        return None
    if not path.is_file():
        raise UsageError(f"weights {given!r}: there is no such file")
    return path.resolve()


def jobs_of(asked: int | None, device: str, threads: int | None = None) -> int:
    """Runs side by side, unless told otherwise: as many as the cores have room for, of so many
    ``threads`` each (one, where these are not given), or one on a GPU."""
    if asked is not None and asked < 1:
        raise UsageError(f"--jobs {asked}: at least 1 is needed")
    return asked or (1 if device == "cuda" else max(1, cores() // (threads or 1)))


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def words(text: str) -> list[str]:
    """What commas separate."""
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str, option: str, kind: Callable[[str], float]) -> list[float]:
    try:
        return [kind(word) for word in words(text)]
    except ValueError as error:
        what = "whole numbers" if kind is int else "numbers"
        raise UsageError(f"{option} {text!r}: expected {what} separated by commas") from error
