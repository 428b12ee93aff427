"""The pipeline: from exposures of standard stars to the absolute flux calibration."""

import gc
import itertools
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from jwst.stpipe import Pipeline as JwstPipeline

import niriss_eestep.errors as errors
from niriss_eestep.combine.step import CombineProfilesStep
from niriss_eestep.exposures.inputs import Member, Product, gather, group_members, nothing_in, open_exposure
from niriss_eestep.flux.step import AbsFluxStep
from niriss_eestep.measure.step import EEPhotometryStep, SBProfileStep, failure_of
from niriss_eestep.pipeline.base import FluxStep, default_product_name
from niriss_eestep.products.metadata import shared
from niriss_eestep.products.models import AbsFluxModel, CombinedEEModel, ProductModel

log = logging.getLogger(__name__)


class FluxCalPipeline(FluxStep, JwstPipeline):
    """EE and SB profiles of each exposure, their averages by group, and the absolute flux calibration."""

    class_alias = "niriss_fluxcal"

    spec = """
    suffix = string(default='absflux')       # Suffix of the last products
    save_report = boolean(default=False)     # Write an HTML report beside each absflux product
    on_error = option('record', 'raise', default='record')  # What to do about an exposure that cannot be measured
    workers = integer(min=1, default=1)      # Processes that measure exposures
    skip_existing = boolean(default=False)   # Keep products made from the same input, parameters and references
    require_expected = boolean(default=False)  # Fail where no group of a product has an expected rate
    """

    step_defs = {  # noqa: RUF012 - stpipe reads the class attribute
        "ee_photometry": EEPhotometryStep,
        "sb_profile": SBProfileStep,
        "combine_profiles": CombineProfilesStep,
        "abs_flux": AbsFluxStep,
    }

    #: makes the executor of a `niriss_eestep.pipeline.executor.Measurement`; None: as many processes as ``workers``
    make_executor = None

    #: takes each product of the associations, and its result or its error, as soon as it is complete; None: all results
    #: are kept to the end, and returned
    take = None

    #: of the association's product that is in work, for the steps: its name, whether it has several targets, and the
    #: exposures that could not be read
    product_name, several_targets, lost = None, False, tuple[dict[str, str], ...]()

    #: the step that is skipped though the calibration needs it
    lacking = ""

    #: what the step before has found of the exposure in work: the next one goes on with it
    known: dict[Any, Any] | None = None

    #: exposures that this process has measured
    n_measured = 0

    def process(self, *inputs: Any) -> Any:
        """Run the whole calibration.

        Parameters
        ----------
        *inputs : associations, exposures, models, or lists of these

        Returns
        -------
        AbsFluxModel or list of AbsFluxModel
            One for each product of the associations. The other products are written as they are made, if results are
            saved at all. Where a step is skipped that the calibration needs, a list of what is made without it: means,
            or profiles.

        Raises
        ------
        NirissEEError
            If nothing could be measured, or, with ``on_error='raise'``, at the first failure.
        """
        products = [p for p in gather(inputs, input_dir=self.input_dir, output_file=self.output_file) if p.members]
        if not products and self.take is None:
            raise errors.ExposureError(nothing_in(inputs))
        self.lacking = self._skipped()
        for step in (self.ee_photometry, self.sb_profile):
            if step.output_file:
                told = "steps.%s.output_file=%s is not used: its products are named after the exposures; give a suffix"
                log.warning(told, step.name, step.output_file)
        by_product = [group_members(product.members) for product in products]
        members = [member for groups in by_product for group in groups.values() for member in group]
        if self.ee_photometry.source_name:
            self.ee_photometry.tell_unknown_names(members)
        # workers measure the exposures of the next product while one is calibrated
        outcomes, results = (self.measure(member) for member in members), list[Any]()
        if self.make_executor or self.workers > 1:
            from niriss_eestep.pipeline.executor import measured

            outcomes = measured(self, members)
        shown: Any = outcomes
        if len(members) > 1:
            from niriss_eestep.pipeline.progress import progress

            shown = progress(outcomes, total=len(members), desc="measure")
        with closing(outcomes), closing(shown):
            for product, groups in zip(products, by_product, strict=True):
                own = itertools.islice(shown, len(product.members))
                self.several_targets = len({target for target, *_ in groups if target}) > 1
                try:
                    result: Any = self.calibrate(product, groups, own)
                except errors.NirissEEError as error:
                    if error.is_fatal or self.on_error == "raise" or (len(products) == 1 and self.take is None):
                        raise
                    log.error("product %s: failed: %s", product.name, error)
                    result = error
                deque(own, maxlen=0)  # those that a failure has left
                if self.take is not None:
                    self.take(product, result)
                elif not isinstance(result, errors.NirissEEError):
                    results += _models(result)
        if not results and self.take is None:
            raise errors.ExposureError(f"none of {len(products)} products could be calibrated; the log says why")
        if self.require_expected:
            _require_expected(results)
        # what is not calibrated has been saved as it was made
        self.save_results, self.output_use_model = self.save_results and not self.lacking, True
        return results if self.lacking or len(results) != 1 else results[0]

    def measure(self, member: Member) -> tuple[list[ProductModel], str]:
        """Measure one exposure.

        Parameters
        ----------
        member : Member

        Returns
        -------
        products : list of ProductModel
            One for each step; empty where there is none.
        failure : str
            Why there is none.

        Raises
        ------
        OutputError
            If a product cannot be written.
        NirissEEError
            If the exposure cannot be measured, with ``on_error='raise'``.
        """
        steps = [step for step in (self.ee_photometry, self.sb_profile) if not step.skip]
        self.known = {}
        try:
            with ExitStack() as opened:
                given = list[Any]()
                for step in steps:
                    # a pre-hook may do with its model what it likes; else one serves both
                    if not given or step._pre_hooks or steps[0]._pre_hooks:
                        model = open_exposure(member.source, self.max_size, whole=bool(step._pre_hooks))
                        opened.enter_context(nullcontext(model) if model is member.source else closing(model))
                    given.append(model)
                products = [p for step, model in zip(steps, given, strict=True) for p in _models(step.run(model))]
        except errors.NirissEEError as error:
            if error.is_fatal or self.on_error == "raise":
                raise
            log.error("%s: failed: %s", member.filename, error)
            return [], str(error)
        finally:
            # not for what an inner step is given next
            self.known = None
        # the collections in `run` are not to go through what is kept of the exposures before, but now and then
        self.n_measured += 1
        if self.n_measured % 100 == 0:
            gc.unfreeze()
            gc.collect()
        gc.freeze()
        for product in products:
            # half of a product, which the files have; the report shows it, the errors of a flat field need it, and a
            # profile that the pipeline returns is whole
            if not (self.save_report or self.combine_profiles.skip or "stamp_flat_err" in product._instance):
                for name in ("stamp", "stamp_repaired", "stamp_kind"):
                    product._instance.pop(name, None)
        return products, ""

    def calibrate(self, product: Product, groups: dict[Any, list[Member]], measured: Iterator[Any]) -> Any:
        """Average the profiles of one product of an association, and calibrate the averages.

        Parameters
        ----------
        product : Product
        groups : dict of (str, str, str, str) to list of Member
            Its members, by group; see `group_members`.
        measured : iterator of (list of ProductModel, str)
            As from `measure`, in the order of the groups; in memory there are those of one group.

        Returns
        -------
        AbsFluxModel, or list of ProductModel
            The means, or profiles, where a step is skipped that the calibration needs.

        Raises
        ------
        NirissEEError
            If none of its exposures, or of its groups, could be measured.
        """
        combined, shown, failed, lost = list[ProductModel](), [], [], []
        self.product_name = product.name
        # a mean of SB has been saved by then
        kept = ProductModel if self.save_report or self.lacking else CombinedEEModel
        for key, members in groups.items():
            profiles = []
            for member, (models, failure) in zip(members, itertools.islice(measured, len(members)), strict=True):
                lost += [_lost_record(member, failure, key, groups)] if failure else []
                profiles += models
                # whoever is given them may change each by itself
                for model in () if self.combine_profiles._pre_hooks or self.combine_profiles.skip else models:
                    model._instance["meta"] = shared(model._instance["meta"], profiles[0]._instance["meta"])
            if all(failure_of(model) for model in profiles):
                failed.append(profiles)
                continue
            self.product_name = self.product_name or default_product_name(profiles[0])
            absflux = Path(self.make_output_path(basepath=f"{self.product_name}_absflux.asdf"))
            if not (combined or self.lacking) and self.save_results and absflux.is_file():
                self._check_replaced(absflux, product.members)
            means = profiles if self.combine_profiles.skip else _models(self.combine_profiles.run(profiles))
            combined += [mean for mean in means if isinstance(mean, kept)]
            shown += profiles if self.save_report else []
        if not combined:
            reasons = [entry["status"] for entry in lost]
            reasons += [f"failed: {failure_of(model)}" for profiles in failed for model in profiles]
            text = f"{product.name or 'input'}: none of {len(product.members)} exposures could be measured"
            raise errors.ExposureError(f"{text}: {'; '.join(dict.fromkeys(reasons))}")
        for profiles in filter(None, failed):
            means = profiles if self.combine_profiles.skip else _models(self.combine_profiles.run(profiles))
            combined += [mean for mean in means if isinstance(mean, kept)]
        if self.lacking:
            log.info("%s: not calibrated, as steps.%s.skip says", self.product_name, self.lacking)
            return combined
        self.lost = tuple(lost)
        result = _models(self.abs_flux.run([model for model in combined if isinstance(model, CombinedEEModel)]))[0]
        result._instance["meta"]["filename"] = f"{self.product_name}_absflux.asdf"  # whatever the step has saved it as
        if self.save_results and absflux.is_file():  # again: another run may have ended meanwhile
            self._check_replaced(absflux, product.members)
        if self.save_report:
            from niriss_eestep.report.page import write_report_of_models  # matplotlib is not imported otherwise

            shown += [model for profiles in failed for model in profiles]
            path = Path(self.make_output_path(basepath=result.meta.filename, suffix=False))
            log.info("Saved %s", write_report_of_models(path.parent, result, combined, shown))
        return result

    def _skipped(self) -> str:
        """Name the first skipped step that the calibration needs; ParameterError where it cannot be done without."""
        name = next((name for name in self.step_defs if name != "sb_profile" and getattr(self, name).skip), "")
        if self.ee_photometry.skip and self.sb_profile.skip:
            raise errors.ParameterError("steps.ee_photometry.skip and steps.sb_profile.skip: nothing is measured")
        wanted = {"a campaign": self.take, "save_report": self.save_report, "require_expected": self.require_expected}
        for what in filter(wanted.get, wanted if name else ()):
            raise errors.ParameterError(f"steps.{name}.skip: {what} needs this step")
        return name

    def _check_replaced(self, path: Path, members: Sequence[Member]) -> None:
        """Refuse to replace an absolute-flux product of other exposures, as of another job of an array.

        One that is made of the same exposures, or of some of them, is replaced; where exposures are left out, a
        warning says which.
        """
        try:
            before = set(AbsFluxModel(path).exposures["exposure"].tolist())
        except errors.ProductError as error:
            log.warning("%s: replaced: %s", path.name, error)
            return
        now = {member.name for member in members}
        left_out, text = sorted(before - now), f"{path}: was made of {_some(before)}, and this run is of {_some(now)}"
        if left_out and now - before:
            raise errors.ParameterError(f"{text}: not replaced; give another output_dir, or product name (output_file)")
        if left_out:
            log.warning("%s: replaced, without %s", text, _some(left_out))


