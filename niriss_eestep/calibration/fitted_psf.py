"""The PSF reference of a visit: the modes of a reference fitted to combined EE products of all filters."""

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np

from niriss_eestep.arrays import Array
from niriss_eestep.combine.mean import CombinedProfile
from niriss_eestep.errors import ExposureError, ReferenceDataError
from niriss_eestep.flux.fitted import OWN_SHARE, GrowthCurve, PSFFit, fit_psf, group_total, growth_curve
from niriss_eestep.flux.total_rate import SIGNIFICANCE_MIN, used_radii
from niriss_eestep.reference.ee_table import PSFEE

#: label, filter, combined profile, areas of its apertures, rings of its exposures' annuli
Group = tuple[str, str, CombinedProfile, Array, Sequence[tuple[Array, Array]]]


def fit_visit(
    psfee: PSFEE, groups: Iterable[Group], radius_min: float = 2.0, radius_max: float = 15.0
) -> tuple[PSFEE, PSFFit, dict[str, GrowthCurve]]:
    """Fit the modes of a PSF reference to a visit.

    Parameters
    ----------
    psfee : PSFEE
        With modes.
    groups : iterable of (str, str, CombinedProfile, ndarray, sequence of (ndarray, ndarray))
        Of one visit, whose wavefront serves all: label, filter, profile, areas of the apertures [pix] by exposure, and
        edges [pix] and coverage of the rings of its annulus.
    radius_min, radius_max : float, optional
        Radii to fit [pix].

    Returns
    -------
    fitted : PSFEE
        Its EE is the most probable one, of the filters that were not observed too; its modes are what is still unknown.
    fit : PSFFit
    curves : dict of str to GrowthCurve
        What was fitted, by label.

    Raises
    ------
    ReferenceDataError
        If the reference has no modes.
    ExposureError
        If a product shows no star.
    """
    if psfee.modes is None:
        raise ReferenceDataError(f"{psfee.name}: has no modes of the PSF, nothing can be fitted")
    curves: dict[str, GrowthCurve] = {}
    for label, name, combined, area, rings in groups:
        used = used_radii(combined, radius_min, radius_max)
        inside = combined.radius[used]
        correction = {"curve": partial(psfee.ee, name), "curve_err": partial(psfee.ee_err, name)}
        correction |= {"rings": rings, "radius_min": inside[0], "radius_max": inside[-1]}
        group = group_total(combined, area, correction, partial(psfee.modes.at, name))
        if not group.total.significance >= SIGNIFICANCE_MIN:
            raise ExposureError(f"{label}: no star: its total is below {SIGNIFICANCE_MIN:g} standard errors")
        curves[f"{label} ({len(curves) + 1})" if label in curves else label] = growth_curve(group, combined, used)
    fit = fit_psf(list(curves.values()))
    unknown = fit.inflation**2 * (fit.shared_covariance + OWN_SHARE**2 * np.eye(len(fit.shared)))
    meta = {"fitted_to": list(curves), "fit_chi2": fit.chi2, "fit_dof": fit.dof}
    return psfee.adjusted(fit.shared, unknown, meta), fit, curves
