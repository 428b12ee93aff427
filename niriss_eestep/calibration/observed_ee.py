"""Encircled energy as it was measured in flight: joined to a model where the measurement ends, and fitted by it."""

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.combine.mean import CombinedProfile
from niriss_eestep.errors import ExposureError, ParameterError, ReferenceDataError
from niriss_eestep.flux.fitted import OWN_SHARE, GrowthCurve, PSFFit, fit_psf, growth_curve
from niriss_eestep.flux.total_rate import SIGNIFICANCE_MIN, Curve, effective_ee, total_rate, used_radii
from niriss_eestep.reference.psf import PSFEE, EETable

#: label, filter, combined profile, areas of its apertures, rings of its exposures' annuli
Group = tuple[str, str, CombinedProfile, Array, Sequence[tuple[Array, Array]]]

PRECISION = 1.0e-3
"""Fractional error of the count rate up to which a radius counts as measured."""


def splice_ee(
    combined: CombinedProfile,
    curve: Curve,
    curve_err: Curve,
    *,
    model_radius: Array,
    rings: Iterable[tuple[Array, Array, Array]],
    join_radius: float | None = None,
) -> tuple[EETable, EETable, float, Array]:
    """Join a group's observed EE to a model's.

    With the total that makes the two agree at the join, the starlight that the sky annulus took is given back (from
    the model), and observed over model EE is interpolated between the radii measured. Inside the smallest of these the
    model's shape stands, scaled. The join is the largest radius whose count rate is known to
    `PRECISION`.

    Parameters
    ----------
    combined : CombinedProfile
        Of EE profiles.
    curve, curve_err : callable
        EE of the model at radii [pix], 1 at infinity, and its standard error.
    model_radius : ndarray, shape (n_radii,)
        Radii of the result, rising [pix].
    rings : iterable of (ndarray, ndarray, ndarray)
        Per exposure: areas of the apertures [pix], edges of the rings of its annulus [pix], fraction of each used.
    join_radius : float, optional
        One of the radii measured [pix], instead of the rule.

    Returns
    -------
    spliced : EETable
        Observed inside the join, the model's outside.
    observed : EETable
        The measurements inside the join, without the model's interpolation; the last radius is the join.
    count_rate : float
        The star's total that joins the two [DN/s].
    covariance : ndarray, shape (n, n)
        Of the ``n`` measurements, without the model's error at the join, which all share.

    Raises
    ------
    ParameterError
        Where ``join_radius`` is not one of the radii measured.
    ExposureError
        Where fewer than two radii are measured well enough, or the result would not rise.
    """
    usable = (combined.n_good > 0) & np.isfinite(combined.value) & (combined.value > 0)
    last = _join_index(combined, usable, join_radius)
    chosen = np.nonzero(usable[: last + 1])[0]
    radius = combined.radius[chosen]
    lost = np.array([curve(combined.radius) - effective_ee(curve, combined.radius, *ring) for ring in rings])
    weight = combined.exposure_weight[:, chosen] / combined.exposure_weight[:, chosen].sum(axis=0)
    # what has no weight, as all of an exposure that failed, may be NaN
    mean_lost = np.sum(np.where(weight > 0, weight * np.where(weight > 0, lost[:, chosen], 0.0), 0.0), axis=0)
    value = combined.value[chosen]
    total = float(value[-1] / (curve(radius[-1:])[0] - mean_lost[-1]))
    observed = value / total + mean_lost
    # only the ratio to the join is measured; the join itself is as good as the model there
    part = combined.covariance[np.ix_(chosen, chosen)] / np.outer(value, value)
    covariance = (part + part[-1, -1] - part[-1] - part[:, -1:]) * np.outer(observed, observed)
    shared_err = observed * float(curve_err(radius[-1:])[0] / curve(radius[-1:])[0])
    observed_err = np.hypot(np.sqrt(np.maximum(np.diagonal(covariance), 0.0)), shared_err)
    model = np.asarray(curve(model_radius), dtype=np.float64)
    scale = np.interp(model_radius, radius, observed / curve(radius), right=1.0)
    ee = np.where(model_radius > radius[-1], model, model * scale)
    inside_err = model * np.interp(model_radius, radius, observed_err / curve(radius))
    ee_err = np.where(model_radius > radius[-1], curve_err(model_radius), inside_err)
    fall = -np.diff(ee)
    if fall.max() > 1e-3:  # the interpolation's own
        at = f"{fall.max():.2%} at {model_radius[int(np.argmax(fall))]:g} pix"
        raise ExposureError(f"the spliced EE falls by {at}: observation and model do not fit together there")
    return EETable(model_radius, ee, ee_err), EETable(radius, observed, observed_err), total, covariance


