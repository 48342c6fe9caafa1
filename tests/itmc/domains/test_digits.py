"""The embedded digits: the same to the byte everywhere, balanced, and each image on its own."""

from __future__ import annotations

import functools
import hashlib
import itertools
import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from itmc.domains import digits, glyphs
from itmc.errors import UsageError


@functools.cache
def rendered(domain: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    return digits.render(domain)


@pytest.mark.parametrize("domain", digits.DOMAINS)
def test_bytes_are_the_pinned_ones(domain: str) -> None:
    images, labels = rendered(domain)
    each = b"".join(hashlib.sha256(image.tobytes()).digest() for image in images)
    found = hashlib.sha256(each + labels.astype("<i8").tobytes()).hexdigest()
    assert found == digits.DIGESTS[domain]


@pytest.mark.parametrize("domain", digits.DOMAINS)
def test_shapes_types_and_balance(domain: str) -> None:
    images, labels = rendered(domain)
    count = 1797 if domain == "hand" else 2000
    assert digits.size(domain) == count
    assert images.shape == (count, 32, 32, 3) and images.dtype == np.uint8
    assert labels.shape == (count,) and labels.dtype == np.int64
    per_class = np.bincount(labels, minlength=len(digits.CLASSES))
    assert per_class.shape == (10,)
    assert per_class.min() >= 174 and per_class.max() <= 200
    # Classes are mixed: any stretch of 100 images has all ten.
    assert all(len(set(labels[start : start + 100])) == 10 for start in range(0, count - 100, 100))


@pytest.mark.parametrize("domain", digits.DOMAINS)
def test_an_image_depends_on_its_index_alone(domain: str) -> None:
    images, labels = rendered(domain)
    for index in (1796, 3, 1000, 3):  # out of order, and one twice
        image, label = digits.render_one(domain, index)
        assert np.array_equal(image, images[index])
        assert label == labels[index]


@pytest.mark.parametrize("domain", digits.DOMAINS)
def test_no_image_is_flat_or_a_copy(domain: str) -> None:
    images, _ = rendered(domain)
    assert images.std(axis=(1, 2, 3)).min() > 5
    assert len({image.tobytes() for image in images}) == len(images)


def test_domains_differ() -> None:
    means = {domain: rendered(domain)[0][:1000].mean(axis=(0, 3)) for domain in digits.DOMAINS}
    for first, second in itertools.combinations(digits.DOMAINS, 2):
        assert np.abs(means[first] - means[second]).mean() > 5
    grey = {d: bool((np.ptp(rendered(d)[0], axis=3) == 0).all()) for d in digits.DOMAINS}
    assert grey == {"hand": True, "print": True, "scene": False}


def test_hand_is_the_scan_enlarged() -> None:
    from sklearn.datasets import load_digits

    scans = load_digits().images
    images, _ = rendered("hand")
    for index in range(50):
        # 10 coarse pixels (8 and a margin) on 32: each centre falls on or next to a fine pixel.
        at = np.rint((np.arange(8) + 1.5) * 3.2 - 0.5).astype(int)
        sampled = images[index, :, :, 0][np.ix_(at, at)]
        likeness = np.corrcoef(sampled.ravel(), scans[index].ravel())[0, 1]
        assert abs(likeness) > 0.95  # negative where the image is inverted


@pytest.mark.parametrize("font", sorted({*glyphs.BOOK_FONTS, *glyphs.SIGN_FONTS}))
def test_outlines_have_their_holes_and_proportions(font: str) -> None:
    pose = glyphs.Affine(24, 0, 16, 0, -24, 16)
    cover = [glyphs.rasterise(glyphs.outline(font, digit), pose, 0, 32) for digit in range(10)]
    for picture in cover:
        rows = np.flatnonzero(picture.any(axis=1))
        assert 20 <= rows[-1] - rows[0] + 1 <= 30  # lining digits: all about as tall
        assert 0.05 < picture.mean() < 0.35
    above = cover[0][10]  # the middle of a zero may hold a dot
    inked = np.flatnonzero(above)
    assert above[inked[0] : inked[-1]].min() == 0


def test_rasterise_a_square() -> None:
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    square = np.hstack([corners, np.roll(corners, -1, axis=0)])
    covered = glyphs.rasterise(square, glyphs.Affine(2, 0, 1, 0, 2.5, 1), 0, 5)
    expected = np.zeros((5, 5))
    expected[1:3, 1:3] = 1
    expected[3, 1:3] = 0.5
    assert np.array_equal(covered, expected)
    heavier = glyphs.rasterise(square, glyphs.Affine(2, 0, 1, 0, 2.5, 1), 2, 5)
    assert heavier[2, 0] == heavier[2, 3] == 0.5
    # A second contour within the first is a hole.
    ring = np.concatenate([square, square / 2 + 0.25])
    hole = glyphs.rasterise(ring, glyphs.Affine(4, 0, 0, 0, 4, 0), 0, 4)
    assert hole.sum() == 12 and hole[1:3, 1:3].sum() == 0


def test_unknown_domain_and_index() -> None:
    with pytest.raises(UsageError, match=r"'mnist'.*hand, print, scene"):
        digits.render("mnist")
    with pytest.raises(UsageError, match="'mnist'"):
        digits.render_one("mnist", 0)
    with pytest.raises(UsageError, match=r"image 2000 of print.*0 to 1999"):
        digits.render_one("print", 2000)
    with pytest.raises(UsageError, match="image -1"):
        digits.render_one("scene", -1)


def test_import_is_light() -> None:
    code = (
        "import sys, itmc.domains.digits\n"
        "print(sorted({'matplotlib', 'fontTools', 'sklearn', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
