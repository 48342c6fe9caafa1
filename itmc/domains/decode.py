"""From the bytes of an image file to a square of pixels, whatever kind of image it is."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from itmc.errors import UsageError

FILTER = Image.Resampling.BILINEAR
MOST_PIXELS = 150_000_000
"""No photograph has more; what claims to is made to exhaust the memory."""
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "GIF", "TIFF")
"""What is tried, whatever the file is called. Pillow would also start other programs for some."""
ENDINGS = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".gif", ".tif", ".tiff"}
)
"""Of the names of image files, in lower case."""

# Of metadata that nobody asks for; what is wrong with an image itself is an error.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF orientation. ImageOps.exif_transpose writes the tags anew, and fails on damaged ones."""

T = TypeVar("T")
R = TypeVar("R")


class BrokenImageError(UsageError):
    """An image that cannot be decoded."""


def decode(content: bytes, size: int, name: str) -> NDArray[np.uint8]:
    """One image as ``(size, size, 3)`` uint8 RGB, squeezed to the square as the field does.

    Turned upright as its EXIF tag says; the first frame of several; 16 bits a channel scaled to 8;
    what is transparent is laid on white. Raises BrokenImageError with ``name`` if that fails.
    """
    if not content:
        raise BrokenImageError(f"{name!r} is empty (0 bytes)")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise BrokenImageError(f"{name!r} claims {image.width} x {image.height} pixels")
            image.load()
            upright = _upright(image)
            return np.asarray(_rgb(upright).resize((size, size), FILTER))
    except BrokenImageError:
        raise
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # Pillow's plug-ins raise whatever their parsers stumble over
        what = "is no image, or of a kind that is not read" if _unknown(error) else f"({error})"
        raise BrokenImageError(f"{name!r} {what}") from error


def _unknown(error: Exception) -> bool:
    return type(error).__name__ == "UnidentifiedImageError"


def _upright(image: Image.Image) -> Image.Image:
    """Turned as the EXIF tag says."""
    turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    """RGB of any mode."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):  # 16 bits, which convert() would cut off at 255
        levels = np.asarray(image).astype(np.int32)
        if levels.min() < 0 or levels.max() > 65535:
            raise ValueError("its levels are not of 16 bits")
        return Image.fromarray(((levels + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("it holds floating-point numbers, whose range nobody knows")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def parallel(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """``work`` of each item, in their order, on all cores: Pillow frees the interpreter's lock.

    Only a few items a core are under way at a time, so that memory stays bounded.
    """
    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(cores) as pool:
        rest = iter(items)
        under_way: list[Future[R]] = [pool.submit(work, item) for item in islice(rest, 4 * cores)]
        try:
            while under_way:
                result = under_way.pop(0).result()
                under_way.extend(pool.submit(work, item) for item in islice(rest, 1))
                yield result
        finally:
            for future in under_way:
                future.cancel()


def refuse_broken(broken: Sequence[str], where: str) -> None:
    """Raise UsageError that names the images of ``where`` that cannot be decoded, if any."""
    if not broken:
        return
    shown = "; ".join(broken[:10])
    more = f"; and {len(broken) - 10} more" if len(broken) > 10 else ""
    verb = "image cannot" if len(broken) == 1 else "images cannot"
    raise UsageError(
        f"{where}: {len(broken)} {verb} be decoded: {shown}{more}; replace or remove "
        f"{'it' if len(broken) == 1 else 'them'}, and prepare again"
    )
