"""The rules of a fair comparison, held by every registered method: budget, pairs, no peeking."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from itmc.config import Frozen
from itmc.cost import count_macs
from itmc.domains.augment import DataConfig
from itmc.domains.batches import Batch, Batches, Unlabelled
from itmc.domains.catalog import DatasetSpec
from itmc.domains.store import Domain, prepare
from itmc.networks.build import NetworkConfig, build, example
from itmc.networks.spec import load_network
from itmc.training.config import TrainingConfig
from itmc.training.method import GROUPS, knobs_of, methods
from itmc.training.stage import Context
from suites import record, worker
from suites.config import Places, RunConfig
from suites.plan import plan

COMPRESSIONS = (0.5, 0.75)
NETWORK = NetworkConfig(bottleneck=16, classes=10, image_size=16)
ALL = sorted(methods())
COMPRESSED = [name for name in ALL if methods()[name].compressed]
REFERENCES = [name for name in ALL if not methods()[name].compressed]


def config(method: str, compression: float) -> RunConfig:
    return RunConfig(
        suite="tiny", protocol="strict", dataset="digits",
        digests={"hand": "hand", "print": "print"}, images={"hand": 200, "print": 200},
        source="hand", target="print", task_index=0, method=method,
        knobs=knobs_of(method, {}).model_dump(mode="json"), compression=compression, seed=0,
        network=NETWORK,
        data=DataConfig(image_size=16, augment="shift", flip=True, test_crop=1.0),
        training=TrainingConfig(
            epochs=3, pretrain_epochs=2, steps_per_epoch=5, batch_size=16, lr=0.05,
            new_layer_lr=1.0, discriminator=16,
        ),
    )  # fmt: skip


@dataclass
class World:
    """All methods trained on the same data, and what their training saw."""

    out: Path
    compressions: tuple[float, ...]
    batches: dict[str, dict[int, str]] = field(default_factory=dict)
    """Digest of each batch by step, by the title of the job that drew it."""
    steps: dict[str, list[int]] = field(default_factory=dict)

    def runs(self) -> list[RunConfig]:
        return [
            config(name, compression)
            for name in ALL
            for compression in (self.compressions if name in COMPRESSED else (0.0,))
        ]

    def folder(self, method: str, compression: float) -> Path:
        return self.out / config(method, compression).key

    def record(self, method: str, compression: float) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(
            (self.folder(method, compression) / "record.json").read_text()
        )
        return content


def train_all(world: World, store: Path, relabel: Callable[[Domain], Domain]) -> World:
    """Compute every run; the target's domain passes through ``relabel`` when it is opened."""
    drawn: list[tuple[int, str]] = []
    original = Batches.at

    def few(spec: DatasetSpec, name: str, *where: Any) -> Domain:
        whole = prepare(spec, name, *where)
        domain = Domain(name, np.array(whole.images[:200]), whole.labels[:200], digest=name)
        return relabel(domain) if name == "print" else domain

    def at(self: Batches, step: int) -> Batch:
        batch = original(self, step)
        content = b"".join(t.numpy().tobytes() for t in (batch.source, batch.labels, batch.target))
        drawn.append((step, hashlib.sha256(content).hexdigest()))
        return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "prepare", few)
        patch.setattr(Batches, "at", at)
        patch.setattr(record.cost, "durations", lambda networks, *_: np.ones((3, len(networks))))
        places = Places(out=world.out, store=store, threads=1)
        for job in plan(world.runs()).jobs:
            drawn.clear()
            worker.execute(job.run, job.key, places, lambda *_: None, lambda _: None)
            name = f"{job.title} ({job.key})"
            world.batches[name], world.steps[name] = dict(drawn), [step for step, _ in drawn]
    return world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, store: Path) -> World:
    """The task as it is."""
    out = tmp_path_factory.mktemp("world")
    return train_all(World(out, COMPRESSIONS), store, lambda domain: domain)


@pytest.fixture(scope="module")
def permuted(tmp_path_factory: pytest.TempPathFactory, store: Path) -> World:
    """The same task with the target's labels permuted."""

    def relabel(domain: Domain) -> Domain:
        labels = np.random.default_rng(0).permutation(domain.labels)
        return dataclasses.replace(domain, labels=labels)

    return train_all(World(tmp_path_factory.mktemp("permuted"), (0.75,)), store, relabel)


