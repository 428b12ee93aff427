"""The step that measures encircled energy."""

from __future__ import annotations

from dataclasses import fields
from functools import partial

from niriss_eestep.exposures.cut import check_exposure
from niriss_eestep.measure.ee import EEOptions, failed_ee, measure_ee
from niriss_eestep.measure.exposure_step import ExposureStep
from niriss_eestep.measure.psf_model import PSFModel
from niriss_eestep.measure.repair import BOX
from niriss_eestep.products.convert import ee_profile_model

__all__ = ["EEPhotometryStep"]


class EEPhotometryStep(ExposureStep):
    """Measure the encircled energy of a star in one or more exposures."""

    class_alias = "ee_photometry"
    product_suffix = "eeprofile"

    spec = """
    suffix = string(default='eeprofile')     # Suffix of the products
    radii = float_list(default=list(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15))  # Aperture radii [pix]
    background_skip = float(default=5.0)     # Sky annulus begins this far beyond the largest radius [pix]
    background_width = float(default=5.0)    # Width of the sky annulus [pix]
    background_method = option('annulus', 'constant', 'none', default='annulus')  # Where the background comes from
    background_value = float(default=0.0)    # The constant background [DN/s/pix]
    background_value_err = float(default=0.0)  # Its standard error [DN/s/pix]
    bad_pixel_method = option('surface', 'median', 'psf', 'none', default='surface')  # Repair of bad pixels outside the core
    repair_low = boolean(default=False)      # Repair pixels below background - low_sigma standard deviations too
    low_sigma = float(default=3.0)           # How low that is [standard deviations of the annulus]
    repair_core = boolean(default=False)     # Let a model PSF replace bad pixels in the core
    core_radius = float(default=5.0)         # Radius of the core [pix]
    max_shift = float(default=3.0)           # Warn of a centroid further from the first position [pix]
    """  # noqa: E501 - stpipe takes one line per parameter

    reference_file_types = ["gain", "psfee", "psfimages"]  # noqa: RUF012 - stpipe reads the class attribute

    def options(self, parameters):
        """Make the options of the measurement from the parameters."""
        names = [field.name for field in fields(EEOptions)]
        return EEOptions(**{name: parameters[name] for name in names})

    def half_size(self, options):
        """Half the size of the stamp: the annulus, the search for the star, and the repair of its edge [pix]."""
        return int(options.sky_radii[1] + options.search_radius + BOX // 2) + 2

    def find_references(self, model, parameters):
        """Find the gain and, where a model PSF repairs pixels, the PSF images; see `ExposureStep`."""
        found = super().find_references(model, parameters)
        if parameters["bad_pixel_method"] == "psf" or parameters["repair_core"]:
            found["psfimages"] = self.get_reference_file(model, "psfimages")
            if found["psfimages"] is None:
                self.note_reference("psfimages", "packaged niriss_psf_images.asdf")
        if parameters["repair_core"]:
            found["psfee"] = self.get_reference_file(model, "psfee")
            if found["psfee"] is None:
                self.note_reference("psfee", "packaged niriss_psfee.asdf")
        return found

    def get_ref_override(self, reference_file_type):
        """Return the override of a reference; the EE of the PSF may be overridden for the aperture correction alone."""
        override = super().get_ref_override(reference_file_type)
        if override is None and reference_file_type == "psfee" and hasattr(self.parent, "abs_flux"):
            return self.parent.abs_flux.get_ref_override(reference_file_type)
        return override

    def profile(self, exposure, options, model, references):
        """Measure the stamp."""
        render = self._model_psf(exposure, model, references)
        return measure_ee(exposure, options, PSFModel(render, *self._effective_ee(exposure, model, references)))

    def _effective_ee(self, exposure, model, references):
        """Effective EE, which holds a repaired core to the curve of growth, and its error; None where it is not."""
        if "psfee" not in references or model.meta.instrument.pupil == "NRM":
            return None, None
        from niriss_eestep.flux.aperture_correction import effective_ee
        from niriss_eestep.reference import load_psfee

        name = check_exposure(exposure.name, model.meta)
        psfee = load_psfee(references["psfee"])
        return partial(effective_ee, partial(psfee.ee, name)), partial(psfee.ee_err, name)

    def _model_psf(self, exposure, model, references):
        """Renderer of the exposure's PSF; None where no method asks for it, and for the NRM."""
        if "psfimages" not in references or model.meta.instrument.pupil == "NRM":
            return None
        from niriss_eestep.reference import load_psf_images

        name = check_exposure(exposure.name, model.meta)
        return load_psf_images(references["psfimages"])[name].render

    def failed_profile(self, exposure, options, reason):
        """Profile of an exposure that could not be measured."""
        return failed_ee(exposure, options, reason)

    def product(self, profile, model):
        """Make the data model of a profile."""
        return ee_profile_model(profile, model)
