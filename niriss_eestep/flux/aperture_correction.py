"""Aperture correction consistent with the sky annulus.

The annulus in which the sky is measured holds starlight, and subtracting the annulus's mean takes

    EE_eff(r) = EE(r) - A(r) * sum_k c_k (EE(r_k+1) - EE(r_k)) / sum_k c_k a_k

of the star's light from an aperture of area A(r), where ring k of the annulus, between r_k and r_k+1, has the area
a_k, and the fraction c_k of it was used. With all of the annulus used this is the familiar
EE(r) - pi r^2 (EE(r_out) - EE(r_in)) / (pi (r_out^2 - r_in^2)).
"""

from collections.abc import Callable

import numpy as np

from niriss_eestep.arrays import Array
from niriss_eestep.errors import ParameterError

Curve = Callable[[Array], Array]


def annulus_light(curve: Curve, ring_edges: Array, ring_coverage: Array) -> float | Array:
    """Mean fraction of the star's light per pixel in the part of an annulus that was used.

    Parameters
    ----------
    curve : callable
        EE of the PSF at radii [pix], 1 at infinity; or several curves, shape (n, n_curves).
    ring_edges : ndarray, shape (n_rings + 1,)
        [pix]; empty where the background does not come from an annulus.
    ring_coverage : ndarray, shape (n_rings,)
        Fraction of each ring that was used.

    Returns
    -------
    float, or ndarray of shape (n_curves,)
        [1/pix].

    Raises
    ------
    ParameterError
        If no part of the annulus was used.
    """
    if len(ring_edges) == 0:
        return 0.0
    area = np.pi * np.diff(np.square(ring_edges))
    used = float(np.sum(ring_coverage * area))
    if not used > 0:
        raise ParameterError(f"no part of the sky annulus from {ring_edges[0]:g} to {ring_edges[-1]:g} pix was used")
    light = np.asarray(ring_coverage) @ np.diff(curve(np.asarray(ring_edges)), axis=0) / used
    return light if np.ndim(light) else float(light)


def effective_ee(curve: Curve, radius: Array, area: Array, ring_edges: Array, ring_coverage: Array) -> Array:
    """Fraction of the star's light that remains in apertures after the annulus's mean is subtracted.

    Parameters
    ----------
    curve : callable
        EE of the PSF at radii [pix]; 1 at infinity.
    radius, area : ndarray, shape (n_radii,)
        Radii [pix] and areas on the image [pix] of the apertures.
    ring_edges, ring_coverage : ndarray
        As in `annulus_light`.

    Returns
    -------
    ndarray, shape (n_radii,) or (n_radii, n_curves)
    """
    if len(ring_edges) == 0:
        return curve(radius)
    return curve(radius) - np.multiply.outer(area, annulus_light(curve, ring_edges, ring_coverage))
