"""Parameter reference files: those of this package, a directory of the user's, and CRDS's.

A file of this package or of the directory ``$NIRISS_EESTEP_PARS`` may hold for some exposures only: then its ``meta``
has a ``selection``, for example ``{filter: F480M, subarray: SUB64}``. Of the files that fit an exposure, those with the
longer selection come later and win.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
from stpipe import config_parser

from niriss_eestep.errors import ParameterError, reading, regular_file
from niriss_eestep.pipeline.crds import ON, best_reference, crds_state
from niriss_eestep.reference.cache import read_once, state_of

__all__ = ["cfg_directory", "mark_reference", "plain", "plain_numbers", "reference_config", "selection_of", "was_given"]

log = logging.getLogger(__name__)

#: set as the comment of every value from a reference; stpipe's merging replaces it where a user gives the value
MARK = "# from a parameter reference"

SELECTORS = {
    "target": "meta.target.catalog_name",
    "subarray": "meta.subarray.name",
    "pupil": "meta.instrument.pupil",
    "exp_type": "meta.exposure.type",
    "readpatt": "meta.exposure.readpatt",
}


def cfg_directory():
    """Return the directory of the parameter references that come with the package.

    Returns
    -------
    Path
        ``cfg`` inside the installed package, or at the top of the checkout.
    """
    package = Path(__file__).resolve().parents[1]
    inside = package / "cfg"
    return inside if inside.is_dir() else package.parent / "cfg"


def _directories():
    """The package's directory, then the user's."""
    user = os.environ.get("NIRISS_EESTEP_PARS")
    if user and not Path(user).is_dir():
        raise ParameterError(
            f"NIRISS_EESTEP_PARS: {user} is not a directory; it should hold parameter files named pars-<step>*.asdf"
        )
    return [cfg_directory(), *([Path(user)] if user else [])]


@read_once
def _files(directory, reference_type):
    """Parameter files of one step with their selections, the most general first."""
    import asdf

    found = []
    for path in sorted(Path(directory).glob(f"{reference_type}*.asdf")):
        regular_file(path, "parameter file", ParameterError)
        with reading(path, "a parameter file", ParameterError):
            tree = asdf.util.load_yaml(path)
            meta = tree.get("meta") if isinstance(tree, dict) else None
            selection = dict((meta if isinstance(meta, dict) else {}).get("selection") or {})
        unknown = set(selection) - set(SELECTORS) - {"filter"}
        if unknown:
            raise ParameterError(
                f"{path}: selection has {', '.join(sorted(unknown))}; it may have filter, {', '.join(SELECTORS)}"
            )
        found.append((len(selection), path, selection))
    return [(path, selection) for _, path, selection in sorted(found, key=lambda f: f[:2])]


def _fits(selection, exposure):
    """Whether a selection holds for an exposure."""
    found = {key: exposure.get(name) for key, name in SELECTORS.items()}
    wheels = (exposure.get("meta.instrument.filter"), exposure.get("meta.instrument.pupil"))
    return all(
        (str(value).upper() in wheels) if key == "filter" else (str(value).upper() == str(found[key]).upper())
        for key, value in selection.items()
    )


def selection_of(exposure):
    """Reduce metadata to what the parameter references of this package and of the user can select by.

    Parameters
    ----------
    exposure : dict
        Flat metadata.

    Returns
    -------
    tuple of (str, object)
        Exposures with the same selection have the same parameters. The directory of the user's references is a part,
        and the state of its files, which may be edited while a session runs.
    """
    selected = [(name, exposure.get(name)) for name in ("meta.instrument.filter", *SELECTORS.values())]
    user = os.environ.get("NIRISS_EESTEP_PARS")
    return (*selected, ("NIRISS_EESTEP_PARS", user), ("state", state_of(Path(user)) if user else ()))


@read_once
def _load(path, step):
    """Read a parameter file of a step class once; every value is checked by itself, so that the file can be named."""
    with reading(path, "a parameter file", ParameterError):
        config = config_parser.load_config_file(str(path))
        spec = step.load_spec_file()
        unknown = [key for key in config if key not in spec and key not in ("class", "name", "steps")]
        for key in config.scalars:
            if key in spec:
                config_parser.config_from_dict({key: config[key]}, spec)
    if unknown:
        raise ParameterError(f"{path}: {step.class_alias} has no parameter {', '.join(map(str, unknown))}")
    return config


def mark_reference(config):
    """Mark every value as one that comes from a reference.

    Parameters
    ----------
    config : configobj.Section
        Changed in place.
    """
    for key in config.scalars:
        config.inline_comments[key] = MARK
    for key in config.sections:
        mark_reference(config[key])


def was_given(config):
    """Name the parameters that a user gave, rather than a reference or the spec's defaults.

    Parameters
    ----------
    config : configobj.Section
        Before or after validation.

    Returns
    -------
    frozenset of str
    """
    return frozenset(
        key for key in config.scalars if config.inline_comments.get(key) != MARK and key not in config.defaults
    )


def plain(value):
    """Give numbers and arrays of numpy as Python has them, which stpipe's types and ASDF know.

    Parameters
    ----------
    value : object

    Returns
    -------
    object
        Anything else as it is.
    """
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return [plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def plain_numbers(config):
    """Do the same for the values of a configuration, before it is validated.

    Parameters
    ----------
    config : configobj.Section
        Changed in place.
    """
    for key in config.scalars:
        if isinstance(config[key], (np.ndarray, np.generic, list, tuple)):
            config[key] = plain(config[key])
    for key in config.sections:
        plain_numbers(config[key])


def _merge_directory(directory, step, exposure, config):
    """Merge a directory's files that hold for an exposure."""
    for path, selection in _files(directory, step.get_config_reftype()):
        if _fits(selection, exposure):
            log.debug("%s parameters found: %s", step.get_config_reftype().upper(), path)
            config_parser.merge_config(config, _load(path, step))


def reference_config(step, exposure, config, *, ask_crds=True):
    """Merge the parameter references that hold for an exposure.

    Parameters
    ----------
    step : type
        The step's class.
    exposure : dict
        Flat metadata (``meta.instrument.filter``, ...).
    config : configobj.ConfigObj
        Where to merge them: packaged ones first, then CRDS's, then the user's directory.
    ask_crds : bool
        Whether CRDS may be asked.
    """
    packaged, *user = _directories()
    _merge_directory(packaged, step, exposure, config)
    if ask_crds and exposure and crds_state() == ON:
        path = best_reference(exposure, step.get_config_reftype())
        if path is not None:
            log.info("%s parameters found: %s", step.get_config_reftype().upper(), path)
            config_parser.merge_config(config, _load(path, step))
    for directory in user:
        _merge_directory(directory, step, exposure, config)
    for key in ("class", "name"):
        config.pop(key, None)
    mark_reference(config)
