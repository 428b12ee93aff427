"""Parameter reference files: those of this package, a directory of the user's, and CRDS's.

A file of this package or of the directory ``$NIRISS_EESTEP_PARS`` may hold for some exposures only: then its ``meta``
has a ``selection``, for example ``{filter: F480M, subarray: SUB64}``. Of the files that fit an exposure, those with the
longer selection come later and win.

Whether CRDS can be asked, and what it knows.

With neither server nor cache, crds leaves the interpreter by SystemExit in several places; no step of this package asks
it before `crds_state` has said that it will answer.

The command line of ``strun``: a slip ends in one line that says what to write.
"""

import logging
import os
import re
import sys
from difflib import get_close_matches
from functools import cache, reduce
from pathlib import Path
from typing import Any

import numpy as np
from configobj import ConfigObj
from stpipe import config_parser

from niriss_eestep.errors import ParameterError, ReferenceDataError, reading

log = logging.getLogger(__name__)

ON, OFF, UNREACHABLE = "on", "off", "unreachable"

_VARIABLES = ("CRDS_PATH", "CRDS_SERVER_URL", "CRDS_CONTEXT", "CRDS_REF_SUBDIR_MODE")

#: what was found in each environment: a server's silence takes seconds
_states: dict[tuple[str, ...], str] = {}


def crds_state() -> str:
    """Tell whether CRDS can be asked.

    Returns
    -------
    str
        'on': a server answers, or the cache alone suffices; 'off': neither is configured; 'unreachable': a server is
        configured that does not answer, and no cache stands in for it.
    """
    settings = tuple(os.environ.get(name, "") for name in _VARIABLES)
    if settings not in _states:
        path, server = settings[:2]
        # the default of crds is a central store that few machines have
        store = Path(path or "/grp/crds/cache")
        if not server and not path and not store.exists():
            _states[settings] = OFF
        elif (server and _server_answers()) or _cache_suffices(store):
            _states[settings] = ON
        else:
            _states[settings] = UNREACHABLE if server else OFF
    return _states[settings]


def _server_answers() -> bool:
    """Whether the CRDS server answers."""
    from crds.client import api
    from crds.core.exceptions import CrdsError

    try:
        api.get_server_info()
    except CrdsError as error:
        log.debug("CRDS server %s: %s", os.environ.get("CRDS_SERVER_URL", ""), error)
        return False
    return True


def _cache_suffices(path: Path) -> bool:
    """Whether the cache holds its server's configuration and the mapping of the context."""
    if not (path / "config" / "jwst" / "server_config").is_file():
        return False
    from crds.core import config, heavy_client
    from crds.core.exceptions import CrdsError

    try:
        context = heavy_client.get_context_name("jwst")
        mapping = config.locate_mapping(context, "jwst")
    except (CrdsError, OSError, ValueError, SystemExit) as error:  # crds leaves by SystemExit where nothing is cached
        log.debug("CRDS cache %s: %s", path, error)
        return False
    return Path(mapping).is_file()


def best_reference(parameters: dict[str, Any], reference_type: str, *, allow_packaged: bool = False) -> str | None:
    """Ask CRDS, which is on, for a reference.

    Parameters
    ----------
    parameters : dict
        Flat metadata of the exposure (``meta.instrument.filter``, ...).
    reference_type : str
    allow_packaged : bool
        Warn only where CRDS answered before and does not now.

    Returns
    -------
    str or None
        Path in the cache; None where CRDS knows no such type, or has none for this exposure.

    Raises
    ------
    ReferenceDataError
        If the server, or what the cache should hold, is out of reach, or CRDS names a reference that cannot be had.
    """
    import crds
    from crds.core.exceptions import CrdsDownloadError, CrdsError, CrdsNetworkError, ServiceError
    from stpipe import crds_client

    try:
        # the stock call logs an ERROR for a type that the context does not have
        answer = crds.getrecommendations(parameters, reftypes=[reference_type], observatory="jwst")
    except (CrdsDownloadError, CrdsNetworkError, ServiceError, OSError) as error:
        lost = f"CRDS cannot be asked for {reference_type}: {error}"
        # a server that is there has refused the question: it knows no such type
        refused = _server_answers()
        if not refused and not allow_packaged:
            raise ReferenceDataError(f"{lost}; try again, or give --allow_packaged=true") from error
        level, then = (logging.DEBUG, "") if refused else (logging.WARNING, ": using the packaged one")
        log.log(level, "%s%s", lost, then)
        return None
    except CrdsError as error:
        log.debug("CRDS: %s: %s", reference_type, error)
        return None
    name = str(answer.get(reference_type, "NOT FOUND"))
    if name.upper().startswith("NOT FOUND") or name.upper() == "N/A":
        return None
    try:
        return crds_client.get_reference_file(parameters, reference_type, "jwst")
    except (CrdsError, OSError) as error:
        raise ReferenceDataError(f"CRDS names {name} as {reference_type}, but it cannot be had: {error}") from error


