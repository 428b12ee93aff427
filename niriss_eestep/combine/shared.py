"""What the exposures of a group share: the flat field's errors, as far as their stars stand on the same pixels."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from niriss_eestep.arrays import Array
from niriss_eestep.combine.mean import CombinedProfile, combine_profiles, common_covariance
from niriss_eestep.measure.geometry import aperture_weights
from niriss_eestep.measure.noise import flat_covariance
from niriss_eestep.measure.profile import EEProfile


def with_shared_errors(
    combined: CombinedProfile, profiles: Sequence[EEProfile], corners: Sequence[tuple[int, int]]
) -> CombinedProfile:
    """Give a group's mean the covariance that the flat field makes between exposures, and its budget.

    Parameters
    ----------
    combined : CombinedProfile
        Of EE profiles; each exposure's own covariance holds the flat field's part of it.
    profiles : sequence of EEProfile
        In the order of ``combined.names``.
    corners : sequence of (int, int)
        Position (x, y) of the first pixel of each exposure's array on the detector [pix].

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
    n = len(combined.radius)
    flat, sky, alone, placed = np.zeros((n, n)), np.zeros((n, n)), np.zeros((n, n)), []
    for own, profile, corner in zip(weight, profiles, corners, strict=True):
        if not own.any():
            continue
        if profile.sky_covariance is not None:
            sky += np.outer(own, own) * np.nan_to_num(profile.sky_covariance)
        pixels = profile.pixels
        if pixels is not None and pixels.flat_err is not None:
            sigma = np.nan_to_num(pixels.flat_err.astype(float))
            x, y = profile.centroid.x - pixels.x_origin, profile.centroid.y - pixels.y_origin
            reach = own[:, None, None] * aperture_weights(sigma.shape, x, y, profile.radius) * sigma
            alone += flat_covariance(reach, np.ones_like(sigma), pixels.flat_scale)
            placed.append((reach, pixels.x_origin + corner[0], pixels.y_origin + corner[1], pixels.flat_scale))
    if placed:
        together = _on_detector(placed)
        flat = flat_covariance(together, np.ones(together.shape[1:]), placed[0][3])
    # one background given for all does not average down
    sky += np.nan_to_num(common_covariance(profiles)) * (1 - np.einsum("ei,ej->ij", weight, weight))
    if placed:
        # as if it were the same for any two, less what an exposure's own noise cannot be less than
        averaged = np.einsum("ei,ej->ij", weight, weight)
        extra = np.divide(flat - alone, 1 - averaged, out=np.zeros((n, n)), where=averaged < 1 - 1e-9)
        combined = combine_profiles(
            combined.names,
            combined.radius,
            list(combined.exposure_value),
            [profile.covariance for profile in profiles],
            common=np.nan_to_num(common_covariance(profiles)) + extra,
            flags=combined.exposure_flag,
        )
    phases = [np.zeros(n) if profile.phase is None else profile.phase for profile in profiles]
    return replace(combined, flat_covariance=flat, sky_covariance=sky, exposure_phase=np.array(phases))


def _on_detector(placed: list[tuple[Array, int, int, float]]) -> Array:
    """Sum of images on the detector's pixels; those that lie apart further than an image is wide stay apart."""
    x0, y0 = min(x for _, x, _, _ in placed), min(y for _, _, y, _ in placed)
    x1 = max(x + image.shape[2] for image, x, _, _ in placed)
    y1 = max(y + image.shape[1] for image, _, y, _ in placed)
    total = np.zeros((len(placed[0][0]), y1 - y0, x1 - x0))
    for image, x, y, _ in placed:
        total[:, y - y0 : y - y0 + image.shape[1], x - x0 : x - x0 + image.shape[2]] += image
    return total
