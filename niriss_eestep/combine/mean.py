"""The average over the dithers of a group or an exposure's integrations, and the errors that these share."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from niriss_eestep.arrays import Array
from niriss_eestep.errors import ExposureError, ParameterError
from niriss_eestep.measure.geometry import aperture_weights
from niriss_eestep.measure.noise import flat_covariance
from niriss_eestep.measure.profile import EEProfile

#: the error honours the scatter where chance alone would give such a scatter this rarely; the rarer, the more real
#: scatter is missed. Pulls of two dithers with white noise are 0.99, 0.98, 0.97, 0.95 for 0.0027, 0.02, 0.05, 0.1
SCATTER_PROBABILITY = 0.05

#: half the width of a 95 % interval in standard deviations of a normal distribution
NORMAL_95 = 1.959964

#: an exposure is an outlier beyond this many standard errors of what the others predict, and this share of them: MIRI's
#: repeatability is 0.1 to 1.2 % (Gordon et al. 2025), that of NIRISS better than 1 %, and what is usual is no outlier
OUTLIER_SIGMA, OUTLIER_SHARE = 5.0, 0.01

#: light beyond these radii, in a ring of this width, is compared [pix]: wider ones hold more of the sky's noise
EXTRA_RADII, EXTRA_WIDTH = (4.0, 8.0), 3.0

#: pixel phases and centroids move the light beyond a radius as a shift of its edge would: by 0.025 pix at most in
#: images of the packaged PSFs at 24 phases, all filters and these radii [pix]
EDGE_SHIFT = 0.03

#: within it the pixel phase moves more light than that: 1.7 % at 1 pix in F090W, 0.1 % at 2 pix [pix]
PHASE_RADIUS = 2.0

#: repairs err alike as their light is when seen through a Gaussian of this sigma [pix], by this share: products of the
#: errors of two dithers, over their standard errors, are 0.0, 0.2, 0.6, 0.9 where the light is alike by 0.1, 0.3, 0.6,
#: 0.9 (6,850 pairs, ten kinds of damage, 15 wavefronts of two simulators in 7 filters). Pulls of groups of four with
#: the peak, a column through it, a row beside it or a saturated core lost are 1.1 to 2.4 without it, 0.7 to 1.5 with it
REPAIR_PATCH, REPAIR_SHARE = 0.35, 0.8
#: what of a profile says where those are, and what they are worth
REPAIRS = ("repair_err", "repair_x", "repair_y", "repair_light")

#: what of a profile says what it shares with those of other exposures, and what of its errors is the sky's
SHARED = ("sky_covariance", "phase", "stamp_flat_err", "stamp_x0", "stamp_y0", "flat_err_scale", *REPAIRS)

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
        Factor (>= 1) by which the error honours the scatter between exposures; see `scatter_factor`.
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
    exposure_phase : ndarray, shape (n_exposures, n_radii), optional
        Encircled energy at each star's own pixel phase less that averaged over phases; None without model images.
    common_scatter : float
        Scatter of dithers that the groups of a product have in common, as a fraction.
    """

    radius: Array
    value: Array
    covariance: Array
    err_formal: Array
    inflation: Array
    scatter: Array
    chi2_dof: Array
    n_good: NDArray[np.int64]
    names: tuple[str, ...]
    exposure_value: Array
    exposure_err: Array
    exposure_flag: NDArray[np.int64]
    exposure_weight: Array
    exposure_covariance: Array | None = None
    flat_covariance: Array | None = None
    sky_covariance: Array | None = None
    exposure_phase: Array | None = None
    common_scatter: float = 0.0

    @property
    def err(self) -> Array:
        """Standard error of ``value``, honouring the scatter."""
        return np.sqrt(np.diagonal(self.covariance))

    def parts(self) -> tuple[Array, Array | None, Array | None, Array, Array]:
        """Formal covariance; its parts from flat field and sky; the part that all exposures share; each exposure's own.

        What all share is what the mean has beyond the exposures' covariances, averaged down. Where no more is kept, an
        exposure's covariance is its variances.

        Returns
        -------
        formal : ndarray, shape (n_radii, n_radii)
            Covariances, all in the square of the profile's unit.
        flat, sky : ndarray, shape (n_radii, n_radii), or None
        shared : ndarray, shape (n_radii, n_radii)
        each : ndarray, shape (n_exposures, n_radii, n_radii)
        """
        formal, weight = self.covariance / np.outer(self.inflation, self.inflation), self.exposure_weight
        each = self.exposure_covariance
        if each is None:
            each = np.einsum("ei,ij->eij", self.exposure_err**2, np.eye(len(self.radius)))
        left, own = 1 - weight.T @ weight, weighted_sum(weight[:, :, None] * weight[:, None, :], each)
        shared = np.divide(formal - own, left, out=np.zeros_like(left), where=left > 1e-9)
        return formal, self.flat_covariance, self.sky_covariance, shared, each


