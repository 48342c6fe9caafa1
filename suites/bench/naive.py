"""The training step as public code of the field writes it: what ``--naive`` measures ours against.

Images are files that Pillow decodes in a DataLoader for each domain, with two workers each. All is
float32 and NCHW; source and target pass separately; ITMC's teacher guides by a second pass; and
every loss is fetched from the device in every step. The maths is that of ``bn: split``, with the
teacher's logits ``fresh``: losses are the project's own, and pruned students are as narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler
from torchvision import transforms as T
from torchvision.datasets import ImageFolder

from itmc.itmc import ITMCConfig
from itmc.losses.discrepancy import Discrepancy
from itmc.losses.distillation import kd
from itmc.networks.build import Network
from itmc.training.config import TrainingConfig

WORKERS = 2
"""Of each domain's DataLoader."""
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_ENDLESS = 1 << 30


def loader(
    folder: Path, resized: int, image_size: int, batch: int, pinned: bool
) -> DataLoader[list[Tensor]]:
    """Augmented batches of the images ``<class>/*`` in ``folder``.

    It draws with replacement, so that it never begins anew: epochs of a synthetic domain are short,
    and the start of the workers would count for more than it does in training.
    """
    transform = T.Compose(
        [
            T.Resize(resized),
            T.RandomResizedCrop(image_size),
            T.RandomHorizontalFlip(),
            T.ToTensor(),
            T.Normalize(_MEAN, _DEVIATION),
        ]
    )
    dataset = ImageFolder(str(folder), transform)
    sampler = RandomSampler(dataset, replacement=True, num_samples=_ENDLESS)
    return DataLoader(
        dataset, batch, sampler=sampler, num_workers=WORKERS, drop_last=True, pin_memory=pinned
    )


class Adaptation:
    """DAN and CDAN: CE on the source + gamma * D(source, target)."""

    def __init__(
        self, network: Network, discrepancy: Discrepancy, training: TrainingConfig
    ) -> None:
        self.network, self.discrepancy, self.training = network, discrepancy, training
        self.optimiser = sgd(network, discrepancy, training)

    def step(
        self, source: Tensor, labels: Tensor, target: Tensor, progress: float
    ) -> dict[str, float]:
        """Update once; returns the losses."""
        anneal(self.optimiser, self.training, progress)
        gamma = self.training.gamma(progress)
        on_source = self.network(source)
        on_target = self.network(target)
        losses = {
            "source_ce": F.cross_entropy(on_source.logits, labels),
            "discrepancy": self.discrepancy(on_source, on_target, labels, gamma),
        }
        self.optimiser.zero_grad()
        total(losses).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return {name: loss.item() for name, loss in losses.items()}


class Compression:
    """A step of ITMC: the teacher adapts, then guides the student, whose channels are judged."""

    def __init__(
        self,
        networks: Mapping[str, Network],
        discrepancies: Mapping[str, Discrepancy],
        observe: Callable[[Network, Tensor], None],
        knobs: ITMCConfig,
        training: TrainingConfig,
    ) -> None:
        """``networks`` and ``discrepancies``: of ``teacher`` and ``student``.

        ``observe`` accumulates the importance of the student's channels from its gradients.
        """
        self.teacher, self.student = networks["teacher"], networks["student"]
        self.discrepancies, self.observe = discrepancies, observe
        self.knobs, self.training = knobs, training
        self.optimisers = {
            role: sgd(network, discrepancies[role], training) for role, network in networks.items()
        }

    def step(
        self, source: Tensor, labels: Tensor, target: Tensor, progress: float
    ) -> dict[str, float]:
        """Update both networks once; returns the losses."""
        knobs = self.knobs
        beta, tau = knobs.beta(progress), knobs.temperature
        gamma = knobs.weight * self.training.gamma(progress)
        lead = knobs.teacher_lead + (1 - knobs.teacher_lead) * progress
        anneal(self.optimisers["teacher"], self.training, lead, knobs.rate(progress))
        anneal(self.optimisers["student"], self.training, progress)

        teacher_gamma = knobs.weight * self.training.gamma(lead)
        on_source = self.teacher(source)
        on_target = self.teacher(target)
        teacher_losses = {
            "teacher_ce": F.cross_entropy(on_source.logits, labels),
            "teacher_discrepancy": self.discrepancies["teacher"](
                on_source, on_target, labels, teacher_gamma
            ),
        }
        self.optimisers["teacher"].zero_grad()
        total(teacher_losses).backward()  # type: ignore[no-untyped-call]
        self.optimisers["teacher"].step()

        self.teacher.eval()
        with torch.no_grad():
            guide_source = self.teacher(source)
            guide_target = self.teacher(target)
        self.teacher.train()

        on_source = self.student(source)
        on_target = self.student(target)
        student_losses = {
            "student_ce": (1 - beta) * F.cross_entropy(on_source.logits, labels),
            "student_kd_source": beta * kd(on_source.logits, guide_source.logits, tau),
            "student_kd_target": beta * kd(on_target.logits, guide_target.logits, tau),
            "student_discrepancy": self.discrepancies["student"](
                on_source, on_target, labels, (1 - beta) * gamma
            ),
        }
        self.optimisers["student"].zero_grad()
        loss = total(student_losses)
        loss.backward()  # type: ignore[no-untyped-call]
        self.observe(self.student, loss)
        self.optimisers["student"].step()
        return {name: loss.item() for name, loss in (teacher_losses | student_losses).items()}


def sgd(network: Network, discrepancy: nn.Module, training: TrainingConfig) -> torch.optim.SGD:
    """SGD with the field's two rates: new layers learn faster."""
    new = [p for layer in network.new_layers() for p in layer.parameters()]
    fast, slow = training.lr * training.new_layer_lr, training.lr
    return torch.optim.SGD(
        [
            {"params": list(network.backbone.parameters()), "initial_lr": slow},
            {"params": [*new, *discrepancy.parameters()], "initial_lr": fast},
        ],
        lr=slow,
        momentum=training.momentum,
        nesterov=True,
        weight_decay=training.weight_decay,
    )


def anneal(
    optimiser: torch.optim.SGD, training: TrainingConfig, progress: float, scale: float = 1.0
) -> None:
    """Set the rates of ``progress``, times ``scale``."""
    for group in optimiser.param_groups:
        group["lr"] = group["initial_lr"] * training.annealing(progress) * scale


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """Their sum."""
    return torch.stack(list(losses.values())).sum()
