"""What is done for one exposure: open, measure by each step, save. In this process, or in a worker's."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from niriss_eestep.errors import ExposureError, NirissEEError, OutputError, ProductError
from niriss_eestep.measure.exposure_step import failure_of
from niriss_eestep.products.columns import array_fields
from niriss_eestep.products.files import open as open_product

__all__ = ["Outcome", "measure_exposure"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of one exposure.

    Parameters
    ----------
    products : tuple of ProductModel
        One for each step; empty where there is none.
    failure : str
        Why there is none.
    """

    products: tuple
    failure: str = ""


def measure_exposure(pipeline, member):
    """Measure one exposure by the steps of a pipeline, and save the products if the pipeline saves any.

    Parameters
    ----------
    pipeline : FluxCalPipeline
    member : Member

    Returns
    -------
    Outcome

    Raises
    ------
    OutputError
        If a product cannot be written.
    NirissEEError
        If the exposure cannot be measured, with ``on_error='raise'``.
    """
    try:
        return Outcome(tuple(_measure(pipeline, member)))
    except OutputError:
        raise
    except NirissEEError as error:
        if pipeline.on_error == "raise":
            raise
        log.error("%s: failed: %s", member.filename, error)
        return Outcome((), str(error))


def _measure(pipeline, member):
    """Make the products of one exposure; those that are up to date are read instead."""
    steps = [step for step in (pipeline.ee_photometry, pipeline.sb_profile) if not step.skip]
    model = pipeline.open_member(member)
    try:
        products = [_measure_by(step, pipeline, member, model) for step in steps]
    finally:
        if model is not member.source:
            model.close()
    for product, is_new in products:
        if is_new:
            pipeline.save_product(product)
        if not pipeline.save_report:
            _drop_stamp(product)
    return [product for product, _ in products]


def _drop_stamp(product):
    """Let the pixels go, half of a product, which only the report shows: the files have them."""
    for name, field in array_fields(product.schema_url).items():
        if field.axes[0] == "stamp_y":
            product._instance.pop(name, None)


def _measure_by(step, pipeline, member, model):
    """Product of one step, and whether it was made anew."""
    prepared = step.prepare(member, model)
    kept = _existing(step, pipeline, prepared)
    if kept is not None:
        return kept, False
    result = step.measure_prepared(prepared)
    step.finalize_result(result, step._reference_files_used)
    if pipeline.on_error == "raise" and failure_of(result):
        raise ExposureError(f"{member.filename}: {failure_of(result)}")
    return result, True


def _existing(step, pipeline, prepared):
    """Product of an earlier run, if it is what this run would make; else None."""
    path = pipeline.output_path(f"{prepared.member.name}_{step.product_suffix}.asdf")
    if not (pipeline.skip_existing and pipeline.save_results and path.is_file()):
        return None
    try:
        product = open_product(path)
    except ProductError as error:
        log.warning("%s: made again: %s", path.name, error)
        return None
    if product.meta.eestep.fingerprint != step.expected_fingerprint(prepared):
        log.info("%s: made again: input, parameters, references or version have changed", path.name)
        return None
    log.info("%s: kept: same input, parameters and references", path.name)
    return product
