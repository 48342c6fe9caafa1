"""How each method is drawn: the same in every plot, for any colour vision, and in grey."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

SOLID: tuple[float, ...] = ()
LONG, SHORT, DOTS, DASH_DOT = (6.0, 1.5), (3.0, 1.2), (1.0, 1.2), (5.0, 1.2, 1.0, 1.2)
TWO_DOTS = (6.0, 1.2, 1.0, 1.2, 1.0, 1.2)


@dataclass(frozen=True)
class Look:
    """How a method is drawn: colour for the eye, marker and dash (on, off, …) for print in grey."""

    colour: str
    marker: str
    dash: tuple[float, ...]


# Okabe and Ito's and Paul Tol's colours, told apart with any colour vision; yellow is left out
# because it vanishes on paper. The methods of the field are placed by hand, no two of them alike
# in colour; the ablations, which stand beside ITMC, take the colours again with other markers and
# dashes; whatever else comes is placed by its name.
_LOOKS = {
    "itmc": Look("#D55E00", "o", SOLID),
    "kd": Look("#0072B2", "s", LONG),
    "dan_student": Look("#009E73", "^", SHORT),
    "cdan_student": Look("#56B4E9", "v", DASH_DOT),
    "prune_then_adapt": Look("#E69F00", "D", DOTS),
    "adapt_then_prune": Look("#CC79A7", "P", TWO_DOTS),
    "tcp": Look("#000000", "X", LONG),
    "kd_stda": Look("#882255", "<", SHORT),
    "mobileda": Look("#999933", ">", DASH_DOT),
    "tkd_only": Look("#0072B2", "h", SHORT),
    "acp_only": Look("#009E73", "p", DASH_DOT),
    "itmc_frozen_teacher": Look("#CC79A7", "d", DOTS),
    "itmc_one_shot": Look("#E69F00", "H", TWO_DOTS),
    "itmc_magnitude": Look("#000000", "*", SHORT),
    # References are lines without points, in greys.
    "source_only": Look("#777777", "", DOTS),
    "dan": Look("#444444", "", SHORT),
    "dann": Look("#777777", "", TWO_DOTS),
    "cdan": Look("#111111", "", LONG),
    "cdan_e": Look("#444444", "", LONG),
    "jan": Look("#111111", "", DASH_DOT),
    "mcc": Look("#444444", "", DASH_DOT),
}
_COLOURS = tuple(dict.fromkeys(look.colour for look in _LOOKS.values() if look.marker))
_MARKERS = ("8", "h", "p", "d", "H", "*", "P", "X")
_DASHES = (LONG, SHORT, DOTS, DASH_DOT, TWO_DOTS)


def look(method: str) -> Look:
    """The same look for a method in every plot, whatever else is in it.

    A variant (`itmc[tau=2]`) keeps its method's colour and has a marker and a dash of its own.
    """
    if method in _LOOKS:
        return _LOOKS[method]
    digest = hashlib.sha256(method.encode()).digest()
    base = method.partition("[")[0]
    return Look(
        look(base).colour if base != method else _COLOURS[digest[0] % len(_COLOURS)],
        _MARKERS[digest[1] % len(_MARKERS)],
        _DASHES[digest[2] % len(_DASHES)],
    )
