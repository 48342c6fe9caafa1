"""The suites that come with the project: they load, and what they name exists."""

from __future__ import annotations

import pytest
import timm
from torchvision.models import get_model_weights

from itmc.domains.catalog import dataset, names
from itmc.networks.build import NetworkConfig, build
from suites.config import SuiteConfig, load_suite, suite_names

TASKS = {
    "ablation": 3, "classic_digits": 4, "digits": 3, "domainnet": 30, "image_clef": 6,
    "office31": 6, "office31_mobilenet_v2": 6, "office_caltech": 12, "office_home": 12,
    "visda2017": 1,
}  # fmt: skip

every_suite = pytest.mark.parametrize(
    "suite", [load_suite(name, {}) for name in suite_names()], ids=suite_names()
)


def tasks(suite: SuiteConfig) -> list[tuple[str, str]]:
    """Source and target of each task; UsageError for one that is none of the dataset's."""
    spec = dataset(suite.dataset)
    if suite.tasks == "all":
        return list(spec.tasks())
    written = [suite.tasks] if isinstance(suite.tasks, str) else suite.tasks
    return [spec.task(task) for task in written]


def test_each_dataset_has_a_suite_of_its_name() -> None:
    assert {load_suite(name, {}).dataset for name in suite_names()} == set(names())
    assert all(load_suite(name, {}).dataset == name for name in names())


@every_suite
def test_the_tasks_are_different_ones_of_its_dataset(suite: SuiteConfig) -> None:
    assert len(set(tasks(suite))) == len(tasks(suite)) == TASKS[suite.name]


@every_suite
def test_weights_are_pinned_by_a_full_name_that_exists(suite: SuiteConfig) -> None:
    network = suite.network
    library, _, name = network.backbone.rpartition("/")
    if network.weights == "none":
        assert library == ""
    elif library == "":  # torchvision's, which has a name for each version
        assert network.weights in {weights.name for weights in get_model_weights(name)}
    else:
        assert library == "timm"
        assert network.weights in timm.list_pretrained()
        assert network.weights.partition(".")[0] == name


@every_suite
def test_inputs_are_not_larger_than_what_is_stored(suite: SuiteConfig) -> None:
    stored = dataset(suite.dataset).stored_size
    assert suite.data.image_size <= stored
    if suite.data.augment in ("shift", "none"):  # tested on as much as is trained on
        assert suite.data.test_crop == 1


@every_suite
def test_what_starts_from_scratch_learns_at_one_rate(suite: SuiteConfig) -> None:
    assert (suite.training.new_layer_lr == 1) == (suite.network.weights == "none")


@pytest.mark.parametrize("name", ["office31", "visda2017", "classic_digits"])
def test_the_networks_can_be_built(name: str) -> None:
    suite, classes = load_suite(name, {}), len(dataset(name).classes)
    config = NetworkConfig(
        **suite.network.model_dump(), classes=classes, image_size=suite.data.image_size
    )
    assert build(config.unpretrained()).head.out_features == classes
