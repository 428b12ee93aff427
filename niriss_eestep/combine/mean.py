"""The average over the dithers of a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from niriss_eestep.errors import ParameterError
from niriss_eestep.measure.background import given_covariance
from niriss_eestep.measure.profile import EEProfile

__all__ = ["CombinedProfile", "combine_profiles", "common_covariance", "growth_flags", "weighted_sum"]

#: the error honours the scatter where chance alone would give such a scatter this rarely (3 standard deviations of a
#: normal distribution); taking max(formal, scatter) always would make the errors of two dithers 8 % too large
SCATTER_PROBABILITY = 0.0027

#: standard deviations by which a curve of growth must fall, or fall behind the others', to be no chance: of 12 radii of
#: 8 dithers that do not grow at all, one in eight groups loses one
SIGNIFICANT_FALL = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class CombinedProfile:
    """The profiles of a group's exposures and their average; EE [DN/s] or SB [DN/s/pix].

    Parameters
    ----------
    radius : ndarray, shape (n_radii,)
        [pix].
    value : ndarray, shape (n_radii,)
        Inverse-variance mean of the good exposures; the plain mean where none is good.
    covariance : ndarray, shape (n_radii, n_radii)
        Formal covariance of ``value``, times the ``inflation`` of either radius.
    err_formal : ndarray, shape (n_radii,)
        Standard error from the exposures' errors alone.
    inflation : ndarray, shape (n_radii,)
        Factor (>= 1) by which the error honours the scatter between exposures.
    scatter : ndarray, shape (n_radii,)
        Standard deviation (ddof 1) of the good exposures; NaN for fewer than two.
    chi2_dof : ndarray, shape (n_radii,)
        Chi-squared of the good exposures about ``value`` per degree of freedom; NaN for fewer than two.
    n_good : ndarray of int, shape (n_radii,)
        Exposures averaged with flag 1.
    names : tuple of str
        The exposures.
    exposure_value, exposure_err : ndarray, shape (n_exposures, n_radii)
        Each exposure's profile and its standard error.
    exposure_flag : ndarray of int, shape (n_exposures, n_radii)
        1 good, 0 left out.
    exposure_weight : ndarray, shape (n_exposures, n_radii)
        Weights of the mean; they add up to 1 at each radius that was measured.
    exposure_covariance : ndarray, shape (n_exposures, n_radii, n_radii), optional
        Covariance of each exposure's profile; None where a product does not keep it.
    flat_covariance, sky_covariance : ndarray, shape (n_radii, n_radii), optional
        The parts of the formal covariance that come from the flat field and from the sky; None where nobody knows.
    """

    radius: NDArray[np.float64]
    value: NDArray[np.float64]
    covariance: NDArray[np.float64]
    err_formal: NDArray[np.float64]
    inflation: NDArray[np.float64]
    scatter: NDArray[np.float64]
    chi2_dof: NDArray[np.float64]
    n_good: NDArray[np.int64]
    names: tuple[str, ...]
    exposure_value: NDArray[np.float64]
    exposure_err: NDArray[np.float64]
    exposure_flag: NDArray[np.int64]
    exposure_weight: NDArray[np.float64]
    exposure_covariance: NDArray[np.float64] | None = None
    flat_covariance: NDArray[np.float64] | None = None
    sky_covariance: NDArray[np.float64] | None = None

    @property
    def err(self) -> NDArray[np.float64]:
        """Standard error of ``value``, honouring the scatter."""
        return np.sqrt(np.diagonal(self.covariance))


def common_covariance(profiles: Sequence[EEProfile]) -> NDArray[np.float64]:
    """Covariance that the exposures of a group have in common: that of one background given for all of them.

    Parameters
    ----------
    profiles : sequence of EEProfile
        All with the same radii.

    Returns
    -------
    ndarray, shape (n_radii, n_radii)
        [(DN/s)^2]; zero where each has a background of its own.
    """
    used = [profile for profile in profiles if not profile.failure]
    given = {(p.background.method, p.background.value, p.background.err) for p in used}
    if len(given) != 1:
        return np.zeros(np.shape(profiles[0].covariance))
    # an aperture that leaves the image has less area, but is not measured
    return given_covariance(used[0].background, np.max([p.area for p in used], axis=0))


def growth_flags(
    count_rate: NDArray[np.float64],
    covariances: Sequence[NDArray[np.float64]],
    common: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """Flag radii at which a curve of growth does not grow (method of CAP-020, 2021), unless noise alone explains it.

    Parameters
    ----------
    count_rate : ndarray, shape (n_exposures, n_radii)
        [DN/s].
    covariances : sequence of ndarray, shape (n_radii, n_radii)
        Each exposure's covariance [(DN/s)^2].
    common : ndarray, shape (n_radii, n_radii), optional
        The part of it that all exposures share; zero by default.

    Returns
    -------
    ndarray of int, shape (n_exposures, n_radii)
        1 good; 0 where it is not finite, or not larger than at the radius before: in a lone exposure always, in one of
        several where its growth is significantly less than the group's, and where the group itself falls.

    Notes
    -----
    Where the growth is no larger than its noise, leaving out what falls leaves out what scatters low, and the mean of
    the rest is too high: by 1.1 standard errors at 15 pix for 8 dithers of 1e4 electrons in F200W.
    """
    growth = np.diff(count_rate, axis=1, prepend=0.0)
    own, shared = (_growth_variance(part) for part in _parts(covariances, common))
    err = np.sqrt(own)
    finite = np.isfinite(growth)
    weight = _weights(growth, err, finite.astype(np.int64))
    mean = weighted_sum(weight, growth)
    mean_err = np.sqrt(weighted_sum(weight**2, own) + shared)
    low = growth < mean - SIGNIFICANT_FALL * err
    together = mean <= -SIGNIFICANT_FALL * mean_err
    alone = finite.sum(axis=0) < 2
    # a radius that could not be measured says nothing of the next: a comparison with NaN is false
    falls = (growth <= 0) & (low | together | alone)
    return (np.isfinite(count_rate) & ~falls).astype(np.int64)


def _parts(
    covariances: Sequence[NDArray[np.float64]], common: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each exposure's own part of its covariance, and the part that all share."""
    covariance = np.array(covariances, dtype=float)
    shared = np.zeros(covariance.shape[1:]) if common is None else common
    return covariance - shared, shared


