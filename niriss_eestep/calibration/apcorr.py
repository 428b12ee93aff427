"""Aperture corrections for catalogues: radii of given encircled energy, with the starlight in the sky annulus."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike

from niriss_eestep.arrays import Array
from niriss_eestep.errors import ParameterError
from niriss_eestep.flux.total_rate import effective_ee

Curve = Callable[[Array], Array]

EE_FRACTIONS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Encircled energies tabulated; jwst's source catalogue asks for 0.3, 0.5 and 0.7 unless told otherwise."""

SKY_IN, SKY_OUT = 30.0, 40.0
"""Sky annulus [pix]: far enough out that mean and median of the starlight in it differ by little in every filter."""


class ApertureCorrection(NamedTuple):
    """One row of an aperture-correction table.

    Parameters
    ----------
    eefraction : float
        Encircled energy within the aperture, as a fraction of the star's total light.
    radius : float
        [pix].
    apcorr : float
        Total over background-subtracted aperture flux.
    skyin, skyout : float
        Sky annulus [pix].
    """

    eefraction: float
    radius: float
    apcorr: float
    skyin: float
    skyout: float


def aperture_corrections(
    curve: Curve,
    *,
    eefractions: Sequence[float] = EE_FRACTIONS,
    skyin: float = SKY_IN,
    skyout: float = SKY_OUT,
    radius_min: float = 0.1,
) -> tuple[ApertureCorrection, ...]:
    """Tabulate aperture corrections.

    The sky annulus holds starlight, which the subtraction takes from the aperture: apcorr is 1 / EE_eff, not 1 / EE.
    The annulus's mean is meant. jwst's source catalogue takes a sigma-clipped median, which tends to the mean where
    noise dominates the annulus, and lies below it around a bright star.

    Parameters
    ----------
    curve : callable
        EE of the PSF at radii [pix]; 1 at infinity.
    eefractions : sequence of float, optional
        Encircled energies, in whole percent.
    skyin, skyout : float, optional
        Sky annulus [pix].
    radius_min : float, optional
        Where the search for the radius begins [pix].

    Returns
    -------
    tuple of ApertureCorrection
        In the order of ``eefractions``.

    Raises
    ------
    ParameterError
        Where an EE is not in whole percent between 0 and 1 or repeated, its radius reaches the annulus, or the
        annulus's radii do not rise.
    """
    if not 0 < skyin < skyout:
        raise ParameterError(f"sky annulus from {skyin:g} to {skyout:g} pix: it must have 0 < skyin < skyout")
    percent = np.round(100 * np.asarray(eefractions, dtype=np.float64))
    if percent.size == 0 or np.any((percent < 1) | (percent > 99)) or np.unique(percent).size != percent.size:
        raise ParameterError(
            f"eefractions {tuple(eefractions)}: different whole percents between 0.01 and 0.99 are needed"
        )
    return tuple(_row(curve, float(value) / 100, skyin, skyout, radius_min) for value in percent)


def _row(curve: Curve, eefraction: float, skyin: float, skyout: float, radius_min: float) -> ApertureCorrection:
    """Return the row of one EE."""

    def missing(radius: ArrayLike) -> float:
        return float(np.ravel(curve(np.atleast_1d(np.asarray(radius, dtype=np.float64))))[0]) - eefraction

    if missing(skyin) < 0 or missing(radius_min) > 0:
        inside = missing(skyin) + eefraction
        raise ParameterError(
            f"EE {eefraction:g} is not reached within the sky annulus's inner radius {skyin:g} pix (EE {inside:.4f})"
        )
    radius = float(scipy.optimize.brentq(missing, radius_min, skyin, xtol=1e-6))
    area = np.array([np.pi * radius**2])
    effective = effective_ee(curve, np.array([radius]), area, np.array([skyin, skyout]), np.ones(1))
    return ApertureCorrection(eefraction, radius, float(1.0 / effective[0]), skyin, skyout)
