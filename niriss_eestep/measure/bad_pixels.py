"""Bad pixels: which they are, what to put in their place, and how well that does."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CoreReport"]


@dataclass(frozen=True, slots=True)
class CoreReport:
    """Flagged pixels within the core radius.

    Parameters
    ----------
    saturated, do_not_use, flagged : int
        Number of pixels flagged SATURATED, DO_NOT_USE, or otherwise.
    """

    saturated: int
    do_not_use: int
    flagged: int
