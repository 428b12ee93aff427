"""The average over the dithers of a group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CombinedProfile"]


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
        Formal covariance of ``value``, times the squared ``inflation`` of either radius.
    err_formal : ndarray, shape (n_radii,)
        Standard error from the exposures' own errors alone.
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

    @property
    def err(self) -> NDArray[np.float64]:
        """Standard error of ``value``, honouring the scatter."""
        return np.sqrt(np.diagonal(self.covariance))
