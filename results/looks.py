"""How each method is drawn: the same in every plot, for any colour vision, and in grey."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

SOLID: tuple[float, ...] = ()
LONG, SHORT, DOTS, DASH_DOT = (6.0, 1.5), (3.0, 1.2), (1.0, 1.2), (5.0, 1.2, 1.0, 1.2)
TWO_DOTS = (6.0, 1.2, 1.0, 1.2, 1.0, 1.2)
# For references, which have no markers.
LONG_SHORT, SPARSE, SPARSE_DOTS = (8.0, 1.2, 3.0, 1.2), (5.0, 4.0), (1.0, 3.5)


@dataclass(frozen=True)
class Look:
    """How a method is drawn: colour for the eye, marker and dash (on, off, …) for print in grey."""

    colour: str
    marker: str
    dash: tuple[float, ...]


# Okabe and Ito's and Paul Tol's colours and IBM's violet, told apart with any colour vision; yellow
# is left out because it vanishes on paper. The methods of the field are placed by hand, no two of
# them alike in colour or in marker; the two halves of ITMC, which stand beside it, take colours and
# markers again in other pairs; whatever else comes (variants, ablations) is placed by its name.
_LOOKS = {
    "itmc": Look("#D55E00", "o", SOLID),
    "kd": Look("#0072B2", "s", LONG),
    "dkd": Look("#332288", "d", DOTS),
    "dan_student": Look("#009E73", "^", SHORT),
    "cdan_student": Look("#56B4E9", "v", DASH_DOT),
    "prune_then_adapt": Look("#E69F00", "D", DOTS),
    "adapt_then_prune": Look("#CC79A7", "P", TWO_DOTS),
    "tcp": Look("#000000", "X", LONG),
    "kd_stda": Look("#882255", "<", SHORT),
    "mobileda": Look("#999933", ">", DASH_DOT),
    "admp": Look("#117733", "h", TWO_DOTS),
    "mean_teacher": Look("#661100", "*", LONG),
    "mcc_student": Look("#785EF0", "p", SHORT),
    "tkd_only": Look("#0072B2", "P", SHORT),
    "acp_only": Look("#009E73", "D", DASH_DOT),
    # References are lines without points, in greys, each with a dash of its own.
    "source_only": Look("#777777", "", DOTS),
    "dan": Look("#444444", "", SHORT),
    "dann": Look("#777777", "", TWO_DOTS),
    "cdan": Look("#111111", "", LONG),
    "cdan_e": Look("#444444", "", LONG_SHORT),
    "jan": Look("#111111", "", DASH_DOT),
    "mcc": Look("#444444", "", SPARSE_DOTS),
    "mdd": Look("#777777", "", SPARSE),
}
_COLOURS = tuple(dict.fromkeys(look.colour for look in _LOOKS.values() if look.marker))
# ITMC's circle stays its own.
_MARKERS = tuple(dict.fromkeys(look.marker for look in _LOOKS.values() if look.marker))[1:]
_DASHES = (LONG, SHORT, DOTS, DASH_DOT, TWO_DOTS)


def look(method: str) -> Look:
    """The look of a method that has its name to itself."""
    return looks([method])[method]


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """The same look for a method in every plot; in one plot, no two alike.

    A name that is not placed by hand has a place among all colours, markers and dashes, by its
    hash; a variant (`itmc[tau=2]`) keeps its method's colour. Only where colour and marker are
    another's already, by hand or as a name before it in the alphabet, does it take the next
    free place, and so depend on what else is drawn.
    """
    placed: dict[str, Look] = {}
    for method in sorted(set(methods)):
        if method in _LOOKS:
            placed[method] = _LOOKS[method]
            continue
        base = method.partition("[")[0]
        colours = _COLOURS
        if base != method:
            colours = ((placed.get(base) or look(base)).colour,)
        placed[method] = _free(method, colours, [*_LOOKS.values(), *placed.values()])
    return placed


def _free(method: str, colours: Sequence[str], taken: Sequence[Look]) -> Look:
    """The first place from the name's own on that is free; its own where none is."""
    places = [Look(*place) for place in product(colours, _MARKERS, _DASHES)]
    own = int.from_bytes(hashlib.sha256(method.encode()).digest()[:8]) % len(places)
    places = places[own:] + places[:own]
    points = {(look.colour, look.marker) for look in taken}
    for place in places:
        if (place.colour, place.marker) not in points:
            return place
    # More methods than pairs of colour and marker: the dash is what is left.
    return next((place for place in places if place not in taken), places[0])
