"""The profile of an exposure from those of its integrations."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np

from niriss_eestep.arrays import Array
from niriss_eestep.combine.mean import combine_profiles, weighted_sum
from niriss_eestep.errors import ExposureError
from niriss_eestep.measure.profile import CoreReport, EEProfile, SBProfile


def _err_of_mean(errs: Array, axis: int) -> Array:
    """Standard error of a mean of independent numbers."""
    return np.asarray(np.sqrt(np.sum(errs**2, axis=axis)) / len(errs))


#: how the fields of a profile, its centroid and its background become those of the mean; the others are the first's
_MEANS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("x", "y", "shift", "value", "std", "ring_coverage"), np.mean),
    **dict.fromkeys(("x_err", "y_err", "err"), _err_of_mean),
    **dict.fromkeys(("n_bad", "n_repaired", "n_clipped", "n_rejected"), np.max),
    **dict.fromkeys(("n_used", "npix"), np.min),
}

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
    parts = {part: _mean([getattr(profile, part) for profile in used]) for part in ("centroid", "background")}
    parts |= {name: combined.value, "covariance": combined.covariance, "common": common, "warnings": warnings}
    if name == "count_rate":
        # the area of the integrations that the mean of a radius is of, and the flagged pixels of the worst
        curves: Sequence[Any] = used
        parts["area"] = weighted_sum(combined.exposure_weight, np.array([profile.area for profile in curves]))
        parts["core"] = CoreReport(*np.max([astuple(profile.core)[:4] for profile in curves], axis=0).tolist())
    return replace(_mean(used), **parts), Integrations(each, errs, combined.scatter)


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


def _common_covariance(used: Sequence[Profile]) -> Array:
    """Mean of what each integration says that all share."""
    parts = [np.zeros_like(p.covariance) if p.common is None else p.common for p in used]
    # a radius that one could not measure has no covariance at all
    mean = np.nan_to_num(np.mean(parts, axis=0))
    # the estimate's own noise may leave less than nothing, which no variance is
    variance, axes = np.linalg.eigh(mean)
    return np.einsum("ik,k,jk->ij", axes, np.maximum(variance, 0.0), axes)


def _collected(warnings: Iterable[tuple[str, ...]], n: int) -> tuple[str, ...]:
    """Each warning once, with the number of integrations that have it; those that differ in numbers only are one."""
    found: dict[str, list[str]] = {}
    for several in warnings:
        for warning in dict.fromkeys(several):
            found.setdefault(re.sub(r"[\d.]+", "", warning), []).append(warning)
    return tuple(w[0] if len(w) == n else f"{w[0]} ({len(w)} of {n} integrations)" for w in found.values())
