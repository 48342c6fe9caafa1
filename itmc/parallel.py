"""One run trained by several processes, on GPUs or nodes, with the gradients of one process.

Each process passes its part of the global batch through the networks. Features and logits are then
gathered, so that every process computes the same losses, those of the global batch: a discrepancy
over parts would be another one. Gradients flow back to a process's own part only, so their sum over
the processes is the gradient of one process with the whole batch, and all take the same step.

torch's DistributedDataParallel is not used: it averages the gradients of losses that each process
has by itself, for one network whose parameters stay. Here losses are common, several networks learn
in a step, and surgery replaces parameters; one sum after the backward pass is plainer.

A process that is alone, which is the rule, does nothing of all this. What is random within networks
(dropout, stochastic depth) differs by process, and so from what one process would draw.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from itmc.errors import UsageError, first_line
from itmc.seeding import seeded

P = ParamSpec("P")
T = TypeVar("T")

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
# The longest that processes wait for one another: the first writes the record by itself.
_TIMEOUT = timedelta(minutes=30)
# And until all are there.
_JOINING = timedelta(minutes=3)


@dataclass(frozen=True)
class World:
    """The processes of a run, and which of them this is."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """This process's part of ``count`` images; UsageError where there is no even one."""
        if count % self.size:
            raise UsageError(
                f"training.batch_size {count} cannot be parted evenly between {self.size} "
                f"processes; give a multiple of {self.size}"
            )
        share = count // self.size
        return slice(self.rank * share, (self.rank + 1) * share)


def world() -> World:
    """The processes that train together: one, unless ``joined`` was entered."""
    if not (dist.is_available() and dist.is_initialized()):
        return World()
    return World(dist.get_rank(), dist.get_world_size())


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Be one of the processes that train a run together on ``device``, ``cpu`` or ``cuda``.

    Which one is told by the environment, as torchrun and submitit's helper for torch set it: RANK,
    WORLD_SIZE, LOCAL_RANK (the number of the GPU), MASTER_ADDR and MASTER_PORT. Without WORLD_SIZE
    the process is alone, and with no need of a group.

    Where the inside raises, the group is left as it is: the process is to end, and then the
    others' next exchange fails, at once or, where it cannot tell, after half an hour.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield World()
        return
    if missing := [name for name in _VARIABLES if name not in os.environ]:
        raise UsageError(
            f"WORLD_SIZE is set, but not {', '.join(missing)}; start the processes by torchrun, or "
            "unset it"
        )
    if device == "cuda":
        local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= gpus:
            raise UsageError(
                f"this machine has {gpus} CUDA devices, too few for process {local} (from 0) on "
                "it; start one process a device"
            )
        torch.cuda.set_device(local)
    size, rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    dist.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        store=_meeting_point(size, rank), world_size=size, rank=rank, timeout=_TIMEOUT,
    )  # fmt: skip
    yield world()
    dist.barrier()  # none leaves while another still needs it
    dist.destroy_process_group()


def _meeting_point(size: int, rank: int) -> Any:
    """Where the processes find one another. Raises UsageError where some do not come in time."""
    address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    # torchrun keeps one there itself.
    keeps = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    try:
        store = TCPStore(address, int(port), size, keeps, timeout=_JOINING)
    except (dist.DistStoreError, dist.DistNetworkError) as error:
        raise UsageError(
            f"process {rank} of {size} has not met the others at {address}:{port} within "
            f"{_JOINING.seconds} s ({first_line(error)}); set MASTER_ADDR to a name by which all "
            "nodes reach the first"
        ) from error
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return PrefixStore(f"itmc-{attempt}", store)


def gathered(rows: Tensor) -> Tensor:
    """``(N, ...)`` of each process, one behind the other: ``(size * N, ...)``, the same on all.

    The gradient is that of a loss which all processes compute alike; each keeps its own part's.
    """
    if world().size == 1:
        return rows
    everything: Tensor = _Gather.apply(rows)
    return everything


def summed(tensor: Tensor) -> Tensor:
    """The sum of ``tensor`` over all processes, differentiable."""
    if world().size == 1:
        return tensor
    total: Tensor = _Sum.apply(tensor)
    return total


def counted_once(term: Tensor) -> Tensor:
    """A loss that each process has in whole: of parameters alone, or of ``summed`` values.

    Its value is left as it is; its gradients, when they are summed, count once.
    """
    size = world().size
    return term if size == 1 else term.detach() + (term - term.detach()) / size


@torch.no_grad()
def sum_gradients(parts: Iterable[Tensor], wholes: Iterable[Tensor] = ()) -> None:
    """Sum the gradients of parameters over all processes, in place, by one exchange.

    ``parts``: parameters of networks, for which each process has the gradient of its images.
    ``wholes``: those that read gathered outputs, as discriminators do. Their gradients are in whole
    on each process, equal but for rounding; the first's counts.
    """
    here = world()
    if here.size == 1:
        return
    whole = [parameter.grad for parameter in wholes if parameter.grad is not None]
    if not here.is_first:
        for gradient in whole:
            gradient.zero_()
    gradients = [parameter.grad for parameter in parts if parameter.grad is not None] + whole
    if not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, values in zip(gradients, torch.split(flat, sizes), strict=True):
        gradient.copy_(values.view(gradient.shape))


def of_first(make: Callable[[], T]) -> T:
    """What ``make`` gives on the first process, which alone calls it; the others wait for it.

    For what may differ between processes (files, measurements, ties), and to decide together. What
    it raises there is raised on all.
    """
    here = world()
    if here.size == 1:
        return make()
    box: list[Any] = [None, None]
    if here.is_first:
        try:
            box[0] = make()
        except Exception as error:
            box[1] = error
    dist.broadcast_object_list(box, src=0)
    if box[1] is not None:
        raise box[1]
    value: T = box[0]
    return value


def of_all(value: T) -> list[T]:
    """The ``value`` of each process, by rank."""
    here = world()
    if here.size == 1:
        return [value]
    values: list[Any] = [None] * here.size
    dist.all_gather_object(values, value)
    return values


def by_first(action: Callable[P, None]) -> Callable[P, None]:
    """Decorator: the first process does it, the others do nothing."""

    @functools.wraps(action)
    def only_first(*args: P.args, **kwargs: P.kwargs) -> None:
        if world().is_first:
            action(*args, **kwargs)

    return only_first


@torch.no_grad()
def copy_first(network: nn.Module) -> None:
    """Give ``network`` the weights and statistics that it has on the first process."""
    if world().size > 1:
        for tensor in network.state_dict().values():
            values = tensor.contiguous()
            dist.broadcast(values, src=0)
            tensor.copy_(values)


@contextmanager
def own_noise() -> Iterator[None]:
    """Inside, torch's global generator draws otherwise than in the other processes."""
    with seeded(torch.initial_seed(), *own_key()) if own_key() else nullcontext():
        yield


def own_key() -> tuple[str | int, ...]:
    """What to add to the key of a seed so that processes draw differently; nothing for one."""
    here = world()
    return () if here.size == 1 else ("process", here.rank)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, rows: Tensor) -> Tensor:
        context.count = len(rows)
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(world().size)]
        dist.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].narrow(0, world().rank * context.count, context.count)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        return _total(tensor)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        # All processes' outputs depend on this sum, and so on what this process added to it.
        return _total(gradients[0])


def _total(tensor: Tensor) -> Tensor:
    total = tensor.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total
