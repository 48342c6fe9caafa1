"""Importance by a Taylor expansion for each domain by itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from itmc.errors import UsageError
from itmc.parallel import summed as summed_over_processes
from itmc.pruning.groups import Group, Member
from itmc.pruning.importance.criterion import Scores, normalised
from itmc.pruning.importance.judges import affine_norms, norms, producers, summed
from itmc.pruning.importance.taylor import Taylor


class ByDomain(Taylor):
    """Taylor importance whose gates are kept apart by domain; a subclass says what of them counts.

        Theta_d = mean over batches of | sum over members, images of d and positions of z * dL/dz |

    z is behind BatchNorm as in ``Taylor`` (before it the two domains of a joint pass would differ
    in sign alone). A step is a joint pass over source and target, or a pass over each, in this
    order.
    """

    name: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self._tape = _Tape(self.name, 0)

    @contextmanager
    def watch(
        self, network: nn.Module, groups: tuple[Group, ...], per_domain: int
    ) -> Iterator[None]:
        self._tape = _Tape(self.name, per_domain)
        layers = {m.layer: layer for g in groups for m, layer in _activated(network, g)}
        handles = [network.register_forward_pre_hook(self._tape.begin)]
        handles += [
            layer.register_forward_hook(_Tap(self._tape, name)) for name, layer in layers.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @torch.no_grad()
    def observe(self, network: nn.Module, groups: tuple[Group, ...]) -> None:
        """Raises UsageError where the step was not one of as many images of either domain."""
        try:
            products = self._tape.by_domain()
        finally:
            self._tape.clear()
        self.add({g.name: summed(g, _gates(network, g, products)).abs() for g in groups})

    def scores(self, network: nn.Module, groups: tuple[Group, ...]) -> Scores:
        self.check_observed()
        for index, domain in enumerate(("source", "target")):
            if not any(self.totals[group.name][index].any() for group in groups):
                raise UsageError(
                    f"criterion {self.name!r} tells source from target, but the loss does not "
                    f"depend on the {domain} images; choose another criterion"
                )
        means = {group.name: self.totals[group.name] / self.batches for group in groups}
        return {name: normalised(self.of(*both)) for name, both in means.items()}

    @staticmethod
    @abstractmethod
    def of(source: Tensor, target: Tensor) -> Tensor:
        """What counts of Theta_source and Theta_target of a layer, ``(width,)`` each."""


class TaylorMin(ByDomain):
    """The smaller of the two domains: TCP's.

        score = min(Theta_source / |Theta_source|_2, Theta_target / |Theta_target|_2)

    (Yu et al., "Accelerating Deep Unsupervised Domain Adaptation with Transfer Channel Pruning",
    IJCNN 2019.) A channel that does without one of the domains goes first. From the authors' code
    come: the gates of the two domains kept apart, the sum over images and positions before the
    absolute value, the norms a layer and domain, the minimum after them. Ours are: the average
    over batches (there the last one overwrites the others), the norm of the minimum, so that
    layers stay comparable, coupled members summed within a domain, and the place of z, which their
    VGG16 has no BatchNorm before.
    """

    name = "taylor_min"

    @staticmethod
    def of(source: Tensor, target: Tensor) -> Tensor:
        return torch.minimum(normalised(source), normalised(target))


class TaylorSource(ByDomain):
    """The source's images alone."""

    name = "taylor_source"

    @staticmethod
    def of(source: Tensor, target: Tensor) -> Tensor:
        return source


class TaylorTarget(ByDomain):
    """The target's images alone."""

    name = "taylor_target"

    @staticmethod
    def of(source: Tensor, target: Tensor) -> Tensor:
        return target


def _activated(network: nn.Module, group: Group) -> list[tuple[Member, nn.Module]]:
    """The layers whose outputs judge ``group``: as in ``Taylor``, but norms need no weights."""
    return affine_norms(network, group) or norms(network, group) or producers(network, group)


def _gates(
    network: nn.Module, group: Group, products: dict[str, Tensor]
) -> list[tuple[Member, Tensor]]:
    """By judging layer, dL/dg at g = 1 of a gate for each domain and channel, ``(2, channels)``."""
    judges = _activated(network, group)
    for member, _ in judges:
        if member.layer not in products:
            raise RuntimeError(f"the loss does not depend on what layer {member.layer!r} puts out")
    return [(member, products[member.layer]) for member, _ in judges]


