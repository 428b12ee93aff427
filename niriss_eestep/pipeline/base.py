"""What the steps and the pipeline share: parameters, references, and how results are named and finished."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import threading
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path

from jwst import __version__ as jwst_version
from jwst.stpipe import Pipeline as JwstPipeline
from jwst.stpipe import Step as JwstStep
from stdatamodels.jwst.datamodels import JwstDataModel
from stpipe import config_parser
from stpipe.exceptions import ValidationError
from stpipe.step import get_disable_crds_steppars

from niriss_eestep.errors import OutputError, ReferenceDataError
from niriss_eestep.exposures.inputs import OUR_SUFFIXES, exposure_root, gather, science_metadata
from niriss_eestep.pipeline import crds
from niriss_eestep.pipeline.parameters import plain, plain_numbers, reference_config, selection_of, was_given
from niriss_eestep.pipeline.strun import IN_STRUN, check_command_line, in_words, plain_words
from niriss_eestep.products.provenance import record_provenance

__all__ = ["FluxPipeline", "FluxStep"]

log = logging.getLogger(__name__)

#: parameters of stpipe's own, which do not change a result
_BOOKKEEPING = frozenset(
    (
        "output_file",
        "output_dir",
        "output_ext",
        "output_use_model",
        "output_use_index",
        "save_results",
        "skip",
        "suffix",
        "search_output_file",
        "input_dir",
    )
)


class FluxStep(JwstStep):
    """A step of this package: runs with or without CRDS, on one input or many.

    Notes
    -----
    Parameters come, in stpipe's order, from the spec, the parameter references, a parameter file, and keywords or the
    command line. A step given several exposures looks the references up for each of them, and keeps what the user gave.
    """

    spec = """
    output_ext = string(default='.asdf')  # Output file type
    save_results = boolean(default=None)  # Save the results; None: as the pipeline does, alone not
    max_size = float(min=1, default=600)  # Largest exposure that is opened, when it is unpacked [MB]
    allow_packaged = boolean(default=False)  # Use the packaged references when the CRDS server that is set up does not answer
    """  # noqa: E501 - stpipe takes one line per parameter

    prefetch_references = False

    #: parameters that a user gave; the others follow each exposure's references
    given = frozenset()
    #: whether CRDS may be asked for parameters
    ask_crds = True

    # ---- parameters

    @classmethod
    def _get_crds_parameters(cls, dataset):
        return science_metadata(dataset), "jwst"

    @classmethod
    def get_config_from_reference(cls, dataset, disable=None, crds_observatory=None):
        """Merge the parameter references for a dataset.

        Parameters
        ----------
        dataset : str, DataModel or dict
        disable : bool, optional
            Do not ask CRDS; the packaged references are used all the same.
        crds_observatory : str, optional
            Always JWST.

        Returns
        -------
        configobj.ConfigObj
        """
        ask_crds = not (get_disable_crds_steppars() if disable is None else disable)
        with plain_words(cls.class_alias):
            config = cls._reference_config(science_metadata(dataset), ask_crds=ask_crds)
        config.ask_crds = ask_crds
        return config

    @classmethod
    def _get_config_from_parameters(cls, crds_parameters, crds_observatory):
        return cls._reference_config(crds_parameters, ask_crds=not get_disable_crds_steppars())

    @classmethod
    def _reference_config(cls, exposure, *, ask_crds):
        """Parameters of the references that hold for an exposure."""
        config = cls._empty_config()
        for name, step in getattr(cls, "step_defs", {}).items():
            config["steps"][name] = step._reference_config(exposure, ask_crds=ask_crds)
        reference_config(cls, exposure, config, ask_crds=ask_crds)
        return config

    @classmethod
    def from_config_section(cls, config, parent=None, name=None, config_file=None):
        """Create the step, remembering which parameters the user gave."""
        plain_numbers(config)
        given = was_given(config)
        ask_crds = getattr(config.main, "ask_crds", not get_disable_crds_steppars())
        with plain_words(cls.class_alias):
            try:
                step = super().from_config_section(config, parent=parent, name=name, config_file=config_file)
            except ValidationError as error:
                raise in_words(error, config, cls.load_spec_file()) from None
        step.given, step.ask_crds = given, ask_crds
        # stpipe marks what comes from the command line, and takes the mark off single values only
        for name, value in vars(step).items():
            if isinstance(value, list):
                setattr(step, name, [str(entry) if isinstance(entry, str) else entry for entry in value])
        return step

    def parameters_for(self, model):
        """Parameters that hold for one exposure.

        Parameters
        ----------
        model : DataModel or dict
            The exposure, or its flat metadata.

        Returns
        -------
        dict
            Every parameter but stpipe's own: what the user gave, else the exposure's parameter references, else the
            spec's default.
        """
        exposure = model if isinstance(model, dict) else model.get_crds_parameters()
        owner = self.parent if self.in_pipeline else self
        if owner.ask_crds and crds.crds_state() == crds.ON:
            return self._parameters(owner._reference_config(exposure, ask_crds=True))
        selection = selection_of(exposure)
        # what the user gave can be changed between two exposures, in Python
        key = selection, self.given, self._from_config, repr([getattr(self, n, None) for n in _spec_names(type(self))])
        found = self.__dict__.setdefault("_parameters_found", {})
        if key not in found:
            found[key] = self._parameters(_selected_config(type(owner), selection))
        return dict(found[key])

    def _parameters(self, config):
        """Parameters from the references' configuration and what the user gave."""
        if self.in_pipeline:
            config = config["steps"].get(self.name, {})
        spec = self.load_spec_file()
        known = {key: config[key] for key in config if key in spec and key not in self.given}
        looked_up = config_parser.config_from_dict(known, spec)
        current = {key: plain(value) for key, value in self.get_pars().items()}
        # a step made in Python, without config, was given all that it has
        kept = self.given if self._from_config else frozenset(current)
        return {
            key: current[key] if key in kept else looked_up.get(key, current[key])
            for key in current
            if key not in _BOOKKEEPING and not key.startswith("override_")
            # hooks decide what a product holds, where there are some
            if current[key] or key not in ("pre_hooks", "post_hooks")
        }

    @property
    def _from_config(self):
        """Whether the step was made from a configuration rather than by its class."""
        return "given" in self.__dict__

    # ---- references

    def get_reference_file(self, input_file, reference_file_type):
        """Find a reference: an override, else CRDS's, else none.

        Parameters
        ----------
        input_file : DataModel
        reference_file_type : str

        Returns
        -------
        str or None
            Path or directory; None where the packaged reference is to be used.

        Raises
        ------
        ReferenceDataError
            If an override does not exist, or CRDS is set up, does not answer, and ``allow_packaged`` is off.
        """
        override = self._checked_override(reference_file_type)
        if override is not None:
            self._reference_files_used.append((reference_file_type, str(override)))
            return override
        found = None
        if self._crds_answers():
            try:
                found = crds.best_reference(science_metadata(input_file), reference_file_type)
            except crds.CrdsLostError as error:
                if not self.search_attr("allow_packaged", default=False, parent_first=True):
                    raise
                log.warning("%s: using the packaged references, as allow_packaged says", error)
            if found is not None:
                self._reference_files_used.append((reference_file_type, f"crds://{Path(found).name}"))
        return found

    def _checked_override(self, reference_type):
        """Give the override of a reference, which must exist; None where there is none."""
        override = self.get_ref_override(reference_type)
        if isinstance(override, (str, Path)) and override != "N/A" and not Path(override).exists():
            raise ReferenceDataError(f"override_{reference_type}: {override} does not exist")
        return None if override == "N/A" else override

    def check_settings(self, exposure):
        """Find out what is wrong with the settings before anything is measured.

        Parameters
        ----------
        exposure : dict
            Flat metadata of one of the exposures.

        Raises
        ------
        ReferenceDataError
            If a reference that the user gave does not exist.
        ParameterError
            If a parameter cannot be used.
        """
        for reference_type in self.reference_file_types:
            self._checked_override(reference_type)
        self.check_parameters(self.parameters_for(exposure))

    def check_parameters(self, parameters):
        """Refuse parameters that cannot be used; for steps that have some."""

    def _crds_answers(self):
        """Whether to ask CRDS; raises where it should answer and does not."""
        state = crds.crds_state()
        if state == crds.UNREACHABLE:
            if not self.search_attr("allow_packaged", default=False, parent_first=True):
                raise ReferenceDataError(
                    f"the CRDS server {os.environ.get('CRDS_SERVER_URL')} does not answer, and the cache in CRDS_PATH "
                    f"({os.environ.get('CRDS_PATH', 'not set')}) does not stand in for it; give --allow_packaged=true "
                    "to use the packaged references, or unset CRDS_SERVER_URL"
                )
            log.warning("CRDS does not answer: using the packaged references, as allow_packaged says")
        return state == crds.ON

    def note_reference(self, reference_file_type, name):
        """Record a reference that did not come through CRDS.

        Parameters
        ----------
        reference_file_type : str
        name : str
            File name, or a value with its source.
        """
        self._reference_files_used.append((reference_file_type, str(name)))

    def references_used(self):
        """Name the references by type; several of one type, as of two stars, one after the other."""
        names = {}
        for reference_type, name in self._reference_files_used:
            names.setdefault(reference_type, {})[str(name)] = None
        return {reference_type: ", ".join(found) for reference_type, found in names.items()}

    # ---- inputs and results

    def run(self, *args):
        """Run the step, once it is sure that its results can be written; see `stpipe.Step.run`."""
        for step in (self, *(getattr(self, name) for name in getattr(self, "step_defs", ()))):
            for name in _spec_names(type(step)):
                if hasattr(step, name):
                    setattr(step, name, plain(getattr(step, name)))
        # what is decided about the results of one run holds for it alone
        before = {name: getattr(self, name) for name in ("output_use_model", "suffix", "save_results", "_post_hooks")}
        if self.save_results is None and self.in_pipeline:
            self.save_results = self.saved_in_pipeline()
        try:
            if self.in_pipeline:
                return super().run(*args)
            with plain_words(self.class_alias), _interruptible(), _frozen_garbage():
                if self.output_dir:
                    check_directory(Path(os.path.expandvars(self.output_dir)).expanduser())
                return super().run(*args)
        finally:
            vars(self).update(before)

    def saved_in_pipeline(self):
        """Whether a pipeline has the step save its results, where the user has not said."""
        return self.parent.save_results

    @property
    def in_pipeline(self):
        """Whether a pipeline of this package runs the step, which then has looked at settings and input."""
        return isinstance(self.parent, FluxPipeline)

    @classmethod
    def _datamodels_open(cls, init, **kwargs):
        if isinstance(init, (str, Path)) and str(init).endswith(".asdf"):
            from niriss_eestep import products

            return products.open(init)
        return super()._datamodels_open(init, **kwargs)

    def set_primary_input(self, obj, exclusive=True):
        """Remember the first input, from which default names are made."""
        if isinstance(obj, (list, tuple)) and obj:
            obj = obj[0]
        super().set_primary_input(obj, exclusive=exclusive)

    def gather(self, inputs):
        """Find the exposures in the arguments of ``process``; see `niriss_eestep.exposures.inputs.gather`."""
        return gather(inputs, input_dir=self.search_attr("input_dir"))

    def gather_products(self, inputs):
        """Find the association's products in the arguments of ``process``; ``output_file`` names a single one.

        Parameters
        ----------
        inputs : sequence
            As for `gather`.

        Returns
        -------
        list of Product
        """
        products = self.gather(inputs)
        if self.output_file is None:
            return products
        if len(products) > 1:
            log.warning(
                "output_file=%s names none of %d products: they keep their names",
                Path(self.output_file).name,
                len(products),
            )
            return products
        return [replace(product, name=exposure_root(self.output_file)) for product in products]

    def open_member(self, member):
        """Open a member's file; a model in memory is handed back.

        Parameters
        ----------
        member : Member

        Returns
        -------
        DataModel

        Raises
        ------
        ExposureError
            If the file is missing, or no JWST data model.
        """
        from niriss_eestep.exposures.reading import open_exposure

        # a hook may do with a model of its own what it likes
        whole = bool(self._pre_hooks)
        return open_exposure(member.source, self.search_attr("max_size", parent_first=True), whole=whole)

    def remove_suffix(self, name):
        """Remove a product suffix, jwst's or one of this package's, from a name."""
        for suffix in OUR_SUFFIXES:
            if name.endswith(f"_{suffix}"):
                return name[: -len(suffix) - 1], "_"
        return super().remove_suffix(name)

    def finish(self, result, inputs, parameters):
        """Record in a product what made it.

        Parameters
        ----------
        result : ProductModel
        inputs : sequence of (Path or DataModel)
        parameters : dict
        """
        references = self.references_used()
        for reference_type, name in references.items():
            result._instance["meta"].setdefault("ref_file", {})[reference_type] = {"name": name}
        record_provenance(result, parameters=parameters, inputs=inputs, references=references)

    def finalize_result(self, result, reference_files_used):
        """Record versions, the CRDS context and the log in a product.

        Parameters
        ----------
        result : DataModel
        reference_files_used : list of (str, str)
        """
        if not isinstance(result, JwstDataModel):
            return
        if not hasattr(type(result), "kind"):
            # a model of the standard pipeline, as a hook sees it, is not ours to mark
            return
        result.meta.calibration_software_version = jwst_version
        if any(name.startswith("crds://") for _, name in reference_files_used):
            from stpipe import crds_client

            result.meta.ref_file.crds.sw_version = crds_client.get_svn_version()
            result.meta.ref_file.crds.context_used = crds.crds_context()
        if not getattr(result, "_log_is_kept", False):
            self.keep_log(result)

    def keep_log(self, result, start=0):
        """Record in a product what was logged while it was made.

        Parameters
        ----------
        result : ProductModel
        start : int
            How many lines the log had before: those about other exposures are not this one's.
        """
        name = self.parent.class_alias if self.in_pipeline else self.class_alias
        result._instance.setdefault("cal_logs", {})[name] = list(self._log_records or ())[start:]
        result._log_is_kept = True

    @classmethod
    def get_stpipe_loggers(cls):
        """Name the loggers to show: the standard pipeline's and this package's; the first that strun asks for."""
        if IN_STRUN and multiprocessing.parent_process() is None:
            check_command_line(cls)
        return (*JwstStep.get_stpipe_loggers(), "niriss_eestep")


