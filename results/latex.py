"""Text as LaTeX that pdflatex sets with its default fonts: plain ASCII, nothing read as command."""

from __future__ import annotations

import re
import unicodedata

_COMMANDS = {
    "->": r"$\to$",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_GREEK = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"),
    *("lambda", "mu", "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi"),
    "omega",
)
# The other Greek capitals are shaped as Latin ones, and have no command.
_GREEK_CAPITALS = (
    *("Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega"),
)
# By the names that Unicode has for them, since many look like others.
_NAMED = {
    "EM DASH": "---",
    "EN DASH": "--",
    "MINUS SIGN": "$-$",
    "RIGHTWARDS ARROW": r"$\to$",
    "LEFTWARDS ARROW": r"$\leftarrow$",
    "PLUS-MINUS SIGN": r"$\pm$",
    "MULTIPLICATION SIGN": r"$\times$",
    "MIDDLE DOT": r"$\cdot$",
    "LESS-THAN OR EQUAL TO": r"$\leq$",
    "GREATER-THAN OR EQUAL TO": r"$\geq$",
    "NOT EQUAL TO": r"$\neq$",
    "ALMOST EQUAL TO": r"$\approx$",
    "INFINITY": r"$\infty$",
    "DEGREE SIGN": r"$^\circ$",
    "SUPERSCRIPT TWO": "$^2$",
    "SUPERSCRIPT THREE": "$^3$",
    "MICRO SIGN": r"$\mu$",
    "HORIZONTAL ELLIPSIS": r"\dots{}",
    "DAGGER": r"\dag{}",
    "LEFT SINGLE QUOTATION MARK": "`",
    "RIGHT SINGLE QUOTATION MARK": "'",
    "LEFT DOUBLE QUOTATION MARK": "``",
    "RIGHT DOUBLE QUOTATION MARK": "''",
    "NO-BREAK SPACE": "~",
    "LATIN SMALL LETTER SHARP S": r"\ss{}",
    "LATIN SMALL LETTER AE": r"\ae{}",
    "LATIN CAPITAL LETTER AE": r"\AE{}",
    "LATIN SMALL LIGATURE OE": r"\oe{}",
    "LATIN CAPITAL LIGATURE OE": r"\OE{}",
    "LATIN SMALL LETTER O WITH STROKE": r"\o{}",
    "LATIN CAPITAL LETTER O WITH STROKE": r"\O{}",
    "LATIN SMALL LETTER L WITH STROKE": r"\l{}",
    "LATIN CAPITAL LETTER L WITH STROKE": r"\L{}",
    "LATIN SMALL LETTER DOTLESS I": r"\i{}",
    # Unicode leaves the b of lambda out.
    **{f"GREEK SMALL LETTER {n.upper().replace('MB', 'M')}": f"$\\{n}$" for n in _GREEK},
    **{f"GREEK CAPITAL LETTER {n.upper().replace('MB', 'M')}": f"$\\{n}$" for n in _GREEK_CAPITALS},
    "OHM SIGN": r"$\Omega$",
}
_CHARACTERS = _COMMANDS | {unicodedata.lookup(name): text for name, text in _NAMED.items()}
# What stands above or below a letter.
_ACCENTS = {
    "COMBINING GRAVE ACCENT": "`",
    "COMBINING ACUTE ACCENT": "'",
    "COMBINING CIRCUMFLEX ACCENT": "^",
    "COMBINING TILDE": "~",
    "COMBINING MACRON": "=",
    "COMBINING BREVE": "u",
    "COMBINING DOT ABOVE": ".",
    "COMBINING DIAERESIS": '"',
    "COMBINING RING ABOVE": "r",
    "COMBINING DOUBLE ACUTE ACCENT": "H",
    "COMBINING CARON": "v",
    "COMBINING CEDILLA": "c",
}
_PATTERN = re.compile("|".join([*map(re.escape, _COMMANDS), "[^ -~]"]))


def escaped(text: str) -> str:
    """The text as LaTeX; a character that the fonts lack, and that has no command, is a `?`."""
    composed = unicodedata.normalize("NFC", text)
    return _PATTERN.sub(lambda match: _command(match.group()), composed)


def _command(character: str) -> str:
    if character in _CHARACTERS:
        return _CHARACTERS[character]
    parts = unicodedata.normalize("NFD", character)
    accent = _ACCENTS.get(unicodedata.name(parts[1], "")) if len(parts) == 2 else None
    if accent is None or not parts[0].isascii():
        return "?"
    return f"\\{accent}{{{parts[0]}}}"
