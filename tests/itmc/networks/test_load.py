"""``itmc.networks.load``: a stranger's three lines, and files that were altered in any way."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st

from itmc.errors import UsageError
from itmc.networks import Network, NetworkConfig, build, load, spec
from itmc.networks.spec import FORMAT, save_network, sealed

README = Path(__file__).parents[3] / "README.md"
CONFIG = NetworkConfig(bottleneck=4, classes=3, image_size=32)
FILES = ("student.json", "student.safetensors")


def network(seed: int) -> Network:
    built = build(CONFIG, seed)
    built(torch.randn(4, 3, 32, 32))  # so that BatchNorm has statistics
    return built


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network that tests leave as it is."""
    folder = tmp_path_factory.mktemp("original")
    save_network(network(0), CONFIG, folder, "student")
    return folder


@pytest.fixture
def copied(original: Path, tmp_path: Path) -> Path:
    """A folder of the same network, to be damaged."""
    return shutil.copytree(original, tmp_path / "copied")


def refused(folder: Path) -> str:
    """What is said of the network in ``folder``: one line that names it and says what to do."""
    with pytest.raises(UsageError) as caught:
        load(folder)
    line = str(caught.value)
    assert "\n" not in line and repr(str(folder)) in line
    assert re.search("copy both files|give the directory|run the suite again", line)
    return line


@pytest.mark.parametrize("name", ["", *FILES])
@pytest.mark.parametrize("kind", [str, Path])
def test_it_takes_the_folder_or_either_file(
    original: Path, name: str, kind: Callable[[Path], str | Path]
) -> None:
    loaded = load(kind(original / name))
    assert not any(module.training for module in loaded.modules())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(images).logits, load(original)(images).logits)
        assert not torch.equal(loaded(images).logits, build(CONFIG, 1).eval()(images).logits)


def test_a_network_of_any_name_loads_by_its_files(tmp_path: Path) -> None:
    save_network(network(1), CONFIG, tmp_path, "teacher.v2")
    saved = load(tmp_path / "teacher.v2.json").state_dict()
    assert torch.equal(saved["head.weight"], network(1).head.weight)
    assert "student.json" in (line := refused(tmp_path)) and "is missing" in line


def test_the_lines_of_the_readme_work(original: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (shown,) = (block for block in blocks if "import load\n" in block)
    assert len([line for line in shown.splitlines() if line]) == 3
    code = shown.replace("runs/digits/<hash>", str(original))
    names: dict[str, Any] = {"images": torch.zeros(2, 3, 32, 32)}
    exec(code, names)
    assert names["features"].shape == (2, 4) and names["logits"].shape == (2, 3)


@pytest.mark.parametrize("path", ["nowhere", "student.pt", "nowhere/student.json"])
def test_a_path_that_is_no_network(original: Path, path: str) -> None:
    with pytest.raises(UsageError, match=r"(no directory|missing).*directory of a"):
        load(original / path)


def damaged(original: Path, folder: Path, name: str, content: bytes) -> str:
    """What is said of the original network with other content in the file ``name``."""
    for file in FILES:
        shutil.copy(original / file, folder / file)
    (folder / name).write_bytes(content)
    return refused(folder)


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(FILES), where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_refused(
    original: Path, tmp_path_factory: pytest.TempPathFactory, name: str, where: float, bit: int
) -> None:
    content = bytearray((original / name).read_bytes())
    content[int(where * len(content))] ^= 1 << bit
    damaged(original, tmp_path_factory.mktemp("flipped"), name, bytes(content))


@settings(max_examples=50, deadline=None)
@given(name=st.sampled_from(FILES), where=st.floats(0, 1), added=st.binary(max_size=3))
def test_a_file_cut_short_or_with_bytes_added_is_refused(
    original: Path, tmp_path_factory: pytest.TempPathFactory, name: str, where: float, added: bytes
) -> None:
    content = (original / name).read_bytes()
    place = int(where * (len(content) - 1))
    changed = content[:place] + added + content[place:] if added else content[:place]
    damaged(original, tmp_path_factory.mktemp("cut"), name, changed)


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda d: json.dumps(d),
        lambda d: json.dumps(d, indent=1),  # without the newline at the end
        lambda d: json.dumps(d, indent=1, sort_keys=True) + "\n",
        lambda d: json.dumps(d, indent=1) + "\r\n",
    ],
)
def test_a_description_that_says_the_same_in_other_bytes_is_refused(
    copied: Path, rewrite: Callable[[dict[str, Any]], str]
) -> None:
    path = copied / "student.json"
    content = path.read_bytes()
    path.write_bytes(rewrite(json.loads(content)).encode())
    assert "altered" in refused(copied)
    path.write_bytes(content)
    load(copied)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["network"].update(backbone="resnet18"),
        lambda d: d["network"].update(image_size=64),  # which no tensor's shape shows
        lambda d: d["network"].update(weights="another.tag"),
        lambda d: d["widths"]["head"].update(out_features=2),
        lambda d: d["widths"].pop("head"),
        lambda d: d.update(sha256="0" * 64),
        lambda d: d.pop("sha256"),
    ],
)
def test_a_changed_value_in_the_description_is_refused(
    copied: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    path = copied / "student.json"
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description, indent=1) + "\n")
    assert "student.json" in (line := refused(copied)) and "altered" in line


