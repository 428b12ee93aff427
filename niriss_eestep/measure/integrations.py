"""The profile of an exposure from those of its integrations."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np

from niriss_eestep.arrays import Array
from niriss_eestep.combine.mean import CombinedProfile, combine_profiles, weighted_sum
from niriss_eestep.errors import ExposureError
from niriss_eestep.measure.background import Background
from niriss_eestep.measure.position import Centroid
from niriss_eestep.measure.profile import CoreReport, EEProfile, SBProfile

#: numbers of pixels, of which the worst is kept
_WORST: dict[str, Any] = {"n_bad": np.max, "n_repaired": np.max, "n_used": np.min, "n_clipped": np.max}

Profile = TypeVar("Profile", EEProfile, SBProfile)


@dataclass(frozen=True, slots=True, eq=False)
class Integrations:
    """The profiles of an exposure's integrations.

    Parameters
    ----------
    value, err : ndarray, shape (n_integrations, n_radii)
        Each integration's profile, EE [DN/s] or SB [DN/s/pix], and its standard error; NaN where an integration could
        not be measured.
    scatter : ndarray, shape (n_radii,)
        Standard deviation (ddof 1) of the integrations; NaN for fewer than two.
    """

    value: Array
    err: Array
    scatter: Array


def combine_integrations(profiles: Sequence[Profile]) -> tuple[Profile, Integrations]:
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
    integrations : Integrations

    Raises
    ------
    ExposureError
        If no integration was measured.

    Notes
    -----
    The integrations of an exposure are equally long, so all count alike: weights from each one's own noise would
    favour those that scatter low. Their mean covariance is that of each. What they share, the errors of the flat
    field, of the repair and of a background that was given, is not averaged down. Where they scatter more than chance
    allows the error grows as in `combine_profiles`.
    """
    good = [k for k, profile in enumerate(profiles) if not profile.failure]
    if not good:
        raise ExposureError(
            f"none of {len(profiles)} integrations could be measured: {profiles[0].failure if profiles else 'none'}"
        )
    used = [profiles[k] for k in good]
    covariance, common = np.mean([profile.covariance for profile in used], axis=0), _common_covariance(used)
    name = "count_rate" if isinstance(used[0], EEProfile) else "surface_brightness"
    values = [getattr(profile, name) for profile in used]
    names = [f"{k:06d}" for k in good]
    combined = combine_profiles(names, used[0].radius, values, [covariance] * len(used), common=common)
    warnings = _collected((profile.warnings for profile in used), len(profiles))
    if len(good) < len(profiles):
        lost = [f"{k + 1} ({profiles[k].failure})" for k in range(len(profiles)) if k not in good]
        warnings += (f"{len(lost)} of {len(profiles)} integrations not measured: {'; '.join(lost[:3])}",)
    each, errs = (np.array([getattr(p, key) for p in profiles], dtype=float) for key in (name, f"{name}_err"))
    mean = _mean_profile(used, combined, warnings=warnings, common=common, **{name: combined.value})
    return mean, Integrations(each, errs, combined.scatter)


def _mean_profile(used: Sequence[Profile], combined: CombinedProfile, **shared: Any) -> Profile:
    """The first profile with the mean's numbers in the place of its own."""
    first = used[0]
    shared["covariance"] = combined.covariance
    shared["centroid"] = _mean_centroid([profile.centroid for profile in used])
    shared["background"] = _mean_background([profile.background for profile in used])
    for name, worst in _WORST.items():
        if hasattr(first, name):
            shared[name] = worst([getattr(profile, name) for profile in used], axis=0)
    if isinstance(first, EEProfile):
        cores = [profile.core for profile in used if isinstance(profile, EEProfile)]
        worst_core = [max(getattr(core, each.name) for core in cores) for each in fields(CoreReport)[:4]]
        shared["core"] = CoreReport(*worst_core)
        # of the integrations that the mean of a radius is of
        shared["area"] = weighted_sum(combined.exposure_weight, np.array([profile.area for profile in used]))
    return replace(first, **shared)


def _common_covariance(used: Sequence[Profile]) -> Array:
    """Mean of what each integration says that all share."""
    parts = [np.zeros_like(p.covariance) if p.common is None else p.common for p in used]
    # a radius that one could not measure has no covariance at all
    mean = np.nan_to_num(np.mean(parts, axis=0))
    # the estimate's own noise may leave less than nothing, which no variance is
    variance, axes = np.linalg.eigh(mean)
    return np.einsum("ik,k,jk->ij", axes, np.maximum(variance, 0.0), axes)


def _mean_centroid(centroids: Sequence[Centroid]) -> Centroid:
    """Mean position, with the mean's error."""
    n = len(centroids)
    x, y, shift = (float(np.mean([getattr(c, key) for c in centroids])) for key in ("x", "y", "shift"))
    x_err, y_err = (float(np.sqrt(np.sum([getattr(c, key) ** 2 for c in centroids])) / n) for key in ("x_err", "y_err"))
    return replace(centroids[0], x=x, y=y, x_err=x_err, y_err=y_err, shift=shift)


def _mean_background(backgrounds: Sequence[Background]) -> Background:
    """Mean background, with the mean's error; pixels and outliers of the worst integration."""
    n = len(backgrounds)
    err = float(np.sqrt(np.sum([b.err**2 for b in backgrounds])) / n)
    value, std, coverage = (
        np.mean([getattr(b, k) for b in backgrounds], axis=0) for k in ("value", "std", "ring_coverage")
    )
    # a background that was given is the same in all, and so is its error
    err = err if backgrounds[0].method == "annulus" else backgrounds[0].err
    npix, n_rejected = min(b.npix for b in backgrounds), max(b.n_rejected for b in backgrounds)
    return replace(
        backgrounds[0], value=float(value), err=err, std=float(std), npix=npix, n_rejected=n_rejected,
        ring_coverage=coverage,
    )  # fmt: skip


def _collected(warnings: Iterable[tuple[str, ...]], n: int) -> tuple[str, ...]:
    """Each warning once, with the number of integrations that have it; those that differ in numbers only are one."""
    found: dict[str, list[str]] = {}
    for several in warnings:
        for warning in dict.fromkeys(several):
            found.setdefault(re.sub(r"[\d.]+", "", warning), []).append(warning)
    return tuple(w[0] if len(w) == n else f"{w[0]} ({len(w)} of {n} integrations)" for w in found.values())