def common_covariance(backgrounds: Sequence[tuple[str, float, float]], areas: Array) -> Array:
    """Covariance that the exposures of a group have in common: that of one background given for all of them.

    Parameters
    ----------
    backgrounds : sequence of (str, float, float)
        Of each exposure that was measured: the method, and the value and its standard error [DN/s/pix].
    areas : ndarray, shape (n_exposures, n_radii)
        Areas of their apertures [pix].

    Returns
    -------
    ndarray, shape (n_radii, n_radii)
        [(DN/s)^2]; zero where each has a background of its own.
    """
    if len(set(backgrounds)) != 1 or backgrounds[0][0] == "annulus":
        return np.zeros((areas.shape[1],) * 2)
    # an aperture that leaves the image has less area, but is not measured
    area = np.max(areas, axis=0)
    return np.outer(area, area) * backgrounds[0][2] ** 2


def growth_flags(count_rate: Array, covariances: Sequence[Array], common: Array | float = 0.0) -> NDArray[np.int64]:
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
    # variances of what each radius adds: of what each exposure has for itself and, last, of what all share
    parts = np.array([*(np.array(covariances, dtype=float) - common), np.broadcast_to(common, covariances[0].shape)])
    parts = np.pad(parts, [(0, 0), (1, 0), (1, 0)])
    variance, beside = (np.diagonal(parts, offset, axis1=1, axis2=2) for offset in (0, 1))
    # rounding may leave less than nothing where two apertures hold the same pixels
    added = np.maximum(variance[:, 1:] + variance[:, :-1] - 2 * beside, 0.0)
    own, shared = added[:-1], added[-1]
    err, finite = np.sqrt(own), np.isfinite(growth)
    weight, mean, _ = _average(growth, err, finite.astype(np.int64))
    low = growth < mean - SIGNIFICANT_FALL * err
    together = mean <= -SIGNIFICANT_FALL * np.sqrt(weighted_sum(weight**2, own) + shared)
    alone = finite.sum(axis=0) < 2
    # a radius that could not be measured says nothing of the next: a comparison with NaN is false
    falls = (growth <= 0) & (low | together | alone)
    return (np.isfinite(count_rate) & ~falls).astype(np.int64)


def weighted_sum(weight: Array, values: Array) -> Array:
    """Sum over exposures; what has no weight, as all of an exposure that failed, may be NaN.

    Parameters
    ----------
    weight, values : ndarray, shape (n_exposures, ...)

    Returns
    -------
    ndarray, shape (...)
    """
    return np.sum(np.where(weight > 0, weight * np.where(weight > 0, values, 0.0), 0.0), axis=0)


def _average(values: Array, err: Array, flag: NDArray[np.int64]) -> tuple[Array, Array, Array]:
    """Weights of the good exposures at each radius, their mean, and chi-squared about it.

    The weights are inverse variances; equal ones of all that were measured where none is good, and of the good ones
    where one has no error. Chi-squared is NaN for fewer than two good ones, or without errors.
    """
    good = flag > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(good, 1 / err**2, 0.0)
        usable = np.all(np.isfinite(inverse), axis=0) & good.any(axis=0)
        weight = np.where(usable, inverse, np.where(good.any(axis=0), good, np.isfinite(values)))
        total = weight.sum(axis=0)
        weight = weight / np.where(total > 0, total, 1.0)
        mean = weighted_sum(weight, values)
        terms = np.where(good, ((values - mean) / err) ** 2, 0.0).sum(axis=0)
    return weight, mean, np.where((good.sum(axis=0) > 1) & np.isfinite(terms), terms, np.nan)


