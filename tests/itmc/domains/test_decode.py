"""Decoding: whatever kind of image it is becomes RGB, and what is broken is named."""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFile

from itmc.domains.decode import BrokenImageError, decode, parallel, refuse_broken
from itmc.errors import UsageError

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]

Pixels = NDArray[np.uint8]
CORNERS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 0]]], np.uint8)
"""Red and green above blue and yellow."""


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def noise(height: int = 9, width: int = 9) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def colour_of(content: bytes) -> list[int]:
    """The colour of an image of one colour."""
    pixels = decode(content, 4, "x").reshape(-1, 3)
    assert (pixels == pixels[0]).all()
    return pixels[0].tolist()


def test_an_image_is_squeezed_to_the_square_with_the_named_filter() -> None:
    found = decode(encoded(noise(10, 16)), 8, "x")
    expected = noise(10, 16).resize((8, 8), Image.Resampling.BILINEAR)
    assert found.dtype == np.uint8 and np.array_equal(found, np.asarray(expected))


@pytest.mark.parametrize(
    ("mode", "colour", "expected", "form"),
    [
        ("L", 100, [100, 100, 100], "PNG"),
        ("1", 1, [255, 255, 255], "PNG"),
        ("1", 0, [0, 0, 0], "PNG"),
        ("LA", (100, 0), [255, 255, 255], "PNG"),
        ("LA", (100, 255), [100, 100, 100], "PNG"),
        ("RGBA", (10, 20, 30, 0), [255, 255, 255], "PNG"),
        ("RGBA", (0, 0, 0, 128), [127, 127, 127], "PNG"),
        ("RGBA", (10, 20, 30, 255), [10, 20, 30], "WEBP"),
        ("CMYK", (255, 0, 0, 0), [0, 255, 255], "TIFF"),
    ],
)
def test_every_mode_becomes_rgb_on_white(
    mode: str, colour: float | tuple[int, ...], expected: list[int], form: str
) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    found = colour_of(encoded(Image.new(mode, (6, 5), colour), form, **options))
    assert np.abs(np.subtract(found, expected)).max() <= 1