@pytest.mark.parametrize("name", FILES)
def test_files_of_two_networks_of_one_architecture_are_refused(copied: Path, name: str) -> None:
    save_network(network(1), CONFIG, copied, "other")
    other = copied / name.replace("student", "other")
    shutil.copy(other, copied / name)
    assert "student.safetensors" in (line := refused(copied)) and "another network's" in line


def test_a_save_that_was_killed_between_the_files_is_refused_until_it_is_repeated(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, write = [], spec.write_atomic

    def killed_at_the_second(path: Path, content: bytes) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(path.name)
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(spec, "write_atomic", killed_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            save_network(network(1), CONFIG, copied, "student")
    assert written == ["student.safetensors"]  # the JSON is the mark of a finished stage
    assert "another network's" in refused(copied)
    save_network(network(1), CONFIG, copied, "student")
    assert torch.equal(load(copied).head.weight, network(1).head.weight)


def test_the_format_before_this_one_is_refused(copied: Path) -> None:
    path = copied / "student.json"
    description = json.loads(path.read_text()) | {"format": FORMAT - 1}
    del description["sha256"], description["safetensors_sha256"]
    path.write_text(json.dumps(description, indent=1) + "\n")
    assert re.search(r"student\.json.* format 1, .* 2 only; delete its folder", refused(copied))


def test_a_description_nested_too_deep_to_be_read_is_refused(copied: Path) -> None:
    deep = f'{{"format": {FORMAT}, "widths": {"[" * 100_000}{"]" * 100_000}}}'
    (copied / "student.json").write_text(deep)
    assert "damaged" in refused(copied)


class Bomb:
    """Says so when it is unpickled."""

    exploded = False

    def __reduce__(self) -> tuple[Any, ...]:
        return setattr, (Bomb, "exploded", True)


def test_nothing_is_unpickled_even_where_the_description_fits(copied: Path) -> None:
    content = pickle.dumps(Bomb())
    pickle.loads(content)
    assert Bomb.exploded
    Bomb.exploded = False
    (copied / "student.safetensors").write_bytes(content)
    path = copied / "student.json"
    description = json.loads(path.read_text()) | {
        "safetensors_sha256": hashlib.sha256(content).hexdigest()
    }
    del description["sha256"]
    path.write_bytes(sealed(description))
    with pytest.raises(UsageError, match="no safetensors file"):
        load(copied)
    assert not Bomb.exploded
