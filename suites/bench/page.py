"""What ``step`` measured, in Markdown: from the report that JSON has, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from suites.bench.clock import PHASES

_STEP_HEADS = (
    "method", "c", "MACs left", "way", "precision", "ms a step", "middle half", "rounds",
    "images/s", "MFU", "GFLOP", "least ms: arithmetic", "least ms: memory", "peak MB", "naive/ours",
    "its middle half",
)  # fmt: skip
_PHASE_HEADS = ("method", "c", "way", "ms", *(f"{name} %" for name in PHASES), "host waits ms")
_NONE = "–"


def page(report: Mapping[str, Any]) -> str:
    """The page of ``report``."""
    settings, machine, data = report["settings"], report["machine"], report["data"]
    rates = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in machine["rates"].items())
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    gpu = f", {machine['gpu']['name']}" if "gpu" in machine else ""
    compiled = ", compiled" if settings["compile"] else ""
    native = ", native kernels" if settings["kernels"] == "native" else ""
    return f"""# A training step of {settings["backbone"]} at {settings["image_size"]} px

Made by `{report["command"]}` on {machine["processor"]}, {machine["threads"]} thread(s) of
{machine["cores"]} cores{gpu}; {versions}. Steps of {settings["batch"]} source and \
{settings["batch"]} target images,
on the device {machine["device"]}; ours in {settings["precision"]}{compiled}{native}.

| what the machine does | |
| --- | --- |
| matrix products, GFLOP/s | {rates} |
| copy, GB/s read and written | {machine["bandwidth"] / 1e9:.1f} |

## Steps

{_table(_STEP_HEADS, [_step(row) for row in report["rows"]])}

{_run_average(report["run"])}

## Where the time goes

{_table(_PHASE_HEADS, [_phases(row) for row in report["rows"]])}

## What was measured, and how

- Matrix rate and bandwidth are the best of those before and after all else; square matrices of
  {", ".join(map(str, machine["gemm_sizes"]))}.
- Random weights; {data["images"]} synthetic images of {data["classes"]} classes a domain, stored at
  {data["stored_size"]} px, files of {data["file_bytes"] / 1e3:.0f} kB. *Ours* is the step that all
  runs make, its data included. *naive* is the step as public code writes it: files decoded by
  Pillow in a DataLoader for each domain with two workers each, float32 (with torch's own TF32 on
  a GPU), NCHW, source and target in passes of their own, a second pass of the teacher, every loss
  fetched in every step. Its students are as narrow as ours.
- The ways take turns in one process, and workers stand still when it is not their turn. Times are
  medians over rounds, with the middle half; *naive/ours* is the median of the ratio of a round.
  A turn begins with a step that is not measured. What is freed goes back to the system in naive's
  turns, as it does unasked; our runs have the process keep it.
- *c*: share of MACs asked to be removed from ITMC's student. While it is less than the last of
  them, importance is accumulated. GFLOP are counted: 2 a MAC, of a forward pass (fvcore), and twice
  as many backward; discriminator and losses, far below, are not. *MFU* is our count by time and by
  the best matrix rate in the way's precision, for both ways: what the method needs.
- *Least ms*: GFLOP at that rate; and bytes at copy bandwidth, were no cache to hold any: each
  output of a convolution or matrix product is written, read for BatchNorm's statistics, read and
  written by normalisation and activation as one, and read by the next layer; backward passes move
  twice as much. The larger binds; what caches hold may go below it.
- *Peak MB*: what a step takes beside networks, optimiser and data, in this process.
- Phases are measured in rounds of their own, waiting for the device wherever one begins or ends;
  shares of their sum. *data* of naive is the wait for its workers. *other* is what no phase covers:
  Python between kernels, and what the host fetches. *Host waits* are a GPU's, from its profiler: on
  a CPU there is nothing to wait for.
"""


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _step(row: Mapping[str, Any]) -> tuple[str, ...]:
    least = row["least_seconds"]
    speedup = row.get("speedup")
    return (
        row["method"],
        f"{row['compression']:g}",
        f"{row['macs_left']:.3f}",
        row["way"],
        row["precision"],
        _ms(row["seconds"]["median"]),
        f"{_ms(row['seconds']['low'])}-{_ms(row['seconds']['high'])}",
        str(row["rounds"]),
        f"{row['images_per_second']:.4g}",
        f"{row['mfu']:.3f}",
        f"{row['flops'] / 1e9:.4g}",
        _ms(least["arithmetic"]),
        _ms(least["memory"]),
        _NONE if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:.0f}",
        _NONE if speedup is None else f"{speedup['median']:.2f}",
        _NONE if speedup is None else f"{speedup['low']:.2f}-{speedup['high']:.2f}",
    )


def _phases(row: Mapping[str, Any]) -> tuple[str, ...]:
    phases, wait = row["phases"], row["host_wait_seconds"]
    total = sum(phases.values())
    return (
        row["method"],
        f"{row['compression']:g}",
        row["way"],
        _ms(total),
        *(f"{100 * phases[name] / total:.1f}" for name in PHASES),
        _NONE if wait is None else _ms(wait),
    )


def _run_average(run: Mapping[str, Any]) -> str:
    speeds = run["images_per_second"]
    if not speeds:
        return (
            "No average over a run of ITMC: its first and last compression were not both measured."
        )
    told = ", ".join(f"{way} {speed:.4g}" for way, speed in speeds.items())
    ratio = f" (ratio {speeds['ours'] / speeds['naive']:.2f})" if "naive" in speeds else ""
    return (
        f"Over a run of ITMC from c = 0 to {run['final']:g}: {told} images/s{ratio}. It is "
        "E / Σ 1 / r(c(e)) over\nits E epochs, c(e) being the schedule's share after e epochs, "
        "r images/s, linear between the\ncompressions measured."
    )


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.4g}"
