"""The one error that a user can mend: bad input, said in one clear line."""

from __future__ import annotations


class UsageError(Exception):
    """Bad input. The message says what was given, what is allowed and what to do."""
