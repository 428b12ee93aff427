"""The model PSF's curve of growth, made comparable with a product's apertures."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from niriss_eestep.errors import NirissEEError
from niriss_eestep.flux.total_rate import effective_ee
from niriss_eestep.reference import load_psfee

#: radii at which a total is taken where none is given [pix] (abs_flux's default range)
TOTAL_RADII = (5.0, 10.0)

#: points of a smooth curve
N_FINE = 301


@dataclass(frozen=True, slots=True, eq=False)
class ModelCurve:
    """The model PSF of a filter as the exposures of a product should show it.

    Parameters
    ----------
    radius : ndarray, shape (n_radii,)
        The apertures' radii [pix].
    effective : ndarray, shape (n_exposures, n_radii)
        Fraction of the star's light left in each aperture after the sky is subtracted; NaN for failed exposures.
    fine_radius, fine_effective : ndarray, shape (n_fine,)
        The same on a fine grid, for the mean of the exposures.
    """

    radius: np.ndarray
    effective: np.ndarray
    fine_radius: np.ndarray
    fine_effective: np.ndarray

    def total(self, count_rate, weight):
        """Total count rate that scales the curve to the data.

        Parameters
        ----------
        count_rate, weight : ndarray, shape (n_exposures, n_radii)

        Returns
        -------
        float
            Weighted mean over the exposures and the radii from 5 to 10 pix, or all if there are none; NaN without data.
        """
        inside = (self.radius >= TOTAL_RADII[0]) & (self.radius <= TOTAL_RADII[1])
        weight = np.where(np.isfinite(count_rate), np.maximum(weight, 0.0), 0.0)
        weight = weight * (inside if np.any(weight[:, inside] > 0) else 1.0)
        with np.errstate(invalid="ignore"):
            return float(np.nansum(weight * count_rate / self.effective) / np.sum(weight))


def model_curve(psfee, filter_name, rings, area, radius):
    """Make the model curve of a product, where the reference allows it.

    Parameters
    ----------
    psfee : PSFEE or None
        The packaged one by default.
    filter_name : str
    rings : list of (ndarray, ndarray)
        Edges [pix] and coverage of the rings of each exposure's sky annulus.
    area : ndarray, shape (n_exposures, n_radii)
        Areas of the apertures [pix]; NaN for failed exposures.
    radius : ndarray, shape (n_radii,)
        [pix].

    Returns
    -------
    curve : ModelCurve or None
    reason : str
        Why there is none.
    """
    measured = np.flatnonzero(np.isfinite(area).all(axis=1))
    if not measured.size:
        return None, "nothing was measured"
    fine = np.linspace(0.0, radius[-1], N_FINE)
    curve = partial((psfee or load_psfee()).ee, filter_name)
    effective = np.full(area.shape, np.nan)
    try:
        for i in measured:
            effective[i] = effective_ee(curve, radius, area[i], *rings[i])
        smooth = np.mean([effective_ee(curve, fine, np.pi * fine**2, *rings[i]) for i in measured], axis=0)
    except NirissEEError as error:
        return None, f"no model PSF: {error}"
    return ModelCurve(radius, effective, fine, smooth), ""


def resolve_psfee(name):
    """Find again the psfee reference that a product was made with.

    Parameters
    ----------
    name : str or None
        As the product's ``meta.ref_file.psfee.name`` has it: a path, ``crds://FILE``, or ``packaged ...``.

    Returns
    -------
    psfee : PSFEE
        The packaged one where the reference is not to be found.
    remark : str
        Says so; empty where it was found.
    """
    if not name or name == "N/A" or name.startswith("packaged"):
        return load_psfee(), ""
    problem = f"the psfee reference {name} was not found"
    paths = [Path(name)]
    if name.startswith("crds://"):
        cache = Path(os.environ.get("CRDS_PATH", "/nowhere")) / "references" / "jwst"
        paths = [folder / name.removeprefix("crds://") for folder in (cache / "niriss", cache)]
    for path in paths:
        if path.is_file() or path.is_dir():
            try:
                return load_psfee(path), ""
            except NirissEEError as error:
                problem = str(error)
    return load_psfee(), f"{problem}; the packaged encircled energy is drawn instead"
