"""What the steps and the pipeline share: parameters, references, and how results are named and finished."""

import atexit
import gc
import logging
import multiprocessing
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from operator import methodcaller
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from configobj import ConfigObj
from jwst import __version__ as jwst_version
from jwst.stpipe import Step as JwstStep
from stpipe import config_parser
from stpipe.datamodel import AbstractDataModel
from stpipe.exceptions import ValidationError
from stpipe.step import get_disable_crds_steppars

from niriss_eestep.errors import NirissEEError, OutputError, ParameterError, ReferenceDataError
from niriss_eestep.exposures import inputs as exposures
from niriss_eestep.pipeline import parameters
from niriss_eestep.products.metadata import made_of
from niriss_eestep.products.models import ProductModel
from niriss_eestep.products.models import open as open_product

log = logging.getLogger(__name__)

# the interpreter's last collections would take 0.4 s, for memory that the system takes back anyway
atexit.register(gc.freeze)

#: how stpipe's lines begin that are shown at DEBUG only: all parameters are in the products (``meta.provenance``)
LISTINGS = ("Step %s parameters are", "%s instance created", "Step %s running with", "Step %s done")


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

    #: parameters that a user gave, where the others follow each exposure's references; None for a step made in Python,
    #: which was given all that it has
    given: Any = None
    #: the values that it was made with: another since was given as well (``pipeline.sb_profile.half_width = 1``)
    made_with: ClassVar[dict[str, str]] = {}
    save_results: bool | None
    #: whether CRDS may be asked for parameters
    ask_crds = True
    #: whether a pipeline of this package runs the step, which then has looked at settings and input
    in_pipeline = False
    #: refuses parameters that cannot be used, where a step has such
    check_parameters: Any = None
    #: step of the pipeline whose overrides hold for this one too, where it has none of its own
    overrides_of = ""

    # ---- parameters

    @classmethod
    def _get_crds_parameters(cls, dataset: Any) -> tuple[dict[str, Any], str]:
        return exposures.science_metadata(dataset), "jwst"

    @classmethod
    def get_config_from_reference(cls, dataset: Any, disable: bool | None = None, crds_observatory: Any = None) -> Any:
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
            With those of the steps of a pipeline.
        """
        with plain_words(cls.class_alias):
            exposure, config = exposures.science_metadata(dataset), cls._empty_config()
            config.ask_crds = not (get_disable_crds_steppars() if disable is None else disable)
            for name, inner in getattr(cls, "step_defs", {}).items():
                config["steps"][name] = inner._empty_config()
                for values in parameters.files_for(inner, exposure, ask_crds=config.ask_crds):
                    config_parser.merge_config(config["steps"][name], values)
            for values in parameters.files_for(cls, exposure, ask_crds=config.ask_crds):
                config_parser.merge_config(config, values)
            return config

    @classmethod
    def from_config_section(cls, config: Any, parent: Any = None, name: Any = None, config_file: Any = None) -> Any:
        """Create the step, remembering which parameters the user gave; see `stpipe.Step.from_config_section`.

        Parameters
        ----------
        config : configobj.Section
        parent : Step, optional
        name, config_file : str, optional

        Returns
        -------
        FluxStep

        Raises
        ------
        ParameterError
            If a parameter is unknown, or has a wrong value.
        """
        given = {key for key in config.scalars if config.inline_comments.get(key) != parameters.FROM_REFERENCE}
        given -= set(config.defaults)
        if not parameters.IN_STRUN:  # where all is text, and what YAML knows
            config.walk(lambda part, key: part.update({key: parameters.plain(part[key])}))
        ask_crds = getattr(config.main, "ask_crds", not get_disable_crds_steppars())
        with plain_words(cls.class_alias):
            try:
                step = super().from_config_section(config, parent=parent, name=name, config_file=config_file)
            except ValidationError as error:
                raise parameters.in_words(error, config, cls.load_spec_file()) from None
        step.given, step.ask_crds, step.in_pipeline = frozenset(given), ask_crds, isinstance(parent, FluxStep)
        # stpipe marks what comes from the command line, and takes the mark off single values only
        for key, value in vars(step).items():
            if isinstance(value, list):
                setattr(step, key, [str(entry) if isinstance(entry, str) else entry for entry in value])
        step.made_with = {name: repr(getattr(step, name, None)) for name in _spec(cls)}
        return step

    def parameters_for(self, model: Any) -> dict[str, Any]:
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
        owner, by_reference = self.parent if self.in_pipeline else self, dict[str, Any]()
        for values in parameters.files_for(type(self), exposure, ask_crds=owner.ask_crds):
            by_reference |= values
        # what the references of a pipeline say of its step goes before the step's own
        for values in parameters.files_for(type(owner), exposure, ask_crds=owner.ask_crds) if self.in_pipeline else ():
            by_reference |= values.get("steps", {}).get(self.name, {})
        current = {name: getattr(self, name, None) for name in _spec(type(self))}
        # most exposures have the same parameters, and stpipe takes 2 ms to compare values with its specs
        key = repr((by_reference, self.given, current))
        if key not in (known := self.__dict__.setdefault("_parameters", {})):
            current = self.get_pars()
            changed = {name for name, before in self.made_with.items() if repr(getattr(self, name, None)) != before}
            open_to = set() if self.given is None else set(current) - self.given - changed
            found = {name: value for name, value in by_reference.items() if name in open_to}
            checked = config_parser.config_from_dict(found, _spec(type(self)))
            known[key] = {
                name: list(value) if isinstance(value, list) else value  # the step's may be changed in place
                for name, value in (current | {name: checked[name] for name in checked if name in open_to}).items()
                # of stpipe's own parameters, hooks decide what a product holds, where there are some
                if not name.startswith("override_") and (name not in _spec(JwstStep) or (value and "_hooks" in name))
            }
        return dict(known[key])

    # ---- references

    def get_reference_file(self, input_file: Any, reference_file_type: str, packaged: str = "") -> Any:
        """Find a reference: an override, else CRDS's, else none; and record its name.

        In a pipeline the override of another step holds too, which `overrides_of` names, for the types that both use.

        Parameters
        ----------
        input_file : DataModel, dict or None
            None where only an override is looked for: nothing is recorded.
        reference_file_type : str
        packaged : str, optional
            What to record where neither has one.

        Returns
        -------
        str or None
            Path of a file or directory; None where the packaged reference is to be used.

        Raises
        ------
        ReferenceDataError
            If an override does not exist, or is not a path; or CRDS is set up, does not answer, and ``allow_packaged``
            is off.
        """
        found = self.get_ref_override(reference_file_type)
        if not isinstance(found, str | Path | None):
            raise ReferenceDataError(
                f"override_{reference_file_type}: save the {type(found).__name__}, and give its path"
            )
        if found not in (None, "N/A") and not Path(found).exists():
            raise ReferenceDataError(f"override_{reference_file_type}: {found} does not exist")
        other = getattr(self.parent, self.overrides_of, None) if found is None and self.in_pipeline else None
        if other is not None and reference_file_type in {*self.reference_file_types} & {*other.reference_file_types}:
            found = other.get_reference_file(None, reference_file_type)
        found = None if found == "N/A" else found
        if input_file is None:
            return found
        name = str(found)
        if found is None:
            allow_packaged = self.search_attr("allow_packaged", default=False, parent_first=True)
            if parameters.crds_state() == parameters.UNREACHABLE:
                if not allow_packaged:
                    raise ReferenceDataError(
                        f"the CRDS server {os.environ.get('CRDS_SERVER_URL')} does not answer, and the cache in "
                        f"CRDS_PATH ({os.environ.get('CRDS_PATH', 'not set')}) does not stand in for it; give "
                        "--allow_packaged=true to use the packaged references, or unset CRDS_SERVER_URL"
                    )
                log.warning("CRDS does not answer: using the packaged references, as allow_packaged says")
            elif parameters.crds_state() == parameters.ON:
                exposure = exposures.science_metadata(input_file)
                found = parameters.best_reference(exposure, reference_file_type, allow_packaged=allow_packaged)
            name = packaged if found is None else f"crds://{Path(found).name}"
        if name:
            self._reference_files_used.append((reference_file_type, name))
        return found

    # ---- inputs and results

    def run(self, *args: Any) -> Any:
        """Run the step, once its settings are known to be of use and its results can be written; see `stpipe.Step.run`.

        Raises
        ------
        ReferenceDataError
            If a reference that the user gave does not exist.
        ParameterError
            If a parameter cannot be used.
        OutputError
            If the results cannot be written.
        """
        # what is decided about the results of one run holds for it alone
        before = {name: getattr(self, name) for name in ("output_use_model", "suffix", "save_results", "_post_hooks")}
        # the garbage collector, which stpipe runs before each step, leaves alone meanwhile what the packages have made
        # at import: 0.08 s each time, more than measuring an exposure takes
        freezes = not self.in_pipeline and gc.get_freeze_count() == 0
        if freezes:
            gc.freeze()
        if self.in_pipeline and self.save_results is None:
            # what a pipeline returns it saves itself, whatever suffix it gives it
            is_its_own = self.suffix in (self.parent.suffix, "absflux") and not self.output_dir
            self.save_results = self.parent.save_results and not is_its_own
        for hook in (*self._pre_hooks, *self._post_hooks):
            if type(hook).__name__ == "SystemCall":
                hook.process = partial(_on_files, hook)
        try:
            if self.in_pipeline:
                return super().run(*args)
            with plain_words(self.class_alias):
                self._check_settings(args)
                return super().run(*args)
        finally:
            self.__dict__.update(before)
            if freezes:
                gc.unfreeze()

    def _check_settings(self, args: Sequence[Any]) -> None:
        """Refuse what cannot be used of the settings, those of a pipeline's steps too, before anything is measured."""
        inner = [getattr(self, name) for name in getattr(self, "step_defs", ())]
        for step in (self, *inner):
            spec, option = _spec(type(step)), "--output_" if step is self else f"--steps.{step.name}.output_"
            # what was set in Python; strun has text, and what YAML knows
            for name in () if parameters.IN_STRUN else filter(partial(hasattr, step), spec):
                setattr(step, name, parameters.plain(getattr(step, name)))
            # a hook is given the extension of its step
            is_hook = step.parent is not None and not step.in_pipeline
            if not is_hook and f".{step.output_ext.lstrip('.')}'" not in spec["output_ext"]:
                raise ParameterError(f"{option}ext={step.output_ext}: no product is of this kind; leave it out")
            if step.output_dir:
                path, remedy = Path(os.path.expandvars(step.output_dir)).expanduser(), f"give another {option}dir"
                try:
                    path.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    told = f"{path}: the output directory cannot be made: {error.strerror}; {remedy}"
                    raise OutputError(told) from error
                if not os.access(path, os.W_OK | os.X_OK):
                    raise OutputError(f"{path}: the output directory cannot be written to; {remedy}")
        # a hook is not to stop the pipeline that it belongs to
        checked = [step for step in inner or [self] if not step.skip] if self.parent is None else []
        exposure = exposures.science_metadata(args, self.input_dir) if checked else {}
        for step in checked:
            for reference_type in step.reference_file_types:
                step.get_reference_file(None, reference_type)
            if step.check_parameters is not None:
                step.check_parameters(step.parameters_for(exposure))

    @classmethod
    def _datamodels_open(cls, init: Any, **kwargs: Any) -> Any:
        if isinstance(init, (str, Path)) and str(init).endswith(".asdf"):
            return open_product(init)
        return super()._datamodels_open(init, **kwargs)

    def set_primary_input(self, obj: Any, exclusive: bool = True) -> None:
        """Remember the first input, from which default names are made; in a pipeline that of the pipeline serves."""
        if not self.in_pipeline:  # stpipe writes the whole input into a message, shown or not: outlines of all products
            super().set_primary_input(obj, exclusive=exclusive)

    def remove_suffix(self, name: str) -> tuple[str, str]:
        """Remove a product suffix, jwst's or one of this package's, from a name."""
        ours = next((suffix for suffix in exposures.OUR_SUFFIXES if name.endswith(f"_{suffix}")), None)
        return (name.removesuffix(f"_{ours}"), "_") if ours else super().remove_suffix(name)

    def finish(self, result: ProductModel, inputs: Sequence[Any], parameters: dict[str, Any], start: int = 0) -> None:
        """Record in a product what made it, and what was logged meanwhile.

        Parameters
        ----------
        result : ProductModel
        inputs : sequence of (Path, DataModel or dict)
        parameters : dict
        start : int
            How many lines the log had before: those about other exposures are not this one's.
        """
        meta, (made, references) = result._instance["meta"], made_of(parameters, inputs, self._reference_files_used)
        meta["eestep"] = meta.get("eestep", {}) | made
        for reference_type, name in references.items():
            meta.setdefault("ref_file", {})[reference_type] = {"name": name}
        name = self.parent.class_alias if self.in_pipeline else self.class_alias
        result._instance.setdefault("cal_logs", {})[name] = list(self._log_records or ())[start:]
        result._is_finished = True

    def finalize_result(self, result: Any, reference_files_used: list[tuple[str, str]]) -> None:
        """Record versions and the CRDS context in a product.

        Parameters
        ----------
        result : DataModel
            One of the standard pipeline, as a hook sees it, is not ours to mark.
        reference_files_used : list of (str, str)

        Raises
        ------
        ParameterError
            If a hook has put anything else in the place of a product.
        """
        if self.in_pipeline and not isinstance(result, ProductModel):
            raise ParameterError(f"a post-hook gave a {type(result).__name__} in the place of a product")
        if isinstance(result, ProductModel):
            result._instance["meta"]["calibration_software_version"] = jwst_version
        if isinstance(result, ProductModel) and any(name.startswith("crds://") for _, name in reference_files_used):
            from stpipe import crds_client

            result.meta.ref_file.crds.sw_version = crds_client.get_svn_version()
            result.meta.ref_file.crds.context_used = crds_client.get_context_used("jwst")

    @classmethod
    def get_stpipe_loggers(cls) -> tuple[str, ...]:
        """Name the loggers to show: the standard pipeline's and this package's.

        ``strun`` asks for them first: an option that the step does not have ends it here with one line, before stpipe
        answers with the usage of all that there are.
        """
        names = (*JwstStep.get_stpipe_loggers(), "niriss_eestep")
        if not parameters.IN_STRUN or multiprocessing.parent_process() is not None:
            return names
        try:
            from stpipe._cmdline import _build_arg_parser_from_spec, _build_parent_arg_parser
        except ImportError:  # private to stpipe, whose own words then stand
            return names
        parser = _build_arg_parser_from_spec(cls.load_spec_file(), cls, parent=_build_parent_arg_parser())
        options, strun = list(parser._option_string_actions), f"strun {cls.class_alias}"
        parser.error = lambda text: sys.exit(f"{strun}: {parameters.did_you_mean(text, options)}")
        for name, value in vars(parser.parse_args(sys.argv[1:])).items():
            try:
                ConfigObj()._handle_value(value if isinstance(value, str) else "")
            except SyntaxError:
                sys.exit(f"{strun}: --{name}={value}: a quotation mark is not closed")
        return names