@cache
def _spec_names(step_class):
    """Names of a step's parameters."""
    return tuple(step_class.load_spec_file())


@lru_cache(maxsize=256)
def _selected_config(step_class, selection):
    """Parameters of the references that hold for a selection of exposures, without CRDS; not to be changed."""
    return step_class._reference_config(dict(selection), ask_crds=False)


class FluxPipeline(FluxStep, JwstPipeline):
    """A pipeline of steps of this package."""


@contextmanager
def _frozen_garbage():
    """Have the garbage collector leave alone what was there before.

    stpipe collects before each run of each step: 0.15 s for all that the packages have made at import, several times
    what measuring an exposure takes.
    """
    ours = gc.get_freeze_count() == 0
    if ours:
        gc.freeze()
    try:
        yield
    finally:
        if ours:
            gc.unfreeze()


@contextmanager
def _interruptible():
    """End on SIGTERM as on SIGINT, so that workers end and half-written files go.

    Only where the program has not decided otherwise, and in its main thread, as Python has it.
    """
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def check_directory(path):
    """Make the output directory, and see that files can be made in it.

    Parameters
    ----------
    path : Path

    Raises
    ------
    OutputError
        If it cannot be made, or not be written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{path}: the output directory cannot be made: {error.strerror}; give another --output_dir"
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: the output directory cannot be written to; give another --output_dir")


def default_product_name(model):
    """Name a product that no association names, after program and target.

    Parameters
    ----------
    model : DataModel

    Returns
    -------
    str
    """
    from niriss_eestep.exposures.inputs import safe_name

    program = safe_name(model.meta.observation.program_number or "")
    target = model.meta.target.proposer_name or model.meta.target.catalog_name
    if program != "unnamed" and target:
        return f"jw{program}-{safe_name(target)}_niriss"
    return exposure_root(model.meta.filename or "niriss")
