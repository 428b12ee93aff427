"""Measurements on images whose pixels are not the detector's.

Radii are in detector pixels everywhere: those of the aperture correction are. An image resampled to other pixels is
measured with radii scaled to its pixels, and the profile is scaled back.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from niriss_eestep.errors import ParameterError
from niriss_eestep.measure.options import EEOptions, SBOptions
from niriss_eestep.measure.profile import EEProfile, SBProfile

_LENGTHS = {
    EEOptions: ("background_skip", "background_width", "core_radius", "search_radius", "max_shift"),
    SBOptions: ("half_width", "core_radius", "background_inner", "background_width", "search_radius"),
}


def image_options(options: EEOptions | SBOptions, scale: float) -> EEOptions | SBOptions:
    """Scale the options of a measurement to the pixels of a resampled image.

    Parameters
    ----------
    options : EEOptions or SBOptions
        In detector pixels.
    scale : float
        Side of the image's pixels over that of the detector's.

    Returns
    -------
    EEOptions or SBOptions

    Raises
    ------
    ParameterError
        If the bad pixels are to be repaired by the model PSF, which is that of detector pixels.
    """
    changes: dict[str, Any] = {name: getattr(options, name) / scale for name in _LENGTHS[type(options)]}
    # the nearest odd number
    changes["centroid_box"] = max(3, 2 * round((options.centroid_box / scale - 1) / 2) + 1)
    changes["radii"] = tuple(radius / scale for radius in options.radii)
    if isinstance(options, EEOptions):
        if options.bad_pixel_method == "psf":
            raise ParameterError(
                "the model PSF has detector pixels: repair a resampled image by bad_pixel_method=surface or median"
            )
        # the model PSF has detector pixels; other values are given per detector pixel
        changes["repair_core"] = False
        changes["background_value"] = options.background_value * scale**2
        changes["background_value_err"] = options.background_value_err * scale**2
    return replace(options, **changes)


def native_profile(
    profile: EEProfile | SBProfile, options: EEOptions | SBOptions, scale: float
) -> EEProfile | SBProfile:
    """Scale a profile measured on a resampled image to detector pixels.

    Parameters
    ----------
    profile : EEProfile or SBProfile
        In the image's pixels.
    options : EEOptions or SBOptions
        Of the measurement, in detector pixels.
    scale : float
        Side of the image's pixels over that of the detector's.

    Returns
    -------
    EEProfile or SBProfile
        In detector pixels, but for the centroid, which is a position in the image.
    """
    background = profile.background
    rates = {name: getattr(background, name) / scale**2 for name in ("value", "err", "std", "dark")}
    lengths = {name: getattr(background, name) * scale for name in ("r_in", "r_out", "ring_edges")}
    # radii as they were asked for, to the last bit: groups are combined by them; a resampled image has no integrations
    # to share anything
    profile = replace(
        profile, radius=np.array(options.radii, dtype=float), background=replace(background, **rates, **lengths),
        pixel_scale=profile.pixel_scale / scale, common=None,
    )  # fmt: skip
    if isinstance(profile, EEProfile):
        # the map of the pixels is the image's own
        return replace(profile, area=profile.area * scale**2, pixels=None)
    brightness, covariance = profile.surface_brightness / scale**2, profile.covariance / scale**4
    return replace(profile, half_width=profile.half_width * scale, surface_brightness=brightness, covariance=covariance)