@dataclass
class _Pass:
    """One forward pass over so many images."""

    images: int
    activations: dict[str, list[Tensor]] = field(default_factory=dict)
    """By layer, one entry a call."""
    products: dict[str, Tensor] = field(default_factory=dict)
    """By layer: activation times gradient, summed over positions, ``(images, channels)``."""


class _Tape:
    """What passed the judging layers in one step."""

    def __init__(self, criterion: str, per_domain: int) -> None:
        self._criterion, self._per_domain = criterion, per_domain
        self._passes: list[_Pass] = []

    def begin(self, network: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Forward pre-hook of the whole network: a pass over ``inputs[0]`` begins."""
        self._passes.append(_Pass(len(inputs[0])))

    def record(self, name: str, layer: nn.Module, output: Tensor) -> None:
        """Keep ``output`` until the step is over, for the product with its gradient."""
        current = self._passes[-1]
        if len(output) % current.images:
            raise UsageError(
                f"criterion {self._criterion!r} cannot tell images apart in what layer {name!r} "
                f"puts out: {len(output)} rows for {current.images} images; choose another "
                "criterion"
            )
        # A copy, as the next layer may work in place. The graph may outlive the step, and this
        # hook with it, so that the hook must not be what holds the copy.
        calls = current.activations.setdefault(name, [])
        calls.append(output.detach().clone())
        call = len(calls) - 1

        def multiply(gradient: Tensor) -> None:
            if name in current.activations:  # else the step is over
                dtype = torch.promote_types(gradient.dtype, torch.float32)
                product = current.activations[name][call].to(dtype) * gradient
                found = _by_image(product, layer, current.images)
                before = current.products.get(name)
                current.products[name] = found if before is None else before + found

        output.register_hook(multiply)  # type: ignore[no-untyped-call]

    def by_domain(self) -> dict[str, Tensor]:
        """By layer, ``(2, channels)``: the sum over the source's images, and over the target's.

        Only passes that gradients came back to count.
        """
        passes = [p for p in self._passes if p.products]
        images = sum(p.images for p in passes)
        if not passes:
            raise RuntimeError(f"criterion {self._criterion!r} has watched no pass with gradients")
        if images != 2 * self._per_domain:
            raise UsageError(
                f"criterion {self._criterion!r} tells source from target and needs "
                f"{self._per_domain} images of each in a step, but the loss is of {images} images "
                "in all; choose another criterion where only one domain is trained on"
            )
        names = dict.fromkeys(name for p in passes for name in p.products)
        return {name: self._halves(name, passes) for name in names}

    def clear(self) -> None:
        """Let go of all tensors."""
        for p in self._passes:
            p.activations.clear()
            p.products.clear()
        self._passes.clear()

    def _halves(self, name: str, passes: list[_Pass]) -> Tensor:
        """``(2, channels)`` of one layer; a pass that did not use it adds nothing."""
        some = next(p.products[name] for p in passes if name in p.products)
        nothing = torch.zeros_like(some[:1])
        joined = torch.cat([p.products.get(name, nothing.expand(p.images, -1)) for p in passes])
        own = torch.stack([joined[: self._per_domain].sum(0), joined[self._per_domain :].sum(0)])
        return summed_over_processes(own)


@dataclass
class _Tap:
    """Forward hook of one judging layer. A class, so that it can be copied and pickled."""

    tape: _Tape
    name: str

    def __call__(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if output.requires_grad:
            self.tape.record(self.name, layer, output)


def _by_image(product: Tensor, layer: nn.Module, images: int) -> Tensor:
    """Sum ``product``, shaped as outputs of ``layer``, over positions: ``(images, channels)``."""
    if isinstance(layer, nn.Linear):
        product = product.movedim(-1, 1)  # (N, ..., C), as opposed to (N, C, ...)
    by_row = product.flatten(2).sum(2) if product.dim() > 2 else product
    # Rows of one image, its windows say, follow one another.
    return by_row.reshape(images, -1, by_row.shape[1]).sum(1)
