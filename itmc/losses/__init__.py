"""Losses as pure functions, and the discrepancies between domains that are built from them."""