def _models(result: Any) -> list[Any]:
    """Models that a step gives: its hooks may make one of a list, or a list of one."""
    models = list(result) if isinstance(result, (list, tuple)) else [result]
    if not models:
        raise errors.ParameterError("a post-hook gave an empty list in the place of a product")
    return models


def _require_expected(results: list[AbsFluxModel]) -> None:
    """Raise ReferenceDataError where no group of a product has an expected rate."""
    without = [result for result in results if np.isnan(result.table["ratio"]).all()]
    if without:
        notes = dict.fromkeys(str(status) for result in without for status in result.table["status"])
        raise errors.ReferenceDataError(
            f"require_expected: {', '.join(result.meta.filename for result in without)}: no group has an expected "
            f"rate: {'; '.join(notes)}; set PYSYN_CDBS or give steps.abs_flux.override_stdspec"
        )


def _some(names: Iterable[str]) -> str:
    """Name exposures, the first few of many."""
    names = sorted(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _lost_record(member: Member, reason: str, key: Any, groups: dict[Any, list[Member]]) -> dict[str, str]:
    """Row of the exposures' table for one that gave no product.

    Where its header cannot be read, it is counted in the group of its dithers, whose names differ in the number of the
    exposure only, or in the only group there is.
    """
    if not any(key):
        visit = member.name.rsplit("_", 2)[0]
        known = {k: [m.name.rsplit("_", 2)[0] for m in found] for k, found in groups.items() if any(k)}
        near = [k for k, visits in known.items() if visit in visits] or list(known)
        key = near[0] if len(near) == 1 else key
    record = {"exposure": member.name, "filename": member.filename, "status": f"failed: {reason}"}
    return record | dict(zip(("target", "filter", "pupil", "subarray"), key, strict=True))
