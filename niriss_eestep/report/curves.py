"""The model PSF's curve of growth, made comparable with a product's apertures."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from niriss_eestep.errors import NirissEEError
from niriss_eestep.flux.total_rate import effective_ee

#: radii at which a total is taken where none is given [pix] (abs_flux's default range)
TOTAL_RADII = (5.0, 10.0)

#: points of a smooth curve
N_FINE = 301


@dataclass(frozen=True, slots=True, eq=False)
class ModelCurve:
    """The model PSF of a filter as the exposures of a product should show it.

    Parameters
    ----------
    name : str
        Of the psfee reference.
    radius : ndarray, shape (n_radii,)
        The apertures' radii [pix].
    effective : ndarray, shape (n_exposures, n_radii)
        Fraction of the star's light left in each aperture after the sky is subtracted; NaN for failed exposures.
    fine_radius, fine_effective : ndarray, shape (n_fine,)
        The same on a fine grid, for the mean of the exposures.
    """

    name: str
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
        weight = np.where(np.isfinite(count_rate), weight, 0.0)
        weight = weight * (inside if np.any(weight[:, inside] > 0) else 1.0)
        if not np.any(weight > 0):
            return float("nan")
        each = np.where(weight > 0, weight * count_rate / self.effective, 0.0)
        return float(np.sum(each) / np.sum(weight))


def model_curve(psfee, filter_name, rings, area, radius):
    """Make the model curve of a product, where the reference allows it.

    Parameters
    ----------
    psfee : PSFEE
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
    measured = [i for i in range(len(area)) if np.all(np.isfinite(area[i]))]
    if not measured:
        return None, "nothing was measured"
    fine = np.linspace(0.0, radius[-1], N_FINE)
    curve = partial(psfee.ee, filter_name)
    effective = np.full(area.shape, np.nan)
    try:
        for i in measured:
            effective[i] = effective_ee(curve, radius, area[i], *rings[i])
        smooth = np.mean([effective_ee(curve, fine, np.pi * fine**2, *rings[i]) for i in measured], axis=0)
    except NirissEEError as error:
        return None, f"no model PSF: {error}"
    return ModelCurve(psfee.name, radius, effective, fine, smooth), ""


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
    from niriss_eestep.reference import load_psfee

    if not name or name == "N/A" or name.startswith("packaged"):
        return load_psfee(), ""
    path = _in_crds_cache(name.removeprefix("crds://")) if name.startswith("crds://") else Path(name)
    try:
        if path is not None and (path.is_file() or path.is_dir()):
            return load_psfee(path), ""
    except NirissEEError as error:
        return load_psfee(), f"{error}; the packaged encircled energy is drawn instead"
    return (load_psfee(), f"the psfee reference {name} was not found; the packaged encircled energy is drawn instead")


def _in_crds_cache(name):
    """Path of a reference in the CRDS cache; None where it is not there."""
    cache = os.environ.get("CRDS_PATH")
    if not cache:
        return None
    folder = Path(cache) / "references" / "jwst"
    return next((path for path in (folder / "niriss" / name, folder / name) if path.is_file()), None)
