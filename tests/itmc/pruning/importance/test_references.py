"""Scores that look at no network, and the names of all criteria."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from itmc.errors import UsageError
from itmc.pruning.importance import Criterion, CriterionName, create, normalised
from tests.itmc.helpers import small
from tests.itmc.pruning.importance.nets import groups_of


def test_uniform_keeps_the_first_channels_and_treats_all_widths_alike() -> None:
    network = small("plain")
    scores = create("uniform").scores(network, groups_of(network))
    for width, name in ((8, "backbone.conv1"), (12, "backbone.conv2")):
        assert scores[name].tolist() == pytest.approx([1 - (i + 1) / width for i in range(width)])
    assert (scores["backbone.conv1"] < 0.5).sum() / 8 == (scores["backbone.conv2"] < 0.5).sum() / 12


def test_random_depends_on_seed_and_layer_only() -> None:
    network = small("residual")
    groups = groups_of(network)
    first = create("random", 3).scores(network, groups)
    again = create("random", 3).scores(network, tuple(reversed(groups)))
    other = create("random", 4).scores(network, groups)
    for group in groups:
        assert torch.equal(first[group.name], again[group.name])
        assert not torch.equal(first[group.name], other[group.name])
    stem, conv = first["backbone.stem"], first["backbone.conv1"]
    assert stem.tolist() != conv[: len(stem)].tolist()


def test_all_zero_scores_stay_zero() -> None:
    assert normalised(torch.zeros(4)).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("name", get_args(CriterionName))
def test_each_name_has_a_criterion_of_one_interface(name: str) -> None:
    network = small("plain")
    groups, criterion = groups_of(network), create(name, seed=1)
    assert isinstance(criterion, Criterion)
    if not criterion.needs_gradients:
        with criterion.watch(network, groups, 2):  # which watches nothing
            criterion.observe(network, groups)
        scores = criterion.scores(network, groups)
        assert {n: s.shape for n, s in scores.items()} == {g.name: (g.width,) for g in groups}


def test_an_unknown_criterion_lists_the_known_ones() -> None:
    allowed = (
        "taylor, taylor_min, taylor_source, taylor_target, l1, l2, bn_scale, fpgm, random, uniform"
    )
    with pytest.raises(UsageError, match=rf"'fisher'; allowed: {allowed}$"):
        create("fisher")
