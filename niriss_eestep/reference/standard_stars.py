"""Names and proper motions of standard stars."""

import csv
import re
from functools import cache
from importlib.resources import files


@cache
def _stars() -> dict[frozenset[str], tuple[float, float] | None]:
    """Proper motions [mas/yr] of the stars in the packaged table, by the keys of their names; None where not known."""
    text = (files("niriss_eestep.reference") / "data/standard_stars.csv").read_text()
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {
        frozenset(name_key(name) for name in (row["star"], *row["names"].split("; "))) - {""}: (
            (float(row["pm_ra"]), float(row["pm_dec"])) if row["pm_ra"] else None
        )
        for row in rows
    }


@cache
def same_star(target: str) -> frozenset[str]:
    """Return the keys under which a star may be filed, in whatever way its name is spelled.

    Parameters
    ----------
    target : str

    Returns
    -------
    frozenset of str
    """
    key = name_key(target)
    return frozenset({key}).union(*(names for names in _stars() if key in names)) - {""}


def name_key(name: str) -> str:
    """Return a name without what spellings differ in: case, punctuation, leading zeros, the D of zone numbers.

    Parameters
    ----------
    name : str

    Returns
    -------
    str
    """
    key = re.sub(r"[^A-Z0-9]", "", name.upper())
    key = re.sub(r"^(BD|AGK|GRW|CD)(\d+)D(\d+)$", r"\1\2\3", key)  # CALSPEC writes BD+60 1753 as bd60d1753
    key = re.sub(r"^(HD|BD)0+(?=\d)", r"\1", key)
    return re.sub(r"^J(?=\d{7}$)", "", key)  # J1743045 is 1743045


@cache
def proper_motion(*names: str | None) -> tuple[float, float] | None:
    """Give the proper motion of a standard star, for headers that state none.

    Parameters
    ----------
    *names : str or None
        What the star is called, in any usual spelling.

    Returns
    -------
    tuple of float, or None
        In right ascension, times the cosine of the declination, and in declination [mas/yr]; None where it is not
        known.

    Examples
    --------
    >>> proper_motion("GD-153")
    (-38.41, -202.953)
    """
    keys = {name_key(name) for name in names if name} - {""}
    return next((motion for known, motion in _stars().items() if motion is not None and keys & known), None)