#: the comment of every value from a reference; stpipe's merging replaces it where a user gives the value
FROM_REFERENCE = "# from a parameter reference"

#: what stpipe's kinds of values are called in a message
WANTED = {
    "boolean": "true or false", "integer": "an integer", "float": "a number", "float_list": "a list of numbers",
    "int_list": "a list of integers",
}  # fmt: skip
LIMITS = {"min": "at least", "max": "at most"}

#: whether this is a process of ``strun``, which shows every exception with a traceback
IN_STRUN = Path(sys.argv[0] if sys.argv else "").name.removesuffix(".exe") == "strun"

#: what a selection may name, and where the metadata have it
SELECTORS = {
    "filter": ("meta.instrument.filter", "meta.instrument.pupil"), "target": ("meta.target.catalog_name",),
    "subarray": ("meta.subarray.name",), "pupil": ("meta.instrument.pupil",), "exp_type": ("meta.exposure.type",),
    "readpatt": ("meta.exposure.readpatt",),
}  # fmt: skip

#: the parameter references that come with the package: in the installed package, or at the top of the checkout
CFG = next(path / "cfg" for path in Path(__file__).resolve().parents[1:] if (path / "cfg").is_dir())


def files_for(step: Any, exposure: dict[str, Any], *, ask_crds: bool = True) -> list[ConfigObj]:
    """Read the parameter references that hold for an exposure.

    Parameters
    ----------
    step : type
        The step's class.
    exposure : dict
        Flat metadata (``meta.instrument.filter``, ...).
    ask_crds : bool
        Whether CRDS may be asked.

    Returns
    -------
    list of configobj.ConfigObj
        Not to be changed; the packaged ones, CRDS's, the user's. A later one replaces the values of those before it.

    Raises
    ------
    ParameterError
        If ``$NIRISS_EESTEP_PARS`` is no directory, or a file of parameters is not usable.
    """
    kind, user = step.get_config_reftype(), os.environ.get("NIRISS_EESTEP_PARS")
    if user and not Path(user).is_dir():
        raise ParameterError(f"NIRISS_EESTEP_PARS: {user} is not a directory of parameter files (pars-<step>*.asdf)")
    # the user may change his files while a session runs; those of the package and of CRDS stay as they are
    state = frozenset((file, file.stat().st_mtime_ns) for file in Path(user).glob("*.asdf")) if user else None
    from_crds = best_reference(exposure, kind) if ask_crds and exposure and crds_state() == ON else None
    has = {key: {str(exposure.get(name)).upper() for name in names} for key, names in SELECTORS.items()}
    found = []
    for place in (CFG, from_crds, user):
        files = _parameter_files(Path(place), step, state if place is user else None) if place else ()
        for path, selection, values, wrong in files:
            if all(str(value).upper() in has[key] for key, value in selection.items()):
                if wrong:
                    raise ParameterError(wrong)
                level = logging.INFO if place is from_crds else logging.DEBUG
                log.log(level, "%s parameters found: %s", kind.upper(), path)
                found.append(values)
    return found


