"""The one error that a user can mend: bad input, said in one clear line."""

from __future__ import annotations


class UsageError(Exception):
    """Bad input. The message says what was given, what is allowed and what to do."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
