"""The pipeline: from exposures of standard stars to the absolute flux calibration."""

from __future__ import annotations

import itertools
import logging
from collections import deque
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from niriss_eestep.combine.step import CombineProfilesStep
from niriss_eestep.errors import ExposureError, NirissEEError, OutputError, ParameterError
from niriss_eestep.exposures.inputs import Member, file_metadata, group_members, metadata_of, nothing_in
from niriss_eestep.flux.step import AbsFluxStep
from niriss_eestep.measure.exposure_step import failure_of
from niriss_eestep.measure.sb_step import SBProfileStep
from niriss_eestep.measure.step import EEPhotometryStep
from niriss_eestep.pipeline.base import FluxPipeline, default_product_name
from niriss_eestep.pipeline.executor import ProcessCrew, Worker, hand_out, measure_by_workers
from niriss_eestep.pipeline.exposure_job import measure_exposure
from niriss_eestep.pipeline.progress import progress
from niriss_eestep.products.convert import group_names, group_of
from niriss_eestep.products.models import CombinedEEModel

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

    #: makes the workers' crew of a `Worker`; None: processes, as many as ``workers`` says
    make_crew = None

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
        self._check_skipped()
        products = [product for product in self.gather_products(inputs) if product.members]
        if not products:
            raise ExposureError(nothing_in(inputs))
        results = []
        for product, result in self.calibrated(products):
            if isinstance(result, NirissEEError):
                if len(products) == 1:
                    raise result
                log.error("product %s: failed: %s", product.name, result)
            else:
                results.append(result)
        if not results:
            raise ExposureError(f"none of {len(products)} products could be calibrated; the log says why for each")
        for result in results:
            self._log_outcome(result)
        self.output_use_model = True
        return results if len(results) > 1 else results[0]

    def _check_skipped(self):
        """Refuse to leave out a step that later ones need."""
        for name in ("ee_photometry", "combine_profiles", "abs_flux"):
            if getattr(self, name).skip:
                raise ParameterError(
                    f"steps.{name}.skip: the pipeline needs this step; run the other steps by themselves instead"
                )

    def _check_settings(self, members):
        """Find out what is wrong with the settings before anything is measured."""
        exposure = metadata_of(members)
        for step in (self.ee_photometry, self.sb_profile, self.abs_flux):
            if not step.skip:
                step.check_settings(exposure)
        self.ee_photometry.tell_unknown_names(members)

    def calibrated(self, products):
        """Calibrate products one after the other; the exposures of the next are in work meanwhile.

        Parameters
        ----------
        products : sequence of Product

        Yields
        ------
        product : Product
        result : AbsFluxModel or NirissEEError
            The error where nothing of the product could be measured or calibrated.

        Raises
        ------
        OutputError
            If a product cannot be written.
        NirissEEError
            With ``on_error='raise'``, at the first failure.
        """
        members = [member for product in products for member in product.members]
        self._check_settings(members)
        crew = self._crew(members)
        with ExitStack() as stack:
            if crew:
                stack.callback(crew.dismiss)
            # the workers have the first ones while the headers of all are read here
            begun = hand_out(crew, members) if crew else {}
            grouped = [group_members(product.members) for product in products]
            members = [m for groups in grouped for ms in groups.values() for m in ms]
            all_outcomes = stack.enter_context(closing(self._outcomes(members, crew, begun)))
            for product, groups in zip(products, grouped, strict=True):
                outcomes = itertools.islice(all_outcomes, len(product.members))
                try:
                    result = self.calibrate_product(product, groups, outcomes)
                except OutputError:
                    raise
                except NirissEEError as error:
                    if self.on_error == "raise":
                        raise
                    result = error
                # those that a failure has left
                deque(outcomes, maxlen=0)
                yield product, result

    def calibrate_product(self, product, groups, outcomes):
        """Calibrate one product of an association.

        Parameters
        ----------
        product : Product
        groups : dict
            Its members by group.
        outcomes : iterator of Outcome
            Of the members, in the order of the groups.

        Returns
        -------
        AbsFluxModel

        Raises
        ------
        NirissEEError
            If none of its exposures, or of its groups, could be measured.
        """
        several = len({target for target, *_ in groups if target}) > 1
        name, combined, calibrated, failed, lost = product.name, [], [], [], []
        self.abs_flux._reference_files_used = []
        shown = []  # profiles, for the report only: in memory there are those of one group
        for members in groups.values():
            measured = list(zip(members, itertools.islice(outcomes, len(members)), strict=True))
            lost += [_lost_record(member, outcome.failure) for member, outcome in measured if outcome.failure]
            profiles = [(Member(m.name, model), model) for m, outcome in measured for model in outcome.products]
            if all(failure_of(model) for _, model in profiles):
                failed += profiles
                continue
            name = name or default_product_name(profiles[0][1])
            averages = self._combine(profiles, name, several)
            combined += averages
            # at once, while workers measure the next
            calibrated += self._calibrate(averages)
            shown += [model for _, model in profiles if self.save_report]
        if not combined:
            reasons = [entry["status"] for entry in lost] + [f"failed: {failure_of(model)}" for _, model in failed]
            raise ExposureError(
                f"{name or 'input'}: none of {len(product.members)} exposures could be measured: "
                + "; ".join(dict.fromkeys(reasons))
            )
        averages = self._combine(failed, name, several)
        combined += averages
        calibrated += self._calibrate(averages)
        result = self.abs_flux.collect(calibrated, [group.model for group in calibrated], name, lost)
        self.abs_flux.finalize_result(result, self.abs_flux._reference_files_used)
        if self.save_report:
            self._write_report(result, combined, shown + [model for _, model in failed])
        return result

    def _write_report(self, result, combined, profiles):
        """Write the HTML report where the absolute-flux product goes; matplotlib is not imported otherwise."""
        from niriss_eestep.report.page import write_report_of_models

        directory = self.output_path(result.meta.filename).parent
        log.info("Saved %s", write_report_of_models(directory, result, combined, profiles))

    def _crew(self, members):
        """Start the workers; None where this process measures."""
        if not all(isinstance(member.source, Path) for member in members):
            return None
        if self.make_crew is not None:
            return self.make_crew(Worker(self))
        n_workers = min(self.workers, len(members))
        return ProcessCrew(Worker(self), n_workers) if n_workers > 1 else None

    def _outcomes(self, members, crew, begun):
        """Measure exposures, here or by a crew, and give the outcomes in order."""
        if crew is None:
            outcomes = (measure_exposure(self, member) for member in members)
        else:
            outcomes = measure_by_workers(crew, members, begun)
        with closing(outcomes):
            yield from progress(outcomes, total=len(members), desc="measure")

    def _combine(self, profiles, name, with_target):
        """Average the profiles of groups, and save the averages; only what later steps need of them is kept."""
        combined = self.combine_profiles.combine(profiles, name, with_target=with_target)
        for model in combined:
            self.combine_profiles.finalize_result(model, [])
            self.save_product(model)
        return [model for model in combined if self.save_report or isinstance(model, CombinedEEModel)]

    def _calibrate(self, combined):
        """Calibrate each group."""
        return [self.abs_flux.calibrate_group(model) for model in combined if isinstance(model, CombinedEEModel)]

    def output_path(self, name):
        """Where a product of this name is written."""
        return Path(self.make_output_path(basepath=name, suffix=False)).parent / name

    def save_product(self, model):
        """Save a product beside the others, if results are saved."""
        if not self.save_results:
            return
        path = self.output_path(model.meta.filename)
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
        groups = [str(status) for status in result.table["status"]]
        told = [("without total rate", sum(status.startswith("failed") for status in groups))]
        told.append(("without expected rate", int(np.isnan(result.table["ratio"]).sum()) - told[0][1]))
        lacking = "".join(f", {n} of {len(groups)} groups {what}" for what, n in told if n)
        outcome = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
        log.log(logging.WARNING if lacking else logging.INFO, "%s: %s%s", result.meta.filename, outcome, lacking)


def _lost_record(member, reason):
    """Row of the exposures' table for one that gave no product."""
    record = {"exposure": member.name, "filename": member.filename, "status": f"failed: {reason}"}
    if not isinstance(member.source, Path):
        return record | group_of(member.source)
    metadata = file_metadata(member.source)
    target = metadata.get("meta.target.proposer_name") or metadata.get("meta.target.catalog_name")
    keys = ("meta.instrument.filter", "meta.instrument.pupil", "meta.subarray.name")
    return record | group_names(target, *(metadata.get(key) for key in keys))