@pytest.mark.parametrize("method", ALL)
def test_target_labels_do_not_reach_the_weights(method: str, world: World, permuted: World) -> None:
    compression = 0.75 if method in COMPRESSED else 0.0
    first, second = (w.folder(method, compression) for w in (world, permuted))
    for name in ("student.safetensors", "student.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    scores = [w.record(method, compression)["accuracy"]["entropy"] for w in (world, permuted)]
    assert scores[0]["score"] == scores[1]["score"]


def test_the_evaluator_did_see_other_labels(world: World, permuted: World) -> None:
    """Else equal weights would mean nothing."""
    accuracies = [
        [w.record(method, 0.75 if method in COMPRESSED else 0.0)["accuracy"] for method in ALL]
        for w in (world, permuted)
    ]
    changed = [one != other for one, other in zip(*accuracies, strict=True)]
    assert sum(changed) > len(ALL) / 2  # a network that says one class for all shows no difference


def test_the_seed_does_reach_the_weights(world: World) -> None:
    """Else equal bytes would mean nothing."""
    start = next(iter(plan([config("dan", 0.0)]).stages))
    trained = load_file(world.out / "stages" / start.key / "student.safetensors")
    initial = build(NETWORK, seed=0).state_dict()
    assert not torch.equal(trained["head.weight"], initial["head.weight"])


def test_training_is_given_no_target_labels() -> None:
    assert {f.name for f in dataclasses.fields(Unlabelled)} == {"images"}
    assert {f.name for f in dataclasses.fields(Batch)} == {"source", "labels", "target"}
    assert not {"target", "labels", "evaluate", "evaluator", "domain"} & {
        f.name for f in dataclasses.fields(Context)
    }


def test_the_evaluator_alone_holds_the_target_labels(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: dict[str, Domain] = {}

    def remember(spec: DatasetSpec, name: str, *where: Any) -> Domain:
        opened[name] = dataclasses.replace(prepare(spec, name, *where), digest=name)
        return opened[name]

    monkeypatch.setattr(worker, "prepare", remember)
    context, evaluate = worker._open(config("dan", 0.0), Places(out=store, store=store))
    labels, images = opened["print"].labels, opened["print"].images
    assert any(value is labels for value in reachable(evaluate))
    assert any(value is images for value in reachable(context))
    assert not any(
        np.shares_memory(value, labels) or np.array_equal(value, labels)
        for value in reachable(context)
        if isinstance(value, np.ndarray)
    )


def reachable(thing: object) -> Iterator[object]:
    """``thing`` and all that is in it, through attributes and containers."""
    yield thing
    inner = thing if isinstance(thing, tuple | list) else getattr(thing, "__dict__", {}).values()
    for value in inner:
        yield from reachable(value)


def test_all_methods_and_stages_see_the_same_batches_in_the_same_order(world: World) -> None:
    trained = {name: drawn for name, drawn in world.batches.items() if drawn}
    assert len(trained) >= len(COMPRESSED) * len(COMPRESSIONS)
    (reference,) = (drawn for name, drawn in trained.items() if name.startswith("adapt by dan, "))
    assert list(reference) == list(range(15)) and len(set(reference.values())) == 15
    for name, drawn in trained.items():
        common = drawn.keys() & reference.keys()
        assert len(common) >= 5
        assert {step: drawn[step] for step in common} == {step: reference[step] for step in common}
        # The second step of a pipeline goes on with the batches after those of the first.
        assert min(drawn) == 0 or name.startswith("prune_then_adapt ")


def test_each_stage_trains_on_its_batches_once_and_in_order(world: World) -> None:
    """DAN draws nothing besides its steps, so its draws are the order of training."""
    (name,) = (n for n in world.steps if n.startswith("adapt by dan, "))
    assert world.steps[name] == list(range(3 * 5))


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("method", COMPRESSED)
def test_the_budget_is_met(method: str, compression: float, world: World) -> None:
    student, _ = load_network(world.folder(method, compression))
    unpruned = count_macs(build(NETWORK), example(NETWORK))
    reached = 1 - count_macs(student, example(NETWORK)) / unpruned
    assert abs(reached - compression) <= 0.01
    told = world.record(method, compression)["compression"]
    expected = {"asked": compression, "reached": pytest.approx(reached), "left_whole": {}}
    assert told == expected


@pytest.mark.parametrize("method", REFERENCES)
def test_references_are_not_compressed(method: str, world: World) -> None:
    told = world.record(method, 0.0)
    assert told["compression"] == {"asked": 0.0, "reached": 0.0, "left_whole": {}}
    assert told["cost"]["student"]["macs"] == told["cost"]["teacher"]["macs"]


@pytest.mark.parametrize("name", ALL)
def test_a_method_says_what_it_is(name: str) -> None:
    method = methods()[name]
    assert method.name == name and name.isidentifier()
    assert method.group in GROUPS
    assert method.label and method.citation and method.__doc__
    assert issubclass(method.Knobs, Frozen)
    for knob in method.Knobs.model_fields.values():
        assert knob.annotation is not None and not knob.is_required()
    assert (method.group == "references") == (not method.compressed)


def test_the_first_set_of_methods_is_there() -> None:
    assert set(ALL) >= {
        "itmc", "source_only", "dan", "cdan", "dan_student", "cdan_student", "prune_then_adapt",
        "kd",
    }  # fmt: skip


def test_labels_are_distinct() -> None:
    assert len({method.label for method in methods().values()}) == len(ALL)
