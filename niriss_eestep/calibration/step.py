"""The step that turns the absolute fluxes of many visits into the standard pipeline's reference files."""

from __future__ import annotations

import logging

from niriss_eestep.calibration.crds_files import save_reference
from niriss_eestep.calibration.table import read_visits, reference_models
from niriss_eestep.calibration.visits import combine_visits
from niriss_eestep.errors import ProductError
from niriss_eestep.exposures.inputs import exposure_root, gather
from niriss_eestep.pipeline.base import FluxStep

__all__ = ["CalibrateVisitsStep"]

log = logging.getLogger(__name__)

OF_THE_FILES = ("author", "pedigree", "useafter", "convention", "fill_missing", "sky_inner", "sky_outer")


class CalibrateVisitsStep(FluxStep):
    """Combine stars, epochs and subarrays into calibration factors, and make `photom` and `apcorr` reference files."""

    class_alias = "calibrate_visits"

    spec = """
    output_ext = string(default='.fits')     # Reference files are FITS
    clip_sigma = float(default=3.0)          # Leave out visits beyond this many standard deviations
    delta_bic = float(default=10.0)          # Fall of the Bayesian information criterion asked for before a time dependence is taken
    convention = option('band', 'mono', default='band')  # F_nu of the photom file: mean over the band, or monochromatic at the pivot wavelength
    fill_missing = boolean(default=False)    # Take filters without visits from the calibration of August 2022
    sky_inner = float(default=30.0)          # Inner radius of the sky annulus of the apcorr file [pix]
    sky_outer = float(default=40.0)          # Its outer radius [pix]
    author = string(default='niriss_eestep')  # AUTHOR of the reference files
    pedigree = string(default=None)          # PEDIGREE; None: INFLIGHT and the dates of the visits
    useafter = string(default=None)          # USEAFTER, yyyy-mm-ddThh:mm:ss; None: the date of the first visit
    """  # noqa: E501 - stpipe takes one line per parameter

    reference_file_types = ["psfee"]  # noqa: RUF012 - stpipe reads the class attribute

    def process(self, *inputs):
        """Calibrate.

        Parameters
        ----------
        *inputs : products of `AbsFluxStep`: files, models, associations or lists of these

        Returns
        -------
        list of (NisImgPhotomModel or NisImgApcorrModel)
            The two reference files: of each product of an association, under its name; of all loose inputs, under that
            of ``output_file``, else ``niriss``.

        Raises
        ------
        NirissEEError
            If an input is no absolute flux, no visit can be used, or a parameter has no such value.
        """
        products = gather(inputs, input_dir=self.search_attr("input_dir"), distinct=False)
        if not products:
            raise ProductError("no visits: give at least one absolute-flux product (*_absflux.asdf)")
        results = []
        for product in products:
            name = product.name or exposure_root(self.output_file or "niriss")
            for model in self.calibrate([self.open_member(member) for member in product.members]):
                model.meta.filename = f"{name}_{model.meta.reftype.lower()}.fits"
                results.append(model)
        return results

    def calibrate(self, visits):
        """Make the reference files of some visits.

        Parameters
        ----------
        visits : list of AbsFluxModel

        Returns
        -------
        photom : NisImgPhotomModel
        apcorr : NisImgApcorrModel
        """
        table = read_visits(visits)
        parameters = self.parameters_for(visits[0])
        calibration = combine_visits(table, clip_sigma=parameters["clip_sigma"], delta_bic=parameters["delta_bic"])
        for row, reason in zip(table, calibration.reason, strict=True):
            if reason:
                log.warning("%s %s %s: not used: %s", row["product"], row["filter"], row["subarray"], reason)
        for factor in calibration.factors:
            values = factor.filter, factor.photmjsr, factor.photmjsr_err, factor.n_visits, factor.time.status
            log.info("%s: PHOTMJSR %.5f +- %.5f from %d visits; time dependence: %s", *values)
        chosen = {name: parameters[name] for name in OF_THE_FILES}
        return reference_models(table, calibration, self._psfee(visits[0]), **chosen)

    def _psfee(self, visit):
        """Encircled energy that the aperture corrections come from."""
        from niriss_eestep.reference import load_psfee

        return load_psfee(self.get_reference_file(visit, "psfee"))

    def save_model(self, model, suffix=None, idx=None, output_file=None, force=False, **components):
        """Write a reference file under its own name, whole or not at all; see `stpipe.Step.save_model`."""
        if not (self.save_results or force):
            return None
        path = self.make_output_path(basepath=output_file or model.meta.filename, suffix=False)
        save_reference(model, path)
        log.info("Saved model in %s", path)
        return path