def observed_modes(psfee: PSFEE, name: str, observed: EETable, covariance: Array) -> dict[str, Array]:
    """Replace a filter's modes inside the join by those of what was observed.

    At the join the EE is the model's, and so is its uncertainty; all radii inside share this in proportion. What the
    measurements add is a mode for each of their principal components.

    Parameters
    ----------
    psfee : PSFEE
        The model, with modes.
    name : str
        The filter observed.
    observed : EETable
        As of `splice_ee`, as is ``covariance``.
    covariance : ndarray, shape (n, n)

    Returns
    -------
    dict of str to ndarray
        Modes by filter, with ``n`` more, which are 0 in the other filters and beyond the join.
    """
    radius, join, model = psfee.mode_radius, observed.radius[-1:], partial(psfee.ee, name)
    variance, vectors = np.linalg.eigh(covariance)
    roots = np.vstack([observed.ee, (vectors * np.sqrt(np.maximum(variance, 0.0))).T]) / model(observed.radius)
    # interpolated as the EE is
    spliced, *own = model(radius) * [np.interp(radius, observed.radius, root) for root in roots]
    inside, modes = radius <= join, dict(psfee.modes or {})
    modes[name] = np.where(inside, psfee.modes_at(name, join).T * spliced / model(join), modes[name])
    more = {key: np.where(inside, own, 0.0) * (key == name) for key in modes}
    return {key: np.vstack([values, more[key]]).astype(np.float32) for key, values in modes.items()}


def _join_index(combined: CombinedProfile, usable: Mask, join_radius: float | None) -> int:
    """Return the index of the join."""
    with np.errstate(invalid="ignore", divide="ignore"):  # radii that were not measured
        good = usable & (combined.err <= PRECISION * combined.value)
    if join_radius is not None:
        good = usable & np.isclose(combined.radius, join_radius, rtol=0, atol=1e-6)
        if not good.any():
            raise ParameterError(f"join_radius {join_radius:g} pix was not measured; radii: {combined.radius[usable]}")
    if not good.any() or usable[: np.nonzero(good)[0][-1] + 1].sum() < 2:
        raise ExposureError(f"fewer than two radii are known to {PRECISION:.2%}: observe longer or set join_radius")
    return int(np.nonzero(good)[0][-1])


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
        Its EE is the most probable one, also in filters that were not observed; its modes are what remains uncertain.
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
        inside, curves_of = combined.radius[used], (partial(psfee.ee, name), partial(psfee.ee_err, name))
        radii, modes_at = (max(inside[0], min(5.0, inside[-1])), inside[-1]), partial(psfee.modes_at, name)
        total = total_rate(combined, *curves_of, area=area, rings=rings, radii=radii, modes_at=modes_at)
        if not total.significance >= SIGNIFICANCE_MIN:
            raise ExposureError(f"{label}: no star: its total is below {SIGNIFICANCE_MIN:g} standard errors")
        curves[f"{label} ({len(curves) + 1})" if label in curves else label] = growth_curve(total, combined, used)
    fit = fit_psf(list(curves.values()), psfee.meta.get("flatter", 0.0))
    unknown = fit.inflation**2 * (fit.shared_covariance + OWN_SHARE**2 * np.eye(len(fit.shared)))
    meta = {"fitted_to": list(curves), "fit_chi2": fit.chi2, "fit_dof": fit.dof}
    return psfee.adjusted(fit.shared, unknown, meta), fit, curves
