"""A hook that measures beside a step of the standard pipeline."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from niriss_eestep.errors import NirissEEError, ParameterError, printable
from niriss_eestep.exposures.inputs import Member, exposure_root, gather
from niriss_eestep.measure.step import EEPhotometryStep, failure_of

log = logging.getLogger(__name__)


class EEPhotometryHook(EEPhotometryStep):
    """Measure the encircled energy of what another step has just made, and leave that as it is.

    For ``post_hooks`` of any step that makes a NIRISS image: ``photom``, ``resample``, ``flat_field``. The product,
    ``<exposure root>_eeprofile.asdf``, or ``_i2d_eeprofile.asdf`` of a resampled image, is written into the pipeline's
    output directory, or the hook's ``output_dir``. An exposure that cannot be measured is logged as an error; the
    pipeline goes on.

    Notes
    -----
    Parameters come from the parameter references, and from the keywords of a hook written
    ``"niriss_eestep.steps.EEPhotometryHook(radii=[2, 5, 10])"``. A post-hook that returns a model replaces its step's
    result: this one returns None.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # stpipe makes hooks without configuration: what is not a keyword follows the parameter references
        self.given = frozenset(self._keywords)
        self.output_ext = ".asdf"  # and give them the extension of the step that they belong to

    def process(self, *inputs: Any) -> None:
        """Measure the images of another step's result.

        Parameters
        ----------
        *inputs : DataModel, container, library or list of these

        Raises
        ------
        ParameterError
            If a parameter of the hook cannot be used.
        """
        with _shown_beside("stpipe"):
            try:
                members = [member for product in gather(inputs) for member in product.members]
            except NirissEEError as error:
                log.error("%s: not measured: %s", self.name, error)
                return
            for member in members:
                self._measure_beside(self._named(member))

    def _named(self, member: Member) -> Member:
        """Name an image so that its product overwrites no other image's."""
        name, model = member.name, member.source
        if isinstance(model, Path):
            return member
        if model.meta.filename is None:
            # a step within a pipeline names its result after the hooks have run
            name = exposure_root(self.make_output_path(suffix=False, ext=".fits"))
        resampled = model.meta.cal_step.resample == "COMPLETE" or model.meta.resample.pixel_scale_ratio is not None
        filename = printable(model.meta.filename or name)
        return member._replace(name=f"{name}_i2d" if resampled else name, filename=filename)

    def _measure_beside(self, member: Member) -> None:
        """Measure one image and write the product."""
        self._reference_files_used = []
        try:
            result = self.measure(member)
            failure = failure_of(result)
        except ParameterError:
            raise
        except NirissEEError as error:
            failure = str(error)
        if failure:
            log.error("%s: not measured: %s", member.name, failure)
            return
        self.finalize_result(result, self._reference_files_used)
        # into the hook's own directory, else the pipeline's
        filename = result.meta.filename
        path = Path(self.make_output_path(basepath=filename, suffix=False, ext=".asdf")).parent / filename
        if path.exists():
            log.info("%s is replaced", path)
        result.save(str(path))
        log.info("Saved %s", path)


@contextmanager
def _shown_beside(name: str) -> Iterator[None]:
    """Show this package's log lines wherever another logger's go.

    The outermost step chooses the loggers that are shown, and the standard pipeline's does not know of this package.
    """
    theirs, ours = logging.getLogger(name), logging.getLogger("niriss_eestep")
    added = [handler for handler in theirs.handlers if handler not in ours.handlers]
    level = ours.level
    for handler in added:
        ours.addHandler(handler)
    if added and level == logging.NOTSET:
        ours.setLevel(theirs.level)
    try:
        yield
    finally:
        for handler in added:
            ours.removeHandler(handler)
        ours.setLevel(level)
