"""The pipeline: from exposures of standard stars to the absolute flux calibration."""

from __future__ import annotations

import logging
from pathlib import Path

from niriss_eestep.exceptions import ExposureError, NirissEEError
from niriss_eestep.products.convert import group_of
from niriss_eestep.products.models import CombinedEEModel
from niriss_eestep.steps.abs_flux import AbsFluxStep
from niriss_eestep.steps.base import FluxPipeline, default_product_name, failed
from niriss_eestep.steps.combine_profiles import CombineProfilesStep
from niriss_eestep.steps.ee_photometry import EEPhotometryStep
from niriss_eestep.steps.exposure_step import failure_of
from niriss_eestep.steps.inputs import Member, file_metadata
from niriss_eestep.steps.sb_profile import SBProfileStep

__all__ = ["FluxCalPipeline"]

log = logging.getLogger(__name__)


class FluxCalPipeline(FluxPipeline):
    """EE and SB profiles of each exposure, their averages by group, and the absolute flux calibration."""

    class_alias = "niriss_fluxcal"

    spec = """
    suffix = string(default='absflux')       # Suffix of the last products
    save_report = boolean(default=False)     # Write an HTML report beside each absflux product
    on_error = option('record', 'raise', default='record')  # What to do about an exposure that cannot be measured
    workers = integer(min=1, default=1)      # Processes that measure exposures
    skip_existing = boolean(default=False)   # Keep products made from the same input, parameters and references
    """

    step_defs = {  # noqa: RUF012 - stpipe reads the class attribute
        "ee_photometry": EEPhotometryStep,
        "sb_profile": SBProfileStep,
        "combine_profiles": CombineProfilesStep,
        "abs_flux": AbsFluxStep,
    }

    def process(self, *inputs):
        """Run the whole calibration.

        Parameters
        ----------
        *inputs : associations, exposures, models, or lists of these

        Returns
        -------
        AbsFluxModel or list of AbsFluxModel
            One for each product of the associations. The other products are written as they are made, if results are
            saved at all.

        Raises
        ------
        NirissEEError
            If nothing could be measured, or, with ``on_error='raise'``, at the first failure.
        """
        products = self.gather(inputs)
        if not any(product.members for product in products):
            msg = f"no science exposure in {', '.join(str(i) for i in inputs)}"
            raise ExposureError(msg)
        results = [self.process_product(product) for product in products if product.members]
        self.output_use_model = True
        return results if len(results) > 1 else results[0]

    def process_product(self, product):
        """Calibrate one product of an association.

        Parameters
        ----------
        product : Product

        Returns
        -------
        AbsFluxModel
        """
        profiles, lost = [], []
        for member in product.members:
            try:
                profiles += self.measure(member)
            except NirissEEError as error:
                if self.on_error == "raise":
                    raise
                log.error("%s: failed: %s", member.filename, failed(error))
                lost.append(_lost_record(member, failed(error)))
        if not any(not failure_of(model) for _, model in profiles):
            reasons = "; ".join(dict.fromkeys(entry["status"] for entry in lost)) or "the log says why for each"
            msg = f"{product.name or 'input'}: none of {len(product.members)} exposures could be measured: {reasons}"
            raise ExposureError(msg)
        name = product.name or default_product_name(profiles[0][1])
        combined = self.combine_profiles.combine(profiles, name)
        for model in combined:
            self.combine_profiles.finalize_result(model, [])
            self._save(model)
        ee = [model for model in combined if isinstance(model, CombinedEEModel)]
        result = self.abs_flux.calibrate(ee, ee, name, lost)
        self.abs_flux.finalize_result(result, self.abs_flux._reference_files_used)
        self._log_outcome(result)
        return result

    def measure(self, member):
        """Measure one exposure by both steps, and save its products.

        Parameters
        ----------
        member : Member

        Returns
        -------
        list of (Member, ProductModel)
        """
        model = self.open_member(member)
        products = []
        try:
            for step in (self.ee_photometry, self.sb_profile):
                if step.skip:
                    continue
                step._reference_files_used = []
                result = step.measure_model(member, model)
                step.finalize_result(result, step._reference_files_used)
                if self.on_error == "raise" and failure_of(result):
                    msg = f"{member.filename}: {failure_of(result)}"
                    raise ExposureError(msg)
                self._save(result)
                products.append((Member(member.name, result), result))
        finally:
            if model is not member.source:
                model.close()
        return products

    def _save(self, model):
        """Save a product beside the others, if results are saved."""
        if not self.save_results:
            return
        directory = Path(self.make_output_path(basepath=model.meta.filename, suffix=False)).parent
        path = directory / model.meta.filename
        model.save(str(path))
        log.info("Saved %s", path)

    def _log_outcome(self, result):
        """Say in the last lines what became of every exposure."""
        statuses = [str(status) for status in result.exposures["status"]]
        kinds = {
            "measured": sum(s == "measured" for s in statuses),
            "measured with warnings": sum(s.startswith("measured with") for s in statuses),
            "failed": sum(s.startswith("failed") for s in statuses),
        }
        for row in result.exposures:
            if row["status"] != "measured":
                log.warning("%s: %s", row["exposure"], row["status"])
        log.info("%s: %s", result.meta.filename, ", ".join(f"{n} {kind}" for kind, n in kinds.items()))


def _lost_record(member, reason):
    """Row of the exposures' table for one that gave no product."""
    record = {"exposure": member.name, "filename": member.filename, "status": f"failed: {reason}"}
    metadata = file_metadata(member.source) if isinstance(member.source, Path) else None
    if metadata is None:
        return record | group_of(member.source)
    wheels = metadata.get("meta.instrument.filter", ""), metadata.get("meta.instrument.pupil", "")
    return record | {
        "target": metadata.get("meta.target.proposer_name") or metadata.get("meta.target.catalog_name", ""),
        "filter": wheels[1] if wheels[0] == "CLEAR" else wheels[0],
        "pupil": wheels[1],
        "subarray": metadata.get("meta.subarray.name", ""),
    }