def scatter_factor(chi2: Array | float, dof: NDArray[np.int64] | int) -> Array:
    """Factor by which a mean's standard error honours the scatter of what it is the mean of.

    Parameters
    ----------
    chi2 : array_like
        Chi-squared about the mean; NaN where there is none.
    dof : array_like of int
        Its degrees of freedom.

    Returns
    -------
    ndarray
        At least 1: the root of chi-squared per degree of freedom (Birge 1932, Phys. Rev. 40, 207) times Student's
        factor, by which plus and minus 1.96 standard errors hold 95 %, where chance alone gives such a scatter with a
        probability below 0.05; else 1.

    Notes
    -----
    Student's factor is 6.5 for two, 2.2 for three, 1.6 for four and 1.2 for eight. Where two differ by little, by
    chance, their true scatter is not known: with white noise of standard error e in the mean of two, whose pulls stay
    1, and a real scatter that makes an error of t, no rule that knows these two alone has pulls with a standard
    deviation below t / e over infinitely many groups, and the intervals hold 95 % only for t well beyond e.

    Examples
    --------
    >>> scatter_factor([0.5, 25.0, float("nan")], [1, 1, 0]).round(1).tolist()
    [1.0, 32.4, 1.0]
    """
    chi2, dof = np.asarray(chi2, dtype=float), np.maximum(dof, 1)
    student = scipy.special.stdtrit(dof, 0.975) / NORMAL_95
    return np.where(scipy.special.chdtrc(dof, chi2) < SCATTER_PROBABILITY, np.sqrt(chi2 / dof) * student, 1.0)


