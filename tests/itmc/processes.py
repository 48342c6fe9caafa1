"""Two processes that train together, for tests: they do what they are told, at the same time."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any, cast

import torch
from torch import Tensor

from itmc.parallel import joined

SIZE = 2
Tensors = dict[str, Tensor]
_GUARD = 120  # seconds, against hanging for ever
_GRACE = 10  # for the others, when one has raised


class Together:
    """Processes in one group of gloo, and the lines to them."""

    def __init__(self, lines: list[Connection]) -> None:
        self._lines = lines

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """What ``function`` (of a module) returns or raises on each process, by rank."""
        for line in self._lines:
            line.send((function, arguments))
        answers: dict[Connection, Any] = {}
        while waiting := [line for line in self._lines if line not in answers]:
            raised = [answer for answer in answers.values() if isinstance(answer, Exception)]
            ready = wait(waiting, _GRACE if raised else _GUARD)
            if not ready:
                raise raised[0] if raised else AssertionError(f"{function.__name__} hangs")
            answers |= {line: line.recv() for line in cast(list[Connection], ready)}
        return [answers[line] for line in self._lines]

    def alike(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """The same, where none is to raise."""
        answers = self(function, *arguments)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers


@contextmanager
def started() -> Iterator[Together]:
    """Two new processes, which have joined."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawning = multiprocessing.get_context("spawn")
    lines, processes = [], []
    for rank in range(SIZE):
        here, there = spawning.Pipe()
        process = spawning.Process(target=_serve, args=(rank, port, there), daemon=True)
        process.start()
        there.close()
        lines.append(here)
        processes.append(process)
    try:
        yield Together(lines)
    finally:
        for line in lines:
            line.close()
        for process in processes:
            process.join(10)
            if process.is_alive():
                process.kill()


def assert_close(found: Tensors, expected: Tensors, tolerance: float = 1e-5) -> None:
    """Within ``tolerance``, of the largest value of a tensor where that is above 1."""
    assert found.keys() == expected.keys()
    apart = {
        name: float((found[name] - value).abs().max() / value.abs().max().clamp_min(1))
        for name, value in expected.items()
    }
    assert {name: gap for name, gap in apart.items() if not gap <= tolerance} == {}


def _serve(rank: int, port: int, line: Connection) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(SIZE),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    with joined("cpu"):
        while True:
            try:
                function, arguments = line.recv()
            except EOFError:
                return
            try:
                answer = function(*arguments)
            except Exception as error:
                answer = error
            line.send(answer)