#: parameters of a step class, with their kinds and defaults; loading them takes 2 ms
_spec: Any = cache(methodcaller("load_spec_file"))


@contextmanager
def plain_words(name: str) -> Iterator[None]:
    """Leave stpipe's listings to the level DEBUG, and end ``strun`` with one line where a message explains the error.

    Outside of ``strun``, and with ``--debug``, the exception goes on; an interrupt has no traceback there either.

    SIGTERM ends as SIGINT does, so that workers end and half-written files go: where the program has not decided
    otherwise, and in its main thread, as Python has it.

    Parameters
    ----------
    name : str
        Of the step.
    """
    logger = logging.getLogger("stpipe.step")

    def shown(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(LISTINGS) or logger.isEnabledFor(logging.DEBUG)

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    logger.addFilter(shown)
    try:
        yield
    except NirissEEError as error:
        if not parameters.IN_STRUN or "--debug" in sys.argv:
            raise
        log.debug("where it was raised:", exc_info=True)
        sys.exit(f"strun {name}: {error}")
    except KeyboardInterrupt:
        if not parameters.IN_STRUN:
            sys.excepthook = _say_interrupted
            raise
        print(f"strun {name}: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        logger.removeFilter(shown)
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _on_files(hook: Any, *args: Any) -> Any:
    """Run a hook's command on models as files of their own names; stpipe has one for all, which the models keep."""
    with TemporaryDirectory() as directory:
        given = []
        for arg in args:
            entries = list(arg) if isinstance(arg, (list, tuple)) else [arg]
            for k, model in enumerate(entries):
                if isinstance(model, AbstractDataModel):
                    name = model.meta.filename
                    entries[k] = model.save(os.path.join(directory, name or f"model{hook.output_ext}"))
                    model.meta.filename = name
            given.append(shlex.join(map(str, entries)))
        return type(hook).process(hook, *given)


def _say_interrupted(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
    """Stand in for the traceback of an interrupt that nobody has caught."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


def default_product_name(model: Any) -> str:
    """Name a product that no association names, after program and target.

    Parameters
    ----------
    model : DataModel

    Returns
    -------
    str
    """
    program = exposures.safe_name(model.meta.observation.program_number or "")
    target = model.meta.target.proposer_name or model.meta.target.catalog_name
    if program != "unnamed" and target:
        return f"jw{program}-{exposures.safe_name(target)}_niriss"
    return exposures.exposure_root(model.meta.filename or "niriss")
