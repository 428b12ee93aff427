"""The step that measures surface brightness."""

from __future__ import annotations

from dataclasses import fields

from niriss_eestep.measure.exposure_step import ExposureStep
from niriss_eestep.measure.sb import SBOptions, failed_sb, measure_sb
from niriss_eestep.products.convert import sb_profile_model

__all__ = ["SBProfileStep"]


class SBProfileStep(ExposureStep):
    """Measure the surface-brightness profile of a star in one or more exposures.

    Notes
    -----
    Of an exposure given as integrations each is measured, and they are averaged. ``clip_low`` then clips by the noise
    of one integration, and what that moves the mean by is known less well: a `_rate` image is measured better.
    """

    class_alias = "sb_profile"
    product_suffix = "sbprofile"

    spec = """
    suffix = string(default='sbprofile')     # Suffix of the products
    radii = float_list(default=list(5, 9, 13, 17, 21, 25))  # Mid-radii of the annuli [pix]
    half_width = float(default=2.0)          # Half the width of the annuli [pix]
    clip_low = boolean(default=True)         # Leave out pixels below background - low_sigma standard deviations
    low_sigma = float(default=3.0)           # How low that is [standard deviations of the sky annulus]
    core_radius = float(default=5.0)         # Pixels within it are never left out as low [pix]
    background_inner = float(default=20.0)   # Inner radius of the sky annulus [pix]
    background_width = float(default=5.0)    # Width of the sky annulus [pix]
    """

    reference_file_types = ["gain"]  # noqa: RUF012 - stpipe reads the class attribute

    def options(self, parameters):
        """Make the options of the measurement from the parameters."""
        names = [field.name for field in fields(SBOptions)]
        return SBOptions(**{name: parameters[name] for name in names})

    def half_size(self, options):
        """Half the size of the stamp: the outermost annulus and the search for the star [pix]."""
        outer = max(options.background_inner + options.background_width, options.radii[-1] + options.half_width)
        return int(outer + options.search_radius) + 3

    def profile(self, exposure, options, model, references):
        """Measure the stamp."""
        return measure_sb(exposure, options)

    def failed_profile(self, exposure, options, reason):
        """Profile of an exposure that could not be measured."""
        return failed_sb(exposure, options, reason)

    def product(self, profile, model):
        """Make the data model of a profile."""
        return sb_profile_model(profile, model)
