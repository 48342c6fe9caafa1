"""Importance by weights against norms and distances taken by hand, filter by filter."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from itmc.errors import UsageError
from itmc.pruning.importance import CriterionName, create
from tests.itmc.helpers import small
from tests.itmc.pruning.importance.nets import backbone, group, group_with, groups_of, member

Filters = list[list[float]]


def filters(layer: nn.Module) -> Filters:
    """The weights that make each output, in lists."""
    weight = layer.weight.detach().double()
    if not isinstance(layer, nn.ConvTranspose2d):
        return [row.flatten().tolist() for row in weight]
    inputs, outputs = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    found = []
    for channel in range(layer.out_channels):
        block, place = divmod(channel, outputs)
        rows = weight[block * inputs : (block + 1) * inputs]
        found.append([v for row in rows for v in row[place].flatten().tolist()])
    return found


def l1(rows: Filters) -> list[float]:
    return [sum(abs(v) for v in row) for row in rows]


def squares(rows: Filters) -> list[float]:
    return [sum(v * v for v in row) for row in rows]


def distances(rows: Filters) -> list[float]:
    return [sum(math.dist(row, other) for other in rows) for row in rows]


BY_HAND = {"l1": l1, "l2": squares, "fpgm": distances}
LAYERS = ("l1", "l2", "fpgm")


def expected(name: str, layers: list[tuple[nn.Module, list[int]]], width: int) -> list[float]:
    """Scores of units: each layer comes with the unit of each of its filters."""
    totals = [0.0] * width
    for layer, units in layers:
        for unit, value in zip(units, BY_HAND[name](filters(layer)), strict=True):
            totals[unit] += value
    if name == "l2":
        totals = [math.sqrt(total) for total in totals]
    length = math.sqrt(sum(total * total for total in totals))
    return [total / length for total in totals]


def approximately(values: list[float]) -> object:
    return pytest.approx(values, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("name", LAYERS)
def test_all_layers_that_make_a_channel_count(name: CriterionName) -> None:
    network = small("residual")
    scores = create(name).scores(network, groups_of(network))
    stem, conv1, conv2 = (network.backbone.get_submodule(n) for n in ("stem", "conv1", "conv2"))
    both = [(stem, list(range(8))), (conv2, list(range(8)))]
    assert scores["backbone.stem"].tolist() == approximately(expected(name, both, 8))
    alone = [(conv1, list(range(10)))]
    assert scores["backbone.conv1"].tolist() == approximately(expected(name, alone, 10))


@pytest.mark.parametrize("name", LAYERS)
def test_both_convolutions_of_a_depthwise_group_count(name: CriterionName) -> None:
    network = small("depthwise")
    groups = groups_of(network)
    scores = create(name).scores(network, groups)[group_with(groups, "depth").name]
    layers = [(network.backbone.get_submodule(n), list(range(8))) for n in ("expand", "depth")]
    assert scores.tolist() == approximately(expected(name, layers, 8))


@pytest.mark.parametrize("name", LAYERS)
def test_linear_layers_count(name: CriterionName) -> None:
    network = small("bare")
    scores = create(name).scores(network, groups_of(network))["backbone.linear"]
    layers = [(network.backbone.get_submodule("linear"), list(range(10)))]
    assert scores.tolist() == approximately(expected(name, layers, 10))


@pytest.mark.parametrize("name", LAYERS)
def test_the_filters_of_a_unit_are_taken_together(name: CriterionName) -> None:
    grouped = nn.Conv2d(8, 12, 3, groups=4)
    network = backbone(nn.Conv2d(3, 8, 3), grouped, nn.PReLU(12), features=12)
    before, units = [0, 1, 2, 3, 3, 2, 1, 0], [i // 3 for i in range(12)]
    made = group(
        4,
        member("backbone.1", units),
        member("backbone.0", before),
        member("backbone.2", units),  # a PReLU's slopes are no filters
        unit=3,
    )
    scores = create(name).scores(network, (made,))["backbone.1"]
    layers = [(network.get_submodule("backbone.0"), before), (grouped, units)]
    assert scores.tolist() == approximately(expected(name, layers, 4))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("blocks", [1, 2])
def test_a_transposed_convolution_has_its_filters_in_its_second_dimension(
    name: CriterionName, blocks: int
) -> None:
    layer = nn.ConvTranspose2d(4, 6, 3, groups=blocks)
    network = backbone(nn.Conv2d(3, 4, 3), layer, features=6)
    scores = create(name).scores(network, (group(6, member("backbone.1", range(6))),))
    found = scores["backbone.1"].tolist()
    assert found == approximately(expected(name, [(layer, list(range(6)))], 6))


@pytest.mark.parametrize("name", LAYERS)
def test_an_attention_head_is_judged_by_its_values(name: CriterionName) -> None:
    """Queries and keys go with a head but do not judge it."""
    network = backbone(nn.Conv2d(3, 12, 1), features=12)
    qkv = network.get_submodule("backbone.0")
    parts = [torch.arange(4) + 4 * part for part in range(3)]
    heads = [0, 0, 1, 1]
    members = [member("backbone.0", heads, judged=part == 2) for part in range(3)]
    members = [m.__class__(m.layer, True, parts[i], m.roots, m.judged)
               for i, m in enumerate(members)]  # fmt: skip
    scores = create(name).scores(network, (group(2, *members, unit=2),))["backbone.0"]
    values = BY_HAND[name](filters(qkv))[8:]
    totals = [values[0] + values[1], values[2] + values[3]]
    totals = [math.sqrt(t) for t in totals] if name == "l2" else totals
    length = math.hypot(*totals)
    assert scores.tolist() == approximately([t / length for t in totals])


# Steps of a thousandth: the squares of smaller numbers are lost in float32.
_STEPS = st.integers(-10_000, 10_000).map(lambda step: step / 1000)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(LAYERS),
    st.lists(st.lists(_STEPS, min_size=3, max_size=3), min_size=2, max_size=6),
)
def test_any_filters_are_judged_as_by_hand(name: CriterionName, weights: Filters) -> None:
    width = len(weights)
    network = backbone(nn.Conv2d(3, width, 1), features=width)
    layer = network.get_submodule("backbone.0")
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weights, dtype=torch.float64).view(width, 3, 1, 1))
    values = BY_HAND[name](filters(layer))
    values = [math.sqrt(v) for v in values] if name == "l2" else values
    length = math.sqrt(sum(v * v for v in values))
    scores = create(name).scores(network, (group(width, member("backbone.0", range(width))),))
    shares = [v / length if length else 0.0 for v in values]
    assert scores["backbone.0"].tolist() == pytest.approx(shares, rel=1e-4, abs=1e-5)


def with_filters(rows: Filters) -> list[float]:
    """FPGM's scores of a layer with these filters."""
    network = backbone(nn.Conv2d(3, len(rows), 1), features=len(rows))
    layer = network.get_submodule("backbone.0")
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(rows, dtype=torch.float64).view(len(rows), 3, 1, 1))
    made = group(len(rows), member("backbone.0", range(len(rows))))
    return create("fpgm").scores(network, (made,))["backbone.0"].tolist()


