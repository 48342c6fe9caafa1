"""Scores of layers of different widths, made comparable."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn

from itmc.pruning.groups import Dependencies
from itmc.pruning.importance import (
    CriterionName,
    LayerScale,
    Scores,
    Taylor,
    comparable,
    create,
    normalised,
)
from itmc.pruning.mac_model import MacModel
from itmc.pruning.selection import Limits, select
from itmc.pruning.shrink import kept_layers
from tests.itmc.helpers import images
from tests.itmc.pruning.importance.nets import backbone

NARROW, WIDE = 8, 32


@given(st.lists(st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=20), min_size=1))
def test_by_mean_each_layer_has_mean_1_and_keeps_its_ranking(layers: list[list[float]]) -> None:
    scores = {str(place): normalised(torch.tensor(layer)) for place, layer in enumerate(layers)}
    found = comparable(scores, Taylor(), "mean")
    assert found.keys() == scores.keys()
    for name, values in found.items():
        mean = 1.0 if scores[name].any() else 0.0  # of a layer that says nothing
        assert float(values.mean()) == pytest.approx(mean, rel=1e-4)
        assert torch.isfinite(values).all()
        # Rounding may make neighbours equal, but exchanges none.
        assert values[scores[name].argsort()].diff().ge(0).all()


def test_by_l2_scores_are_as_their_criterion_gave_them() -> None:
    scores = {"layer": normalised(torch.rand(5)), "silent": torch.zeros(3)}
    found = comparable(scores, Taylor(), "l2")
    assert all(torch.equal(found[name], values) for name, values in scores.items())


@pytest.mark.parametrize("name", get_args(CriterionName))
def test_what_is_a_share_already_is_not_scaled(name: CriterionName) -> None:
    """The mean of positions depends on the width of their layer, that of draws on chance."""
    scores = {"layer": torch.tensor([0.8, 0.6, 0.4, 0.2, 0.0])}
    found = comparable(scores, create(name, seed=0), "mean")["layer"]
    assert torch.equal(found, scores["layer"]) == (name in ("uniform", "random"))


@pytest.mark.parametrize("scale", get_args(LayerScale))
def test_a_wide_and_a_narrow_layer_of_alike_units(scale: LayerScale) -> None:
    """By mean they lose the same share of their units, by their norm the wide one loses more."""
    network = backbone(
        nn.Conv2d(3, NARROW, 3), nn.ReLU(), nn.Conv2d(NARROW, WIDE, 3), nn.ReLU(), features=WIDE
    ).float()
    dependencies = Dependencies(network, images(), kept_layers(network))
    scores: Scores = {
        # Of the same distribution: evenly from 0.5 to 1.5, whatever their number.
        g.name: normalised(0.5 + (torch.arange(g.width) + 0.5) / g.width)
        for g in dependencies.groups
    }
    assert sorted(len(values) for values in scores.values()) == [NARROW, WIDE]
    model = MacModel(network, images(), dependencies.groups)
    removed = select(
        dependencies.groups, comparable(scores, Taylor(), scale), model,
        target=0.5 * model.total, slack=0.05 * model.total, limits=Limits(),
    )  # fmt: skip
    lost = {g.width: len(removed.get(g.name, [])) / g.width for g in dependencies.groups}
    assert lost[WIDE] > 0.1
    if scale == "mean":
        assert lost[NARROW] == pytest.approx(lost[WIDE], abs=1 / NARROW)
    else:
        assert lost[NARROW] < lost[WIDE] / 2