def outlier_flags(radius: Array, values: Array, covariances: Array, flags: NDArray[np.int64]) -> NDArray[np.int64]:
    """Flag the exposures that differ from all the others, of three on.

    Parameters
    ----------
    radius : ndarray, shape (n_radii,)
        [pix]; within 2 pix nothing is flagged.
    values : ndarray, shape (n_exposures, n_radii)
        Each exposure's profile.
    covariances : ndarray, shape (n_exposures, n_radii, n_radii)
        And its covariance, without what all share.
    flags : ndarray of int, shape (n_exposures, n_radii)
        1 good, 0 left out already.

    Returns
    -------
    ndarray of int, shape (n_exposures, n_radii)
        With 0 where an exposure is off from the mean of the others by over 5 standard errors, which honour the
        others' own scatter, and 1 %: as many as agree that they are fewer than the others.
    """
    every, found = np.sqrt(np.maximum(np.diagonal(covariances, axis1=1, axis2=2), 0.0)), flags.copy()
    for j in np.flatnonzero(radius >= PHASE_RADIUS):
        value, err, good = values[:, j], every[:, j], np.flatnonzero(flags[:, j])
        order = good[np.argsort(np.abs(value[good] - np.median(value[good])))] if len(good) > 2 else good
        for n_rest in range(len(good) // 2 + 1, len(good)):
            rest, next_one = order[:n_rest], order[n_rest]
            weight, mean, chi2 = _average(value[rest], err[rest], flags[rest, j])
            apart = np.abs(value[next_one] - mean) - OUTLIER_SHARE * np.abs(mean)
            if apart > 0:
                formal = np.sqrt(err[next_one] ** 2 + weighted_sum(weight**2, err[rest] ** 2))
                if apart > OUTLIER_SIGMA * scatter_factor(chi2, n_rest - 1) * formal:
                    found[order[n_rest:], j] = 0
                    break
    return found


def extra_light(radius: Array, values: Array, covariances: Array) -> Array:
    """Find light that one exposure has beside its star and the others have not: persistence, a hit.

    Parameters
    ----------
    radius : ndarray, shape (n_radii,)
        [pix].
    values : ndarray, shape (n_exposures, n_radii)
        Curves of growth.
    covariances : ndarray, shape (n_exposures, n_radii, n_radii)

    Returns
    -------
    ndarray, shape (n_exposures, n_radii)
        Share of the star's light, at the first radius that holds some of what the median of the exposures (of two: the
        other) has not; 0 elsewhere.
    """
    values, covariances = np.asarray(values, dtype=float), np.asarray(covariances)
    found = np.zeros_like(values)
    for j in np.flatnonzero((radius >= EXTRA_RADII[0]) & (radius <= EXTRA_RADII[1])):
        outer = int(np.searchsorted(radius, radius[j] + EXTRA_WIDTH, side="right")) - 1
        ends = np.array([j, outer])
        pair = covariances[:, ends][:, :, ends]
        k = np.flatnonzero(np.isfinite(values[:, ends]).all(axis=1) & np.isfinite(pair).all(axis=(1, 2)))
        if len(k) < 2 or not 0 < j < outer < len(radius) - 1:
            continue
        total = values[k, outer]
        share, by_each = 1 - values[k, j] / total, np.array([-1 / total, values[k, j] / total**2]).T
        # radii that share all their noise leave nothing but rounding
        variance = np.maximum(np.einsum("ei,eij,ej->e", by_each, pair[k], by_each), 0.0)
        level, level_variance = share[::-1], variance[::-1]
        if len(k) > 2:
            level, level_variance = np.median(share), 1.57 * np.mean(variance) / len(k)
        across = values[k][:, ends + 1] - values[k][:, ends - 1]
        slope = np.linalg.norm(np.nan_to_num(across / (radius[ends + 1] - radius[ends - 1])), axis=1) / total
        allowed = np.hypot(OUTLIER_SIGMA * np.sqrt(variance + level_variance), EDGE_SHIFT * slope)
        found[k, j + 1] = np.where((share - level > allowed) & ~found[k].any(axis=1), share - level, 0.0)
    return found


def combine_profiles(
    names: Sequence[str], radius: Array, values: Sequence[Array] | Array, covariances: Sequence[Array], *,
    common: Array | float = 0.0, flags: NDArray[np.int64] | None = None,
) -> CombinedProfile:  # fmt: skip
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
    The error is the formal one unless the scatter between the exposures is larger than chance allows; see
    `scatter_factor`. Neither the weights nor chi-squared know what all share: it moves all alike.

    Examples
    --------
    >>> rates = [np.array([100.0, 120.0]), np.array([101.0, 122.0])]  # of two exposures, at two radii
    >>> mean = combine_profiles(["first", "second"], np.array([5.0, 10.0]), rates, [np.eye(2), np.eye(2)])
    >>> mean.value, mean.err.round(2)
    (array([100.5, 121. ]), array([0.71, 0.71]))
    """
    shapes = [np.shape(value) for value in values]
    if not len(names) == len(values) == len(covariances) or set(shapes) != {np.shape(radius)}:
        raise ParameterError(
            f"need a profile of the {len(radius)} radii of the group and a covariance for each name, and at least one; "
            f"got profiles of shape {shapes} and {len(covariances)} covariances for {len(names)} names"
        )
    order = sorted(range(len(names)), key=lambda k: names[k])
    value, own = np.array(values, dtype=float)[order], np.array(covariances, dtype=float)[order] - common
    err = np.sqrt(np.maximum(np.diagonal(own, axis1=1, axis2=2), 0.0))
    flag = np.isfinite(value).astype(np.int64) if flags is None else flags[order] * np.isfinite(value)
    weight, mean, chi2 = _average(value, err, flag)
    measured = weight.sum(axis=0) > 0
    averaged = weighted_sum(weight[:, :, None] * weight[:, None, :], own)
    formal = np.where(np.outer(measured, measured), averaged + common, np.nan)
    dof = np.maximum(flag.sum(axis=0) - 1, 1)
    factor = scatter_factor(chi2, dof)
    # the scatter says nothing of what all share
    share = np.divide(np.diagonal(averaged), np.diagonal(formal), out=np.ones(len(radius)), where=factor > 1)
    inflation = np.sqrt(1 + share * (factor**2 - 1))
    return CombinedProfile(
        radius=np.asarray(radius, dtype=float), value=np.where(measured, mean, np.nan),
        covariance=formal * np.outer(inflation, inflation), err_formal=np.sqrt(np.diagonal(formal)),
        inflation=inflation, scatter=np.sqrt(_average(value, np.ones_like(value), flag)[2] / dof), chi2_dof=chi2 / dof,
        n_good=flag.sum(axis=0), names=tuple(names[k] for k in order), exposure_value=value,
        exposure_err=np.sqrt(np.diagonal(own + common, axis1=1, axis2=2)), exposure_flag=flag, exposure_weight=weight,
        exposure_covariance=own + common,
    )  # fmt: skip


def repair_covariance(weight: Array, repairs: Sequence[Sequence[Any]]) -> Array:
    """Covariance that a mean has because the repairs of its exposures err alike: those of one star's PSF.

    Parameters
    ----------
    weight : ndarray, shape (n_exposures, n_radii)
        Of the mean.
    repairs : sequence of (sequence of (ndarray or None))
        Of each exposure the fields `REPAIRS` of its `EEProfile`.

    Returns
    -------
    ndarray, shape (n_radii, n_radii)
        [(DN/s)^2]; beyond what each exposure has for itself.

    Notes
    -----
    Two repairs are as much alike as the patterns of light that they put in, seen through `REPAIR_PATCH`.
    """
    mine = [
        (own * err, x + 1j * y, light) for own, (err, x, y, light) in zip(weight, repairs, strict=True) if x is not None
    ]
    errs, places, light = zip(*mine, strict=True)
    place, owner = np.concatenate(places), np.repeat(np.eye(len(mine)), [len(each) for each in light], axis=0)
    lights = np.concatenate(light) * owner.T
    alike = lights @ np.exp(-0.5 * np.abs(place[:, None] - place) ** 2 / REPAIR_PATCH**2) @ lights.T
    size = np.sqrt(np.maximum(np.diagonal(alike), np.finfo(float).tiny))
    between = REPAIR_SHARE * (alike / np.outer(size, size) - np.eye(len(mine)))
    return np.asarray(np.transpose(errs) @ between @ np.array(errs))


def with_shared_errors(
    combined: CombinedProfile, covariances: Sequence[Array], common: Array, exposures: Sequence[Mapping[str, Any]]
) -> CombinedProfile:
    """Give a group's mean the covariance that flat field and repairs make between exposures, and its budget.

    Parameters
    ----------
    combined : CombinedProfile
        Of EE profiles.
    covariances : sequence of ndarray, shape (n_radii, n_radii)
        Each exposure's own covariance, in the order of ``combined.names``; it holds the flat field's part of it.
    common : ndarray, shape (n_radii, n_radii)
        The part of it that all share; see `common_covariance`.
    exposures : sequence of mapping
        What their products hold of `SHARED`, as far as it is known, with ``x_center``, ``y_center`` and, where they are
        not on the same pixels of the detector, ``first_pixel``: the row and column of their arrays' first [pix].

    Returns
    -------
    CombinedProfile
        With ``flat_covariance``, ``sky_covariance`` and ``exposure_phase``.

    Notes
    -----
    With the weights w of the mean, a pixel p of the detector has the weight sum_e w_e a_e(p) I_e(p) in it, where a is
    the aperture's and I the count rate. Where the stars stand on other pixels each time this averages down, on the
    same pixels it does not.
    """
    weight = np.where(np.isfinite(combined.exposure_value), combined.exposure_weight, 0.0)
    n, averaged, common = len(combined.radius), np.einsum("ei,ej->ij", weight, weight), np.nan_to_num(common)
    (flat, sky, alone), placed, scale = np.zeros((3, n, n)), [], 0.0
    for own, of in zip(weight, exposures, strict=True):
        if not own.any():
            continue
        if of.get("sky_covariance") is not None:
            sky += np.outer(own, own) * np.nan_to_num(of["sky_covariance"])
        if of.get("stamp_flat_err") is not None:
            sigma, scale = np.nan_to_num(of["stamp_flat_err"].astype(float)), of["flat_err_scale"]
            star = of["x_center"] - of["stamp_x0"], of["y_center"] - of["stamp_y0"]
            reach = own[:, None, None] * aperture_weights(sigma.shape, *star, combined.radius) * sigma
            alone += flat_covariance(reach, np.ones_like(sigma), scale)
            placed.append((reach, np.add((of["stamp_y0"], of["stamp_x0"]), of.get("first_pixel", 0))))
    # one background given for all does not average down
    sky += common * (1 - averaged)
    if placed:
        # their sum on the detector; those that lie apart further than an image is wide stay apart
        start = np.min([at for _, at in placed], axis=0)
        together = np.zeros((n, *(np.max([at + reach.shape[1:] for reach, at in placed], axis=0) - start)))
        for reach, (y, x) in placed:
            cut = together[:, y - start[0] :, x - start[1] :]
            cut[:, : reach.shape[1], : reach.shape[2]] += reach
        flat = flat_covariance(together, np.ones(together.shape[1:]), scale)
        # as if it were the same for any two, less what an exposure's own noise cannot be less than
        extra = np.divide(flat - alone, 1 - averaged, out=np.zeros((n, n)), where=averaged < 1 - 1e-9)
        names, value, flags = combined.names, combined.exposure_value, combined.exposure_flag
        combined = combine_profiles(names, combined.radius, value, covariances, common=common + extra, flags=flags)
    repairs = [[of.get(name) for name in REPAIRS] for of in exposures]
    if sum(err is not None for err, *_ in repairs) > 1:
        between = repair_covariance(weight, repairs) * np.outer(combined.inflation, combined.inflation)
        combined = replace(combined, covariance=combined.covariance + between)
        combined = replace(combined, err_formal=combined.err / combined.inflation)
    phases = np.array([np.zeros(n) if of.get("phase") is None else of["phase"] for of in exposures])
    return replace(combined, flat_covariance=flat, sky_covariance=sky, exposure_phase=phases)


#: how the fields of a profile, its centroid and its background become those of the mean; the others are the first's
_MEANS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("x", "y", "shift", "value", "std", "ring_coverage"), np.mean),
    **dict.fromkeys(("x_err", "y_err", "err"), lambda errs, axis: np.sqrt(np.sum(errs**2, axis=axis)) / len(errs)),
    **dict.fromkeys(("n_bad", "n_repaired", "n_clipped", "n_rejected"), np.max),
    **dict.fromkeys([f"core_{flag}" for flag in ("saturated", "do_not_use", "flagged", "charge_loss")], np.max),
    **dict.fromkeys(("n_used", "npix"), np.min),
}


def combine_integrations(profiles: Sequence[Any]) -> tuple[Any, dict[str, Array]]:
    """Average the profiles of an exposure's integrations.

    Parameters
    ----------
    profiles : sequence of EEProfile or SBProfile
        One for each integration, in order, all with the same radii; those that failed say so.

    Returns
    -------
    profile : EEProfile or SBProfile
        The mean, with its covariance. Position, background, annulus and areas are the means of the integrations';
        counts of bad pixels are those of the worst.
    integrations : dict of str to ndarray
        As the product names it: ``count_rate`` [DN/s] or ``surface_brightness`` [DN/s/pix] of each integration and its
        standard error, shape (n_integrations, n_radii), NaN where an integration could not be measured; ``scatter``,
        the standard deviation (ddof 1) of those averaged, shape (n_radii,), NaN for fewer than two.

    Raises
    ------
    ExposureError
        If no integration was measured.

    Notes
    -----
    The integrations of an exposure are equally long, so all count alike: weights from each one's own noise would
    favour those that scatter low. Their mean covariance is that of each. What they share, the errors of the flat
    field, of the repair and of a background that was given, is not averaged down. From three on, those that are off
    from the others are left out of the mean and of ``scatter``, by radius, with a warning; see `outlier_flags`. Where
    the rest scatter more than chance allows the error grows as in `combine_profiles`.
    """
    good = [k for k, profile in enumerate(profiles) if not profile.failure]
    if not good:
        raise ExposureError(
            f"none of {len(profiles)} integrations could be measured: {profiles[0].failure if profiles else 'none'}"
        )
    used = [profiles[k] for k in good]
    shared = [np.zeros_like(p.covariance) if p.common is None else p.common for p in used]
    # a radius that one could not measure has no covariance; the estimate's own noise may leave less than nothing
    variance, axes = np.linalg.eigh(np.nan_to_num(np.mean(shared, axis=0)))
    common = np.einsum("ik,k,jk->ij", axes, np.maximum(variance, 0.0), axes)
    covariance = np.mean([profile.covariance for profile in used], axis=0)
    name = "count_rate" if isinstance(used[0], EEProfile) else "surface_brightness"
    each, errs = (np.array([getattr(p, key) for p in profiles], dtype=float) for key in (name, f"{name}_err"))
    names, covariances = [f"{k:06d}" for k in good], [covariance] * len(used)
    flags = np.isfinite(each[good]).astype(int)
    if len(good) > 2:
        flags = outlier_flags(used[0].radius, each[good], np.array(covariances) - common, flags)
    combined = combine_profiles(names, used[0].radius, each[good], covariances, common=common, flags=flags)
    warnings = _collected((profile.warnings for profile in used), len(profiles))
    if len(good) < len(profiles):
        lost = [f"{k + 1} ({profiles[k].failure})" for k in range(len(profiles)) if k not in good]
        warnings += (f"{len(lost)} of {len(profiles)} integrations not measured: {'; '.join(lost[:3])}",)
    if (off := np.array(good)[np.any((flags == 0) & np.isfinite(each[good]), axis=1)] + 1).size:
        warnings += (f"{len(off)} of {len(profiles)} integrations are off from the others and left out: {off[:3]}",)
    parts = {part: _mean([getattr(profile, part) for profile in used]) for part in ("centroid", "background")}
    parts |= {name: combined.value, "covariance": combined.covariance, "common": common, "warnings": warnings}
    if name == "count_rate":
        # the area of the integrations that the mean of a radius is of
        parts["area"] = weighted_sum(combined.exposure_weight, np.array([profile.area for profile in used]))
        # each integration has measured its own sky; one that was given is the same in all
        n_skies = 1 if used[0].background.method in ("constant", "none") else len(used)
        if used[0].sky_covariance is not None:
            parts["sky_covariance"] = np.mean([profile.sky_covariance for profile in used], axis=0) / n_skies
        # each integration has compared its own peak with the model image
        parts |= dict.fromkeys(("core_peak", "core_peak_err", "core_sides", "core_sides_err"), np.nan)
    return replace(_mean(used), **parts), {name: each, f"{name}_err": errs, "scatter": combined.scatter}


def _mean(parts: Sequence[Any]) -> Any:
    """Mean of dataclasses: numbers averaged, errors those of the mean, numbers of pixels those of the worst."""
    found: dict[str, Any] = {}
    for name in {field.name for field in fields(parts[0])} & set(_MEANS):
        mean = _MEANS[name](np.array([getattr(part, name) for part in parts]), axis=0)
        found[name] = mean.item() if mean.ndim == 0 else mean
    if getattr(parts[0], "method", "") in ("constant", "none"):
        # a background that was given is the same in all, and so is its error
        found["err"] = parts[0].err
    return replace(parts[0], **found)


def _collected(warnings: Iterable[tuple[str, ...]], n: int) -> tuple[str, ...]:
    """Each warning once, with the number of integrations that have it; those that differ in numbers only are one."""
    found: dict[str, list[str]] = {}
    for several in warnings:
        for warning in dict.fromkeys(several):
            found.setdefault(re.sub(r"[\d.]+", "", warning), []).append(warning)
    return tuple(w[0] if len(w) == n else f"{w[0]} ({len(w)} of {n} integrations)" for w in found.values())