def _growth_variance(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Variance of what each radius adds to the one before, shape (..., n_radii), of (..., n_radii, n_radii)."""
    padded = np.pad(covariance, [(0, 0)] * (covariance.ndim - 2) + [(1, 0), (1, 0)])
    variance = np.diagonal(padded, axis1=-2, axis2=-1)
    shared = np.diagonal(padded, offset=1, axis1=-2, axis2=-1)
    # rounding may leave less than nothing where two apertures hold the same pixels
    return np.maximum(variance[..., 1:] + variance[..., :-1] - 2 * shared, 0.0)


def weighted_sum(weight: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over exposures; what has no weight, as all of an exposure that failed, may be NaN.

    Parameters
    ----------
    weight, values : ndarray, shape (n_exposures, n_radii)

    Returns
    -------
    ndarray, shape (n_radii,)
    """
    return np.sum(np.where(weight > 0, weight * np.where(weight > 0, values, 0.0), 0.0), axis=0)


def _weights(values: NDArray[np.float64], err: NDArray[np.float64], flag: NDArray[np.int64]) -> NDArray[np.float64]:
    """Inverse-variance weights of the good exposures; equal ones where none is good or one has no error."""
    finite = np.isfinite(values)
    chosen = np.where(np.any(flag > 0, axis=0), flag > 0, finite)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(chosen, 1 / err**2, 0.0)
    usable = np.all(np.isfinite(inverse), axis=0) & np.any(flag > 0, axis=0)
    weight = np.where(usable, inverse, chosen.astype(float))
    total = weight.sum(axis=0)
    return weight / np.where(total > 0, total, 1.0)


def _chi2_dof(
    values: NDArray[np.float64], err: NDArray[np.float64], flag: NDArray[np.int64], mean: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Chi-squared per degree of freedom at each radius, and the factor by which the error honours it."""
    n_good = flag.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(flag > 0, ((values - mean) / err) ** 2, 0.0)
        chi2 = np.where(n_good > 1, terms.sum(axis=0), np.nan)
    dof = np.maximum(n_good - 1, 1)
    beyond_chance = scipy.special.chdtrc(dof, chi2) < SCATTER_PROBABILITY
    inflation = np.where(beyond_chance & np.isfinite(chi2), np.sqrt(chi2 / dof), 1.0)
    return chi2 / dof, inflation


def _scatter(values: NDArray[np.float64], flag: NDArray[np.int64]) -> NDArray[np.float64]:
    """Standard deviation of the good exposures at each radius; NaN for fewer than two."""
    n_good = flag.sum(axis=0)
    kept = np.where(flag > 0, values, 0.0)
    mean = kept.sum(axis=0) / np.maximum(n_good, 1)
    square = np.where(flag > 0, (kept - mean) ** 2, 0.0).sum(axis=0)
    return np.where(n_good > 1, np.sqrt(square / np.maximum(n_good - 1, 1)), np.nan)


def _check_lengths(
    names: Sequence[str],
    radius: NDArray[np.float64],
    values: Sequence[NDArray[np.float64]],
    covariances: Sequence[NDArray[np.float64]],
) -> None:
    """Raise ParameterError where there is no profile, or they differ in length."""
    if not len(names) == len(values) == len(covariances) or not len(names):
        raise ParameterError(
            f"need as many profiles and covariances as names, and at least one; got {len(values)} for {len(names)}"
        )
    if any(np.shape(v) != radius.shape for v in values):
        raise ParameterError(
            f"all profiles must have the {len(radius)} radii of the group; got {[len(v) for v in values]}"
        )


def combine_profiles(
    names: Sequence[str],
    radius: NDArray[np.float64],
    values: Sequence[NDArray[np.float64]],
    covariances: Sequence[NDArray[np.float64]],
    *,
    common: NDArray[np.float64] | None = None,
    flags: NDArray[np.int64] | None = None,
) -> CombinedProfile:
    """Average the profiles of a group.

    Parameters
    ----------
    names : sequence of str, length n_exposures
    radius : ndarray, shape (n_radii,)
        [pix], the same for all.
    values : sequence of ndarray, shape (n_radii,)
        Each exposure's profile; NaN where it was not measured.
    covariances : sequence of ndarray, shape (n_radii, n_radii)
        And its covariance.
    common : ndarray, shape (n_radii, n_radii), optional
        The part of the covariance that all exposures share, which their mean does not average down; zero by default.
    flags : ndarray of int, shape (n_exposures, n_radii), optional
        1 good, 0 left out; by default 1 wherever the value is finite (`growth_flags` is for EE).

    Returns
    -------
    CombinedProfile
        In order of the names, so that the order of the inputs does not matter.

    Raises
    ------
    ParameterError
        If there is no profile, or they differ in length.

    Notes
    -----
    The error is the formal one unless the scatter between the exposures is larger than chance allows (chi-squared
    with a probability below 0.0027); there it is multiplied by the square root of chi-squared per degree of freedom
    (the Birge ratio). Neither the weights nor chi-squared know what all share: it moves all alike.
    """
    _check_lengths(names, radius, values, covariances)
    order = sorted(range(len(names)), key=lambda k: names[k])
    value = np.array([values[k] for k in order], dtype=float)
    own, shared = _parts([covariances[k] for k in order], common)
    err = np.sqrt(np.maximum(np.diagonal(own, axis1=1, axis2=2), 0.0))
    flag = np.isfinite(value).astype(np.int64) if flags is None else flags[order] * np.isfinite(value)
    weight = _weights(value, err, flag)
    measured = weight.sum(axis=0) > 0
    mean = np.where(measured, weighted_sum(weight, value), np.nan)
    both = weight[:, :, None] * weight[:, None, :]
    averaged = np.sum(np.where(both > 0, both * np.where(both > 0, own, 0.0), 0.0), axis=0)
    formal = np.where(np.outer(measured, measured), averaged + shared, np.nan)
    chi2_dof, birge = _chi2_dof(value, err, flag, mean)
    # the scatter says nothing of what all share
    share = np.divide(np.diagonal(averaged), np.diagonal(formal), out=np.ones(len(radius)), where=birge > 1)
    inflation = np.sqrt(1 + share * (birge**2 - 1))
    return CombinedProfile(
        radius=np.asarray(radius, dtype=float),
        value=mean,
        covariance=formal * np.outer(inflation, inflation),
        err_formal=np.sqrt(np.diagonal(formal)),
        inflation=inflation,
        scatter=_scatter(value, flag),
        chi2_dof=chi2_dof,
        n_good=flag.sum(axis=0),
        names=tuple(names[k] for k in order),
        exposure_value=value,
        exposure_err=np.sqrt(np.diagonal(own + shared, axis1=1, axis2=2)),
        exposure_flag=flag,
        exposure_weight=weight,
        exposure_covariance=own + shared,
    )