def test_a_filter_that_has_a_duplicate_goes_first() -> None:
    scores = with_filters([[4, 0, 0], [0, 4, 0], [0, 0, 4], [4, 0, 0]])
    assert scores[0] == scores[3] < scores[1] == scores[2]


def test_the_filter_at_the_geometric_median_goes_first_whatever_its_norm() -> None:
    rows: Filters = [[10, 10, 11], [10, 10, 9], [10, 11, 10], [10, 9, 10], [10, 10, 10]]
    scores = with_filters(rows)
    assert scores.index(min(scores)) == 4
    small_but_far = [*rows, [0.0, 0.0, 0.0]]  # which a norm would remove first
    scores = with_filters(small_but_far)
    assert scores.index(max(scores)) == 5


def test_equal_filters_far_from_zero_have_no_distance() -> None:
    assert max(with_filters([[1e4, 1e4, 1e4]] * 40)) == pytest.approx(0, abs=1e-3)


def test_bn_scale_is_the_size_of_gamma() -> None:
    network = small("residual")
    norms = {n: network.backbone.get_submodule(n) for n in ("norm0", "norm1", "norm2")}
    with torch.no_grad():
        for norm in norms.values():
            norm.weight[::2] *= -1
    scores = create("bn_scale").scores(network, groups_of(network))
    sizes = {n: [abs(v) for v in norm.weight.tolist()] for n, norm in norms.items()}
    both = [a + b for a, b in zip(sizes["norm0"], sizes["norm2"], strict=True)]
    for name, values in (("stem", both), ("conv1", sizes["norm1"])):
        length = math.hypot(*values)
        found = scores[f"backbone.{name}"].tolist()
        assert found == approximately([value / length for value in values])


@pytest.mark.parametrize(
    "norm",
    [
        nn.Identity(),
        nn.PReLU(8),
        nn.GroupNorm(2, 8),
        nn.LayerNorm([8, 10, 10]),
        nn.BatchNorm2d(8, affine=False),
    ],
)
def test_bn_scale_without_a_batch_norm_is_a_usage_error(norm: nn.Module) -> None:
    network = backbone(nn.Conv2d(3, 8, 3), norm, features=8)
    judged = getattr(norm, "weight", None) is not None
    made = group(8, member("backbone.0", range(8)), member("backbone.1", range(8), judged=judged))
    with pytest.raises(UsageError, match=r"'bn_scale'.*'backbone\.0' have none"):
        create("bn_scale").scores(network, (made,))


@pytest.mark.parametrize("name", [*LAYERS, "bn_scale"])
def test_scores_are_normalised_by_layer(name: CriterionName) -> None:
    network = small("residual")
    for scores in create(name).scores(network, groups_of(network)).values():
        assert float(scores.norm()) == pytest.approx(1, rel=1e-5)
        assert not scores.requires_grad


@pytest.mark.parametrize("name", [*LAYERS, "bn_scale"])
def test_the_scale_of_a_layer_does_not_matter(name: CriterionName) -> None:
    network = small("plain")
    before = create(name).scores(network, groups_of(network))
    with torch.no_grad():
        for layer in ("conv1", "norm1"):
            network.backbone.get_submodule(layer).weight *= 1000
    for group_name, scores in create(name).scores(network, groups_of(network)).items():
        assert torch.allclose(scores, before[group_name], rtol=1e-4)


def test_layers_without_weights_are_a_usage_error() -> None:
    network = backbone(nn.Conv2d(3, 8, 3), nn.PReLU(8), features=8)
    made = group(8, member("backbone.1", range(8)))
    for name in LAYERS:
        with pytest.raises(UsageError, match="no weights to be judged by"):
            create(name).scores(network, (made,))


def test_all_zero_weights_give_zero() -> None:
    network = backbone(nn.Conv2d(3, 4, 3), features=4)
    with torch.no_grad():
        network.get_submodule("backbone.0").weight.zero_()
    made = group(4, member("backbone.0", range(4)))
    zero: Tensor = torch.zeros(4)
    for name in LAYERS:
        assert torch.equal(create(name).scores(network, (made,))["backbone.0"], zero)