@cache
def _parameter_files(place: Path, step: Any, state: Any) -> list[tuple[Path, dict[str, Any], ConfigObj, str]]:
    """Parameter files of a step class, those of a directory in this state or the one given, the most general first.

    Of each its selection, its values, and what is wrong with them, which fails the exposures that it is for and no
    others: every value is checked by itself, so that the file can be named.
    """
    import asdf

    found, what = [], "a parameter file"
    for path in place.glob(f"{step.get_config_reftype()}*.asdf") if place.is_dir() else (place,):
        with reading(path, what, ParameterError):
            tree = asdf.util.load_yaml(path)
            meta = tree.get("meta") if isinstance(tree, dict) else None
            selection = dict((meta if isinstance(meta, dict) else {}).get("selection") or {})
        if strange := ", ".join(sorted(set(selection) - set(SELECTORS))):
            raise ParameterError(f"{path}: selection has {strange}; it may have {', '.join(SELECTORS)}")
        config, spec, wrong = ConfigObj(), step.load_spec_file(), ""
        try:
            with reading(path, what, ParameterError):
                config = config_parser.load_config_file(str(path))
                for key in filter(spec.__contains__, config.scalars):
                    config_parser.config_from_dict({key: config[key]}, spec)
            unknown = [str(key) for key in config if key not in spec and key not in ("class", "name", "steps")]
            wrong = f"{path}: {step.class_alias} has no parameter {', '.join(unknown)}" if unknown else ""
        except ParameterError as error:
            wrong = str(error)
        for key in ("class", "name"):
            config.pop(key, None)
        config.walk(lambda section, key: section.inline_comments.update({key: FROM_REFERENCE}))
        found.append((path, selection, config, wrong))
    return sorted(found, key=lambda entry: (len(entry[1]), entry[0]))


def plain(value: Any) -> Any:
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


def did_you_mean(text: str, options: list[str]) -> str:
    """Turn a message of argparse into one that names the options that may have been meant.

    Parameters
    ----------
    text : str
        The message.
    options : list of str
        All that there are, with their dashes.

    Returns
    -------
    str
    """
    found = re.fullmatch("unrecognized arguments: (--[^ =]*).*", text)
    if not found:
        return re.sub("unrecognized arguments: (.*)", r"\1: write the files before the options", text)
    last = found[1].lstrip("-").rpartition(".")[2]
    own = {option.lstrip("-").rpartition(".")[2] for option in options}
    near = [last] if last in own else get_close_matches(last, own, 1)
    meant = [option for option in options if near and option.endswith((f"-{near[0]}", f".{near[0]}"))]
    hint = f"did you mean {' or '.join(meant[:3])}?" if meant else "--help lists all"
    return f"there is no option {found[1]}; {hint}"


def in_words(error: Exception, config: Any, spec: Any) -> ParameterError:
    """Say what a parameter may be, where stpipe says that its value is wrong.

    Parameters
    ----------
    error : stpipe.exceptions.ValidationError
    config, spec : configobj.Section
        What was given, and the specification.

    Returns
    -------
    ParameterError
        Names every parameter with a wrong value.
    """
    said, dashes = [], "--" if IN_STRUN else ""
    for line in str(error).splitlines():
        wrong = re.fullmatch("Config parameter '(.*)': (.*)", line)
        extra = re.fullmatch("Extra value '(.*)' in (.*)", line)
        path = wrong[1].split("/") if wrong else [""]
        try:
            value, check = (reduce(lambda section, key: section[key], path, tree) for tree in (config, spec))
            said.append(_wanted(f"{dashes}{'.'.join(path)}", value, str(check)))
        except KeyError:
            said.append(f"{extra[1]}: there is no such parameter ({extra[2]})" if extra else line)
    return ParameterError("; ".join(said))


def _wanted(name: str, value: Any, check: str) -> str:
    """Say what a parameter may be; ``check`` is its line of the specification, as ``integer(min=1, default=1)``."""
    kind, _, arguments = check.partition("(")
    if kind.endswith("list") and not isinstance(value, (list, tuple)):
        if IN_STRUN:
            return f"{name}={value}: a list needs a comma: {name}={value or 5},"
        return f"{name}={value!r}: must be a list: {name}=[{value!r}]"
    if kind == "option":
        wanted = "one of " + ", ".join(re.findall("'([^']*)'", arguments.partition("default=")[0]))
    else:
        wanted = WANTED.get(kind, f"a {kind}")
    limits = dict(re.findall("(min|max)=([^,)]+)", arguments))
    wanted += "".join(f", {LIMITS[key]} {limit}" for key, limit in limits.items())
    return f"{name}={value}: must be {wanted}"
