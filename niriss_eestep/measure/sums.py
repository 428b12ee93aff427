"""Weighted sums over pixels and their covariance, the same to the bit whatever the number of BLAS threads.

A threaded BLAS adds the parts of a long sum in an order that depends on its number of threads, so that a laptop and a
worker process would differ in the last digits. numpy's own loops have one order; for a dozen apertures they take a
fraction of a millisecond.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["covariance_of_sums", "weighted_sums"]


def weighted_sums(weights: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of weights times values, for each row of weights.

    Parameters
    ----------
    weights : ndarray, shape (n_sums, n_pixels)
    values : ndarray, shape (n_pixels,)

    Returns
    -------
    ndarray, shape (n_sums,)
    """
    return np.einsum("ip,p->i", weights, values)


def covariance_of_sums(weights: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Covariance of `weighted_sums` of independent pixels: sum of w_i w_j var.

    Parameters
    ----------
    weights : ndarray, shape (n_sums, n_pixels)
    variance : ndarray, shape (n_pixels,)

    Returns
    -------
    ndarray, shape (n_sums, n_sums)
    """
    return np.einsum("ip,jp->ij", weights * variance, weights)
