"""A stage: one phase of training, driven by the one loop, and what it is given to work with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from itmc.config import Frozen
from itmc.cost import count_macs
from itmc.domains.batches import Batch, Batches
from itmc.losses.discrepancy import Discrepancy
from itmc.networks.build import Network, NetworkConfig, build, example
from itmc.networks.compute import Compute
from itmc.networks.spec import load_state, widths_of
from itmc.parallel import of_all, sum_gradients, world
from itmc.training.config import TrainingConfig
from itmc.training.meter import Meter
from itmc.training.optim import Optimiser

# Relative difference of norms; all-reduced gradients are equal to the bit.
_ALIKE = 1e-6


@dataclass(frozen=True)
class Handover:
    """What a finished stage hands to the next: its network, and its discriminator if it has one."""

    network: Network
    discrepancy: dict[str, Tensor]


@dataclass(frozen=True)
class Context:
    """What every stage of a run has in common. There are no target labels in it."""

    network: NetworkConfig
    training: TrainingConfig
    batches: Batches
    seed: int
    device: torch.device
    weights_file: str | None = None
    other_teacher: Context | None = None
    """The same for the teacher, where it is another network."""
    compute: Compute = field(default_factory=Compute)
    """What all passes go through."""
    meter: Meter = field(default_factory=Meter)

    @property
    def teacher(self) -> Context:
        """What the teacher is built from: the student's own network, unless another was chosen."""
        return self.other_teacher or self

    def fresh_network(self) -> Network:
        """The unpruned network at its initial weights, the same for every method of a seed."""
        return build(self.network, self.seed, self.weights_file).to(self.device)

    def unpruned_network(self) -> Network:
        """The unpruned network at random weights: for its shape."""
        return build(self.network.unpretrained()).to(self.device)

    @cached_property
    def example(self) -> Tensor:
        """One image to trace with, ``(1, 3, S, S)``."""
        return example(self.network, self.device)

    @cached_property
    def unpruned_macs(self) -> int:
        """MACs of the unpruned network for one image: what compression is a share of."""
        return count_macs(self.unpruned_network(), self.example)

    @property
    def steps_per_epoch(self) -> int:
        """One pass over the larger domain, unless the suite fixes it."""
        longest = max(len(self.batches.source), len(self.batches.target))
        return self.training.steps_per_epoch or -(-longest // self.training.batch_size)


@dataclass(frozen=True)
class Learner:
    """A network in training: with its optimiser, and the discrepancy it lowers, if any."""

    network: Network
    optimiser: Optimiser
    discrepancy: Discrepancy | None = None

    def modules(self) -> list[nn.Module]:
        """All modules that train."""
        return [self.network] + ([self.discrepancy] if self.discrepancy is not None else [])


class Passes(NamedTuple):
    """A cost: forward-and-backward passes over both domains, in epochs of the unpruned network."""

    student: float
    teacher: float = 0.0


class Stage(ABC):
    """One phase of training. A subclass builds its learners and returns the losses of a step."""

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    """Raise it when a change alters results: stages computed before are then not reused."""
    guided: ClassVar[bool] = False
    """Whether it uses a teacher, which may be another network."""
    roles: ClassVar[tuple[str, ...]] = ("student",)
    """What it may start from; where a recipe gives nothing it starts from the initial weights."""

    class Knobs(Frozen):
        """Hyper-parameters of the stage."""

    learners: dict[str, Learner]
    """By role; the one called ``student`` is evaluated and handed over."""
    guides: Mapping[str, Network] = {}
    """Networks that are passed through and do not learn, by role."""

    def __init__(self, knobs: Any, context: Context, inputs: Mapping[str, Handover]) -> None:
        if unknown := set(inputs) - set(self.roles):
            raise ValueError(f"stage {self.kind!r} starts from {self.roles}, not from {unknown}")
        self.knobs, self.context = knobs, context

    @property
    def epochs(self) -> int:
        """How many epochs the stage trains."""
        return self.length(self.knobs, self.context.training)

    @classmethod
    def length(cls, knobs: Any, training: TrainingConfig) -> int:
        """Epochs of the stage with ``knobs``: the suite's, unless a stage says otherwise."""
        return training.epochs

    @abstractmethod
    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """The weighted losses of one step, by name; the loop minimises their sum.

        ``progress`` in [0, 1] is the share of the stage's schedule that is done.
        """

    @classmethod
    def kept(cls, knobs: Any, before: float) -> float:
        """Share of the unpruned MACs left at its end, with ``before`` left at its start."""
        return before

    @classmethod
    @abstractmethod
    def passes(cls, knobs: Any, training: TrainingConfig, before: float) -> Passes:
        """Estimate of its cost, ``before`` being the share of MACs that it starts with."""

    @classmethod
    def domains(cls, knobs: Any) -> int:
        """How many domains it trains on: both, unless a stage says otherwise."""
        return 2

    @property
    def first_epoch(self) -> int:
        """Where in the run's order of batches the stage begins, in epochs."""
        return 0

    @classmethod
    def title(cls, knobs: Any) -> str:
        """What the stage does, in a few words, for plans and progress."""
        return cls.kind

    def progress(self, done: float) -> float:
        """Position in the schedule when the share ``done`` of the stage's steps is over."""
        return done

    def sum_gradients(self) -> None:
        """Sum over the processes of the run; without it a gradient is that of one's own images."""
        for learner in self.learners.values():
            network, *readers = learner.modules()
            sum_gradients(network.parameters(), (p for r in readers for p in r.parameters()))

    def after_backward(self) -> None:  # noqa: B027
        """Hook between backward and the optimisers' step."""

    def update(self, progress: float) -> None:
        """The optimisers' step."""
        for learner in self.learners.values():
            learner.optimiser.step(progress)

    def end_epoch(self, epoch: int) -> dict[str, Any]:
        """Hook after the last step of ``epoch``; what it returns goes into the progress log."""
        return {}

    def check_alike(self) -> None:
        """Raise RuntimeError where the networks differ between the processes of the run."""
        if world().size == 1:
            return
        for role, learner in self.learners.items():
            widths = of_all(widths_of(learner.network))
            if any(other != widths[0] for other in widths):
                raise RuntimeError(f"processes have pruned other channels of the {role}")
            norm = nn.utils.get_total_norm([p.detach() for p in learner.network.parameters()])
            norms = torch.tensor(of_all(float(norm)), dtype=torch.float64)
            if not torch.isclose(norms, norms[0], rtol=_ALIKE, equal_nan=True).all():
                raise RuntimeError(
                    f"the weights of the {role} differ between processes (norms {norms.tolist()}): "
                    "a network was passed, or its gradient left, without the other processes"
                )

    def train_mode(self) -> None:
        """Put what trains into train mode (after an evaluation has put it into eval mode)."""
        for learner in self.learners.values():
            for module in learner.modules():
                module.train()

    @classmethod
    def paper_crops(cls, knobs: Any, before: float) -> int:
        """Crops that the paper's own code tests each image with, 1 or 10: for that protocol.

        ``before``: the share of MACs that the stage starts with.
        """
        return 1

    def networks(self) -> list[Network]:
        """All networks that a step passes through."""
        return [one.network for one in self.learners.values()] + list(self.guides.values())

    @property
    def student(self) -> Network:
        """The network that the stage is about."""
        return self.learners["student"].network

    @property
    def teacher(self) -> Network | None:
        """The network that guides the student as it is now, where one does."""
        guides = [network for network in self.guides.values() if network is not self.student]
        learning = [one.network for role, one in self.learners.items() if role != "student"]
        return next(iter(guides + learning), None)

    def handover(self) -> Handover:
        """What the next stage starts from."""
        term = self.learners["student"].discrepancy
        return Handover(self.student, term.state_dict() if term is not None else {})

    def state(self) -> dict[str, Any]:
        """Everything that changes from step to step: for the checkpoint, tensors and plain values.

        It is asked for between any two steps of an epoch, as well as at its end.
        """
        return {
            role: {
                "widths": widths_of(learner.network),
                "network": learner.network.state_dict(),
                "discrepancy": learner.discrepancy.state_dict() if learner.discrepancy else {},
                "momentum": learner.optimiser.state(),
            }
            for role, learner in self.learners.items()
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state`` gave, into a stage that was built anew."""
        for role, learner in self.learners.items():
            saved = state[role]
            if _is_narrower(learner.network, saved["network"]):
                # Pruned by measured latency, which was another when the stage was first built.
                for name, part in self.context.unpruned_network().named_children():
                    setattr(learner.network, name, part)
            load_state(learner.network, saved["widths"], saved["network"])
            learner.network.to(memory_format=torch.channels_last)
            if learner.discrepancy is not None:
                learner.discrepancy.load_state_dict(saved["discrepancy"])
            learner.optimiser.load_state(saved["momentum"])


def _is_narrower(network: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Whether a tensor of ``network`` is smaller, on any side, than its namesake in ``state``."""
    own = network.state_dict()
    return any(
        here < there
        for name, tensor in state.items()
        if name in own
        for here, there in zip(own[name].shape, tensor.shape, strict=False)
    )
