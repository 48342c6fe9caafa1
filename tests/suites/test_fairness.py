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
from itmc.domains.store import Domain, open_domain
from itmc.networks.build import NetworkConfig, build, example
from itmc.networks.spec import load_network
from itmc.training.config import TrainingConfig
from itmc.training.method import GROUPS, knobs_of, methods
from itmc.training.stage import Context
from suites import record, worker
from suites.config import Places, RunConfig
from suites.plan import plan
from tests.suites.conftest import prepared

COMPRESSIONS = (0.5, 0.75)
EPOCHS, STEPS = 4, 5
NETWORK = NetworkConfig(bottleneck=16, classes=10, image_size=16)
# Ablations of one knob are ITMC; tests/itmc/training/test_ablations.py holds them to the budget.
ALL = sorted(name for name, method in methods().items() if not method.changes)
COMPRESSED = [name for name in ALL if methods()[name].compressed]
REFERENCES = [name for name in ALL if not methods()[name].compressed]


def config(method: str, compression: float) -> RunConfig:
    return RunConfig(
        suite="tiny", protocol="strict", dataset="digits",
        digests={"hand": "hand", "print": "print"}, images={"hand": 200, "print": 200},
        classes=tuple("0123456789"), stored_size=32,
        source="hand", target="print", task_index=0, method=method,
        knobs=knobs_of(method, {}).model_dump(mode="json"), compression=compression, seed=0,
        network=NETWORK,
        data=DataConfig(image_size=16, augment="shift", flip=True, test_crop=1.0),
        training=TrainingConfig(
            epochs=EPOCHS, pretrain_epochs=2, steps_per_epoch=STEPS, batch_size=16, lr=0.05,
            new_layer_lr=1.0, discriminator=16, precision="fp32",
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
    by_key: dict[str, dict[int, str]] = field(default_factory=dict)
    """As ``batches``, by the key of the job."""

    def runs(self) -> list[RunConfig]:
        return [
            config(name, compression)
            for name in ALL
            for compression in (self.compressions if name in COMPRESSED else (0.0,))
        ]

    def job_of(self, run: RunConfig, stage: str) -> str:
        """The key of the job that computes a stage of ``run``: the last one is the run's own."""
        is_own = methods()[run.method].compressed and stage == run.stage_key(run.recipe())
        return run.key if is_own else stage

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

    def few(place: Path) -> Domain:
        whole = open_domain(place)
        domain = Domain(whole.name, whole.images[:200], whole.labels[:200], digest=whole.name)
        return relabel(domain) if whole.name == "print" else domain

    def at(self: Batches, step: int) -> Batch:
        batch = original(self, step)
        content = b"".join(t.numpy().tobytes() for t in (batch.source, batch.labels, batch.target))
        drawn.append((step, hashlib.sha256(content).hexdigest()))
        return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "open_domain", few)
        patch.setattr(Batches, "at", at)
        patch.setattr(record.cost, "durations", lambda networks, *_: np.ones((3, len(networks))))
        places = Places(out=world.out, data=prepared(store), threads=1)
        for job in plan(world.runs()).jobs:
            drawn.clear()
            worker.execute(job.run, job.key, places, lambda *_: None, lambda _: None)
            name = f"{job.title} ({job.key})"
            world.batches[name], world.steps[name] = dict(drawn), [step for step, _ in drawn]
            world.by_key[job.key] = dict(drawn)
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
    assert {f.name for f in dataclasses.fields(Unlabelled)} == {"images", "indices"}
    assert {f.name for f in dataclasses.fields(Batch)} == {"source", "labels", "target"}
    assert not {"target", "labels", "evaluate", "evaluator", "domain"} & {
        f.name for f in dataclasses.fields(Context)
    }


def test_the_evaluator_alone_holds_the_target_labels(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: dict[str, Domain] = {}

    def remember(place: Path) -> Domain:
        opened[place.name] = dataclasses.replace(open_domain(place), digest=place.name)
        return opened[place.name]

    monkeypatch.setattr(worker, "open_domain", remember)
    opened_run = worker._open(config("dan", 0.0), Places(out=store, data=prepared(store)))
    context, evaluate = opened_run.context, opened_run.evaluator(1)
    labels, images = opened["print"].labels, opened["print"].images
    arrays = [value for value in reachable(evaluate) if isinstance(value, np.ndarray)]
    assert any(np.array_equal(value, labels) for value in arrays)
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
    # A narrow student is one stage, of all the batches that a student has.
    reference = next(drawn for name, drawn in trained.items() if name.startswith("dan_student "))
    whole = 2 * EPOCHS * STEPS
    assert set(reference) == set(range(whole)) and len(set(reference.values())) == whole
    for drawn in trained.values():
        assert drawn.keys() <= reference.keys()
        assert drawn == {step: reference[step] for step in drawn}


@pytest.mark.parametrize("method", ALL)
def test_the_first_20_batches_of_every_method_are_the_same(method: str, world: World) -> None:
    """From the shared start on, whatever stages they fall into: pixels, labels and their order."""
    run = config(method, 0.75 if method in COMPRESSED else 0.0)
    drawn: dict[int, str] = {}
    for node in run.recipe().walk():
        if not getattr(node.knobs, "pretraining", False):
            drawn |= world.by_key[world.job_of(run, run.stage_key(node))]
    other = config("source_only", 0.0)
    reference = world.by_key[world.job_of(other, other.stage_key(other.recipe()))]
    first = {step: digest for step, digest in drawn.items() if step < 20}
    assert len(first) == 20 and first == reference


@pytest.mark.parametrize("method", ALL)
def test_every_method_begins_with_the_same_weights(method: str) -> None:
    """With the pretraining that all share, and that alone."""
    run = config(method, 0.75 if method in COMPRESSED else 0.0)
    nodes = list(run.recipe().walk())
    begins = {run.stage_key(node) for node in nodes if not node.inputs}
    shared = config("source_only", 0.0)
    assert begins == {shared.stage_key(next(shared.recipe().walk()))}


@pytest.mark.parametrize("method", COMPRESSED)
def test_no_student_is_trained_for_longer_than_the_others(method: str, world: World) -> None:
    """Images of the two domains in gradient steps: pretraining on one, then twice the epochs."""
    steps = 16 * STEPS
    most = steps * (2 + 2 * 2 * EPOCHS)
    on_source_alone = {"prune_then_adapt": 2, "mobileda": EPOCHS}.get(method, 0)
    effort = world.record(method, 0.75)["effort"]
    assert effort["images"] == most - steps * on_source_alone
    assert effort["backward_images"] >= effort["images"] - steps * 2
    assert effort["forward_images"] >= effort["backward_images"]
    assert effort["backward_macs"] > 0 and effort["forward_macs"] > effort["backward_macs"] / 2


def test_each_stage_trains_on_its_batches_once_and_in_order(world: World) -> None:
    """DAN draws nothing besides its steps, so its draws are the order of training.

    It does so twice: to the end, and for ITMC's lead to the half.
    """
    orders = [steps for name, steps in world.steps.items() if name.startswith("adapt by dan, ")]
    expected = [list(range(epochs * STEPS)) for epochs in (EPOCHS // 2, EPOCHS)]
    assert sorted(orders, key=len) == expected


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("method", COMPRESSED)
def test_the_budget_is_met(method: str, compression: float, world: World) -> None:
    student, _ = load_network(world.folder(method, compression))
    unpruned = count_macs(build(NETWORK), example(NETWORK))
    reached = 1 - count_macs(student, example(NETWORK)) / unpruned
    assert abs(reached - compression) <= 0.01
    told = world.record(method, compression)["compression"]
    assert told.pop("layers")
    expected = {"asked": compression, "reached": pytest.approx(reached), "left_whole": {}}
    assert told == expected


@pytest.mark.parametrize("method", REFERENCES)
def test_references_are_not_compressed(method: str, world: World) -> None:
    told = world.record(method, 0.0)
    assert all(kept == of for kept, of in told["compression"].pop("layers").values())
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
        assert knob.annotation is not None and not knob.is_required() and knob.description
    assert (method.group == "references") == (not method.compressed)


def test_every_method_of_the_design_is_there() -> None:
    by_group = {
        "references": "source_only dan dann cdan cdan_e jan mcc mdd",
        "baselines": "dan_student cdan_student mcc_student prune_then_adapt adapt_then_prune kd "
        "tcp kd_stda mobileda admp dkd mean_teacher",
        "itmc": "itmc",
        "ablations": "tkd_only acp_only itmc_frozen_teacher itmc_one_shot itmc_magnitude "
        "itmc_no_target_kd itmc_no_ramp itmc_lead_0 itmc_lead_25 itmc_lead_75 itmc_lead_100 "
        "itmc_dann itmc_cdan itmc_cdan_e itmc_jan itmc_mcc",
    }
    for group, names in by_group.items():
        assert {m.name for m in methods().values() if m.group == group} >= set(names.split())


def test_labels_are_distinct() -> None:
    assert len({method.label for method in methods().values()}) == len(methods())
