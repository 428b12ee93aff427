"""The step that turns the absolute fluxes of many visits into the standard pipeline's reference files."""

import logging
from dataclasses import replace

from niriss_eestep.calibration import table as visit_tables
from niriss_eestep.calibration.crds_files import save_reference
from niriss_eestep.calibration.effects import OUTLIER, calibrate
from niriss_eestep.errors import ProductError
from niriss_eestep.exposures.inputs import exposure_root, gather, open_exposure
from niriss_eestep.pipeline.base import FluxStep

log = logging.getLogger(__name__)


class CalibrateVisitsStep(FluxStep):
    """Combine stars, epochs and subarrays into calibration factors, and make `photom` and `apcorr` reference files."""

    class_alias = "calibrate_visits"

    spec = """
    output_ext = string(default='.fits')     # Reference files are FITS
    reference_subarray = string(default=None)  # Subarray for which the factors hold; None: FULL where it was used, else the one with most visits
    keep_all = boolean(default=False)        # Keep visits that are outliers
    observed_ee = list(default=list())       # Combined EE products to splice with the PSF's EE
    join_radius = float(default=None)        # Where to splice [pix]; None: by signal-to-noise
    convention = option('band', 'mono', default='band')  # F_nu of the photom file: mean over the band, or monochromatic at the pivot wavelength
    fill_missing = boolean(default=False)    # Take filters without visits from the calibration of August 2022
    sky_inner = float(default=30.0)          # Inner radius of the sky annulus of the apcorr file [pix]
    sky_outer = float(default=40.0)          # Its outer radius [pix]
    author = string(default='niriss_eestep')  # AUTHOR of the reference files
    pedigree = string(default=None)          # PEDIGREE; None: INFLIGHT and the dates of the visits
    useafter = string(default=None)          # USEAFTER, yyyy-mm-ddThh:mm:ss; None: the date of the first visit
    """  # noqa: E501 - stpipe takes one line per parameter

    #: tables and result of the last calibration
    tables = None
    calibration = None

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
            If an input is not an absolute-flux product, no visit can be used, or a parameter cannot have its value.
        """
        products = gather(inputs, input_dir=self.search_attr("input_dir"), distinct=False)
        if not products:
            raise ProductError("no visits: give at least one absolute-flux product (*_absflux.asdf)")
        results = []
        for product in products:
            name = product.name or exposure_root(self.output_file or "niriss")
            for model in self.calibrate([open_exposure(member.source) for member in product.members]):
                model.meta.filename = f"{name}_{model.meta.reftype.lower()}.fits"
                results.append(model)
        return results

    def calibrate(self, visits):
        """Calibrate some visits and make their reference files.

        Parameters
        ----------
        visits : list of AbsFluxModel, str or Path

        Returns
        -------
        list of (NisImgPhotomModel or NisImgApcorrModel)
            Without photom file where the visits give no flux densities.
        """
        table = visit_tables.read_visits(visits)
        first = visits[0] if hasattr(visits[0], "get_crds_parameters") else None
        parameters = self.parameters_for(first if first is not None else {"meta.instrument.name": "NIRISS"})
        usable, index, reason = visit_tables.usable_visits(table, keep_all=parameters["keep_all"])
        outlier = 0.0 if parameters["keep_all"] else OUTLIER
        calibration = calibrate(usable, reference=parameters["reference_subarray"], outlier=outlier)
        calibration = replace(
            calibration, messages=(*calibration.messages, *visit_tables.warned_rows(table[index[calibration.kept]]))
        )
        self.tables, self.calibration = visit_tables.factor_tables(table, index, reason, calibration), calibration
        shown = self.tables["visits"]
        for row in shown[~shown["used"]]:
            log.warning("%s %s %s: not used: %s", row["product"], row["filter"], row["subarray"], row["reason"])
        for row in self.tables["calibration"]:
            values = row["filter"], row["factor"], row["factor_err"], row["n_visits"], row["n_stars"]
            log.info("%s: factor %.5f +- %.5f from %d visits of %d stars", *values)
        for text in calibration.messages:
            log.info("%s", text)
        path = self.get_reference_file(first or {}, "psfee")
        psfee = visit_tables.observed_psfee(path, parameters["observed_ee"], parameters["join_radius"], self.output_dir)
        made = visit_tables.reference_models(table[index], calibration, psfee, parameters)
        return [model for model in made if model is not None]

    def save_model(self, model, suffix=None, idx=None, output_file=None, force=False, **components):
        """Write a reference file under its own name, whole or not at all; see `stpipe.Step.save_model`."""
        if not (self.save_results or force):
            return None
        path = self.make_output_path(basepath=output_file or model.meta.filename, suffix=False)
        save_reference(model, path)
        log.info("Saved model in %s", path)
        return path