def test_a_cmyk_jpeg_has_its_colours() -> None:
    found = decode(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"), 4, "x")
    assert np.abs(found.astype(int) - [255, 0, 0]).max() <= 4


def test_16_bits_are_scaled_not_cut_off() -> None:
    levels = np.array([[0, 257 * 10], [257 * 100, 65535]], np.uint16)
    found = decode(encoded(Image.fromarray(levels)), 2, "x")
    assert found[..., 0].tolist() == [[0, 10], [100, 255]]
    assert (found == found[..., :1]).all()


def test_a_palette_is_resolved_before_resizing() -> None:
    image = Image.new("P", (6, 6), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    assert colour_of(encoded(image)) == [200, 100, 50]


@pytest.mark.parametrize("transparency", [1, bytes([255, 0])])
def test_the_transparent_colour_of_a_palette_is_white(transparency: int | bytes) -> None:
    image = Image.new("P", (6, 6), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    assert colour_of(encoded(image, transparency=transparency)) == [255, 255, 255]


def test_the_transparent_colour_of_an_rgb_png_is_white() -> None:
    image = Image.new("RGB", (6, 6), (200, 100, 50))
    assert colour_of(encoded(image, transparency=(200, 100, 50))) == [255, 255, 255]
    assert colour_of(encoded(image, transparency=(1, 1, 1))) == [200, 100, 50]


UPRIGHT = {
    1: CORNERS,
    2: CORNERS[:, ::-1],
    3: CORNERS[::-1, ::-1],
    4: CORNERS[::-1],
    5: CORNERS.transpose(1, 0, 2),
    6: np.rot90(CORNERS),
    7: CORNERS[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(CORNERS, -1),
}
"""What a camera that was held so writes of the upright picture: turning it must give CORNERS."""


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_a_picture_is_turned_upright_as_its_exif_tag_says(orientation: int, form: str) -> None:
    tags = Image.Exif()
    tags[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    written = encoded(Image.fromarray(UPRIGHT[orientation]), form, exif=tags, **options)
    assert np.array_equal(decode(written, 2, "x"), CORNERS)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(6, 90), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_exif_tags_do_not_break_a_sound_picture(changes: list[tuple[int, int]]) -> None:
    tags = Image.Exif()
    tags[0x0112], tags[0x010E], tags[0x8769] = 6, "a description", {0x9003: "2020:01:01"}
    content = bytearray(encoded(Image.new("RGB", (8, 8), (200, 200, 200)), "JPEG", exif=tags))
    start = content.find(b"Exif")
    for where, value in changes:
        content[start + where] = value
    assert np.abs(decode(bytes(content), 4, "x").astype(int) - 200).max() <= 2


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((200, 0, 0), (0, 200, 0))]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert colour_of(content) == [200, 0, 0]


def test_floating_point_numbers_are_refused() -> None:
    content = encoded(Image.new("F", (4, 4), 0.5), "TIFF")
    with pytest.raises(BrokenImageError, match=r"'photo\.tif' \(it holds floating-point"):
        decode(content, 4, "photo.tif")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"a photo of a dog", "is no image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no image"),
        (encoded(noise(40, 40), "JPEG")[:900], "truncated"),
    ],
)
def test_what_is_broken_is_named(content: bytes, reason: str) -> None:
    with pytest.raises(BrokenImageError, match=rf"'dog/1\.jpg' .*{reason}"):
        decode(content, 4, "dog/1.jpg")


def claiming(width: int, height: int) -> bytes:
    """A PNG whose header says that it is that large."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


@pytest.mark.parametrize("side", [13_000, 100_000])
def test_an_image_that_claims_too_many_pixels_is_refused_before_it_is_loaded(
    side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(image: Image.Image) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(BrokenImageError, match=r"'bomb\.png'.*(claims 13000 x 13000|exceeds)"):
        decode(claiming(side, side), 4, "bomb.png")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "PPM", "WEBP", "GIF", "TIFF"])
def test_wherever_a_file_is_cut_it_decodes_or_is_named(form: str) -> None:
    content = encoded(noise(), form)
    refused = 0
    for length in range(0, len(content), 3):
        try:
            assert decode(content[:length], 4, "cut").shape == (4, 4, 3)
        except BrokenImageError as error:
            refused += "'cut'" in str(error)
    assert refused > 10


def test_parallel_keeps_the_order() -> None:
    assert list(parallel(lambda x: x * x, range(100))) == [x * x for x in range(100)]
    assert list(parallel(abs, [])) == []


def test_parallel_has_only_a_few_items_under_way() -> None:
    most = 4 * len(os.sched_getaffinity(0)) + 1
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(10 * most):
            taken += 1
            yield number

    for done, _ in enumerate(parallel(abs, items())):
        assert taken <= done + 1 + most
    assert taken == 10 * most


def test_parallel_hands_on_an_error_and_starts_nothing_more() -> None:
    started: list[int] = []
    lock = threading.Lock()

    def work(number: int) -> int:
        with lock:
            started.append(number)
        if number == 3:
            raise ValueError("three")
        return number

    found: list[int] = []
    with pytest.raises(ValueError, match="three"):
        found.extend(parallel(work, range(10_000)))
    assert len(started) < 1000


def test_ten_broken_images_are_named_and_the_others_counted() -> None:
    refuse_broken([], "tiny/photo")
    with pytest.raises(UsageError) as caught:
        refuse_broken([f"'{n}.jpg' is empty" for n in range(12)], "tiny/photo")
    message = str(caught.value)
    assert message.startswith("tiny/photo: 12 images cannot be decoded: '0.jpg' is empty; '1.jpg'")
    assert "'9.jpg' is empty; and 2 more; replace or remove them" in message
    with pytest.raises(UsageError, match="1 image cannot be decoded: 'a' is empty; replace or rem"):
        refuse_broken(["'a' is empty"], "tiny/photo")
