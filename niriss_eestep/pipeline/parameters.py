"""Parameter reference files: those of this package, a directory of the user's, and CRDS's.

A file of this package or of the directory ``$NIRISS_EESTEP_PARS`` may hold for some exposures only: then its ``meta``
has a ``selection``, for example ``{filter: F480M, subarray: SUB64}``. Of the files that fit an exposure, those with the
longer selection come later and win.
"""

import logging
import os
from pathlib import Path

import numpy as np
from stpipe import config_parser

from niriss_eestep.errors import ParameterError, reading, regular_file
from niriss_eestep.pipeline.crds import best_reference
from niriss_eestep.reference.cache import read_once

log = logging.getLogger(__name__)

#: the comment of every value from a reference; stpipe's merging replaces it where a user gives the value
FROM_REFERENCE = "# from a parameter reference"

#: what a selection may name, and where the metadata have it
SELECTORS = {
    "filter": ("meta.instrument.filter", "meta.instrument.pupil"), "target": ("meta.target.catalog_name",),
    "subarray": ("meta.subarray.name",), "pupil": ("meta.instrument.pupil",), "exp_type": ("meta.exposure.type",),
    "readpatt": ("meta.exposure.readpatt",),
}  # fmt: skip


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
    kind, user = step.get_config_reftype(), os.environ.get("NIRISS_EESTEP_PARS")
    if user and not Path(user).is_dir():
        raise ParameterError(
            f"NIRISS_EESTEP_PARS: {user} is not a directory; it should hold parameter files named pars-<step>*.asdf"
        )
    has = {key: {str(exposure.get(name)).upper() for name in names} for key, names in SELECTORS.items()}
    packaged, own = (
        [path for path, wanted in _files(directory, kind) if all(str(wanted[k]).upper() in has[k] for k in wanted)]
        if directory
        else []
        for directory in (cfg_directory(), user)
    )
    from_crds = best_reference(exposure, kind) if ask_crds and exposure else None
    for path in (*packaged, *filter(None, [from_crds]), *own):
        log.log(logging.INFO if path is from_crds else logging.DEBUG, "%s parameters found: %s", kind.upper(), path)
        config_parser.merge_config(config, _load(path, step))


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
        unknown = set(selection) - set(SELECTORS)
        if unknown:
            raise ParameterError(
                f"{path}: selection has {', '.join(sorted(unknown))}; it may have {', '.join(SELECTORS)}"
            )
        found.append((path, selection))
    return sorted(found, key=lambda entry: (len(entry[1]), entry[0]))


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
    for key in ("class", "name"):
        config.pop(key, None)
    config.walk(lambda section, key: section.inline_comments.update({key: FROM_REFERENCE}))
    return config


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
