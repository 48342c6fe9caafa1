"""SGD whose state survives surgery, with the field's learning-rate groups and annealing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from itmc.networks.build import Network
from itmc.training.config import TrainingConfig


class Optimiser:
    """Nesterov SGD over a network, and what is trained with it (a discriminator).

    New layers learn at a higher rate than the backbone. Momentum is keyed by parameter name, so
    that it can be saved, restored, and carried through pruning.
    """

    def __init__(
        self, network: Network, discrepancy: nn.Module | None, config: TrainingConfig
    ) -> None:
        self._network, self._discrepancy, self._config = network, discrepancy, config
        self._sgd = self._build()

    def step(self, progress: float, scale: float = 1.0) -> None:
        """Update at the rate of ``progress`` in [0, 1], times ``scale``; clears the gradients."""
        factor = self._config.annealing(progress) * scale
        for group in self._sgd.param_groups:
            group["lr"] = group["base_lr"] * factor
        self._sgd.step()
        self._sgd.zero_grad()

    @contextmanager
    def surgery(self) -> Iterator[None]:
        """Prune the network inside: momentum is cut exactly as its parameter is.

        torch-pruning replaces parameters and slices their ``.grad`` with them, so during surgery
        the momentum rides in the gradient's place.
        """
        for parameter, state in self._sgd.state.items():
            parameter.grad = state.get("momentum_buffer")
        yield
        self._sgd = self._build()
        for _, parameter in self._named():
            if parameter.grad is not None:
                self._sgd.state[parameter] = {"momentum_buffer": parameter.grad}
                parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """Momentum by parameter name."""
        momentum = {
            name: self._sgd.state[p].get("momentum_buffer")
            for name, p in self._named()
            if p in self._sgd.state
        }
        return {name: buffer for name, buffer in momentum.items() if buffer is not None}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what ``state`` gave, for the network as it is shaped now."""
        self._sgd = self._build()
        for name, parameter in self._named():
            if name in state:
                # Same memory layout as the parameter, so that the next step is bit-identical.
                buffer = torch.empty_like(parameter).copy_(state[name])
                self._sgd.state[parameter] = {"momentum_buffer": buffer}

    def _named(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield from self._network.named_parameters()
        if self._discrepancy is not None:
            for name, parameter in self._discrepancy.named_parameters():
                yield f"discrepancy.{name}", parameter

    def _build(self) -> torch.optim.SGD:
        config = self._config
        new = {id(p) for layer in self._network.new_layers() for p in layer.parameters()}
        if self._discrepancy is not None:
            new |= {id(p) for p in self._discrepancy.parameters()}
        parameters = [p for _, p in self._named()]
        fast, slow = config.lr * config.new_layer_lr, config.lr
        return torch.optim.SGD(
            [
                {"params": [p for p in parameters if id(p) not in new], "base_lr": slow},
                {"params": [p for p in parameters if id(p) in new], "base_lr": fast},
            ],
            lr=slow,
            momentum=config.momentum,
            nesterov=config.momentum > 0,
            weight_decay=config.weight_decay,
        )
