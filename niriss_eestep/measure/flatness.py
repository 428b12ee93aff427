"""Is the sky flat? A gradient and a curvature, fitted to the sky pixels beyond the star's wing.

The annulus gives the sky at its own radius. Where the sky is curved the star stands on less, or more: a curvature of
5e-4 of the sky per pix^2 is a quarter of the sky between the star and an annulus at 20 to 25 pix.
"""

from dataclasses import dataclass, replace

import numpy as np
import scipy

from niriss_eestep.arrays import Array, Mask

#: the sky is taken as flat where chance alone makes such a fit this often (2.5 standard deviations of one number). The
#: correction's error is a fifth of a faint star's, so that one that chance asks for does no harm
_PROBABILITY = 0.0124
#: relative error of a model PSF's wing, which a fit takes for curvature
_WING_ERROR = 0.2
#: length in which the fit is done [pix]; of no effect
_UNIT = 25.0
#: 1, x, y, r^2, x^2 - y^2, xy
N_TERMS = 6


@dataclass(frozen=True, slots=True, eq=False)
class SkyShape:
    """Gradient and curvature of the sky about the star, as weighted sums of pixels.

    Parameters
    ----------
    terms : ndarray, shape (n_terms, ny, nx)
        Shapes of the sky: 1, x, y, r^2, x^2 - y^2, xy, from the star, in units of 25 pix.
    weights : ndarray, shape (n_terms, ny, nx)
        ``coefficient`` is the sum of weights times residual.
    coefficient : ndarray, shape (n_terms,)
        [DN/s/pix].
    covariance : ndarray, shape (n_terms, n_terms)
        Of the coefficients: of the pixels' noise, and of the star's wing [(DN/s/pix)^2].
    wing : ndarray, shape (n_terms,)
        What an error of the star's wing adds to the coefficients: part of ``covariance`` [DN/s/pix].
    chance : float
        How often noise alone makes as much of a shape in a flat sky.
    """

    terms: Array
    weights: Array
    coefficient: Array
    covariance: Array
    wing: Array
    chance: float = 1.0

    @property
    def is_needed(self) -> bool:
        """Whether the sky's shape stands out."""
        return self.chance < _PROBABILITY

    @property
    def image(self) -> Array:
        """The fitted sky [DN/s/pix], shape (ny, nx)."""
        return np.einsum("k,kyx->yx", self.coefficient, self.terms)

    @property
    def curvature(self) -> tuple[float, float]:
        """Coefficient of r^2 and its standard error [DN/s/pix per pix^2]."""
        return self.coefficient[3] / _UNIT**2, float(np.sqrt(self.covariance[3, 3])) / _UNIT**2


def fit_sky(residual: Array, use: Mask, x: float, y: float, r_min: float) -> SkyShape | None:
    """Fit the shape of the sky.

    Parameters
    ----------
    residual : ndarray, shape (ny, nx)
        Count rates less the background and a model of the star [DN/s].
    use : ndarray of bool, shape (ny, nx)
        Sky pixels.
    x, y : float
        The star [pix].
    r_min : float
        Pixels nearer to the star than this are not used [pix].

    Returns
    -------
    SkyShape or None
        Without errors as yet. None where fewer than a hundred pixels determine it, or they lie on one side.
    """
    v, u = (np.arange(residual.shape[0])[:, None] - y) / _UNIT, (np.arange(residual.shape[1])[None, :] - x) / _UNIT
    v, u = np.broadcast_arrays(v, u)
    use = use & (u**2 + v**2 > (r_min / _UNIT) ** 2)
    terms = np.array([np.ones_like(u), u, v, u**2 + v**2, u**2 - v**2, u * v])
    seen = terms[:, use]
    matrix = np.einsum("ip,jp->ij", seen, seen)
    if use.sum() < 100 or np.linalg.cond(matrix) > 1e6:
        return None
    weights = np.zeros_like(terms)
    weights[:, use] = np.einsum("ij,jp->ip", np.linalg.inv(matrix), seen)
    coefficient = np.einsum("kp,p->k", weights[:, use], residual[use])
    return SkyShape(terms, weights, coefficient, np.zeros((N_TERMS, N_TERMS)), np.zeros(N_TERMS))


def judged(shape: SkyShape, light: Array, noise: Array) -> SkyShape:
    """Test whether the sky is flat.

    Parameters
    ----------
    shape : SkyShape
        From `fit_sky`.
    light : ndarray, shape (ny, nx)
        Model of the star's light, of which a fifth may be wrong [DN/s].
    noise : ndarray, shape (n_terms, n_terms)
        Covariance of the coefficients, from the noise of the pixels.

    Returns
    -------
    SkyShape
        With errors and verdict.
    """
    wing = _WING_ERROR * np.einsum("kyx,yx->k", shape.weights, light)
    covariance = noise + np.outer(wing, wing)
    asked, variance = shape.coefficient[1:], np.diagonal(covariance)[1:]
    if not np.all(variance > 0):
        return replace(shape, covariance=covariance, wing=wing)
    # pixels without noise may leave the matrix singular
    chi2 = float(asked @ np.linalg.pinv(covariance[1:, 1:], hermitian=True) @ asked)
    # r^2 alone moves the sky under the star; the others do so where the annulus is not complete
    chances = scipy.special.chdtrc([len(asked), 1], [chi2, asked[2] ** 2 / variance[2]])
    return replace(shape, covariance=covariance, wing=wing, chance=float(chances.min()))
