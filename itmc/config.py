"""The base of every configuration model: immutable, and strict about what it does not know."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from itertools import groupby
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)


class Frozen(BaseModel):
    """A validated, immutable set of named values; an unknown key is an error, never ignored."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,  # which JSON does not have: a run is handed over as JSON
    )

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's, but without what cached properties keep: of the copy it may differ."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied


def digest(value: Any) -> str:
    """Sha256 (hex) of a JSON-like value; equal values give equal digests on every machine."""
    return text_digest(canonical(value))


def text_digest(text: str) -> str:
    """Sha256 (hex) of ``text``."""
    return hashlib.sha256(text.encode()).hexdigest()


class Canonical(str):
    """JSON text by ``canonical``. In a mapping that is written out itself it stays as it is."""


def canonical(value: Any) -> Canonical:
    """The JSON text that ``digest`` hashes: equal values give equal texts on every machine."""
    if not isinstance(value, dict) or Canonical not in map(type, value.values()):
        return Canonical(_ENCODER.encode(value))
    texts = []
    # What stands between two texts is encoded in one go, as each call costs more than its work.
    for is_text, items in groupby(sorted(value.items()), lambda item: type(item[1]) is Canonical):
        if is_text:
            texts += [f"{_ENCODER.encode(key)}:{text}" for key, text in items]
        else:
            texts.append(_ENCODER.encode(dict(items))[1:-1])
    return Canonical(f"{{{','.join(texts)}}}")
