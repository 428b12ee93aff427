"""Proper motions of standard stars, for headers that state none."""

from __future__ import annotations

from functools import cache

from niriss_eestep.reference.stdspec import same_star

__all__ = ["proper_motion"]

#: In right ascension (times the cosine of the declination) and declination [mas/yr], by CALSPEC's names. Sources: the
#: list of standard stars of spacetelescope/ABSCAL (``abscal/common/data/standard_stars.yaml``: Gaia's values); those
#: marked *: the list of standards of KCWI (Keck-DataReductionPipelines/KCWI_DRP, ``kcwi_stds_starlist.txt``: Gaia
#: EDR3, to some mas/yr), whose seconds of time were multiplied by 15 cos(declination).
MAS_PER_YEAR = {
    "1757132": (0.408, -14.027),
    "2m003618": (901.558, 124.019),
    "2m055914": (570.199, -337.592),
    "bd17d4708": (481.0, 59.3),  # *
    "bd21d0607": (392.6, -301.6),  # *
    "bd29d2091": (155.7, -824.7),  # *
    "bd54d1216": (-20.2, -628.3),  # *
    "bd60d1753": (3.981, 1.809),
    "g191b2b": (12.592, -93.525),
    "gd153": (-38.41, -202.953),
    "gd71": (76.841, -172.944),
    "gj7541a": (-60.9, -161.8),  # *
    "grw_70d5824": (-402.093, -24.608),
    "hd116405": (8.008, -10.29),
    "hd180609": (-3.059, -7.79),
    "hd205905": (384.102, -83.962),
    "hd37725": (15.052, -26.928),
    "hd37962": (-59.648, -365.227),
    "hd38949": (-30.436, -35.423),
    "hd60753": (-3.124, 5.31),
    "hd93521": (0.22, 1.717),
    "kf06t2": (0.62, -4.419),
    "lds749b": (414.0, 27.2),  # *
    "p330e": (-8.991, -38.768),
    "snap2": (-2.911, -10.952),
    "vb8": (-813.418, -870.611),
    "wd1657_343": (8.766, -31.227),
    "wd2149_021": (15.0, -300.5),  # *
}


@cache
def proper_motion(*names: str | None) -> tuple[float, float] | None:
    """Give the proper motion of a standard star.

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
    keys = set().union(*(same_star(name) for name in names if name))
    return next((motion for star, motion in MAS_PER_YEAR.items() if keys & same_star(star)), None)
