"""Whether CRDS can be asked, and what it knows.

With neither server nor cache, crds leaves the interpreter by SystemExit in several places; no step of this package asks
it before `crds_state` has said that it will answer.
"""

import logging
import os
from pathlib import Path

from niriss_eestep.errors import ReferenceDataError

log = logging.getLogger(__name__)

ON, OFF, UNREACHABLE = "on", "off", "unreachable"

_VARIABLES = ("CRDS_PATH", "CRDS_SERVER_URL", "CRDS_CONTEXT", "CRDS_REF_SUBDIR_MODE")

#: what was found in each environment: a server's silence takes seconds
_states: dict[tuple[str, ...], str] = {}


def crds_state():
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


def _server_answers():
    """Whether the CRDS server answers."""
    from crds.client import api
    from crds.core.exceptions import CrdsError

    try:
        api.get_server_info()
    except CrdsError as error:
        log.debug("CRDS server %s: %s", os.environ.get("CRDS_SERVER_URL", ""), error)
        return False
    return True


def _cache_suffices(path):
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


def crds_context():
    """Name the CRDS context in use.

    Returns
    -------
    str
        Name of the pipeline mapping; 'N/A' where CRDS is not asked.
    """
    if crds_state() != ON:
        return "N/A"
    from stpipe import crds_client

    return crds_client.get_context_used("jwst")


def best_reference(parameters, reference_type, *, allow_packaged=False):
    """Ask CRDS for a reference, if it is to be asked.

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
        Path in the cache; None where CRDS is not set up, knows no such type, or has none for this exposure.

    Raises
    ------
    ReferenceDataError
        If the server, or what the cache should hold, is out of reach, or CRDS names a reference that cannot be had.
    """
    if crds_state() != ON:
        return None
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
