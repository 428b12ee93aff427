"""Reading and writing products: nothing but whole files, nothing executed, nothing followed."""

import contextlib
import os
import re
import socket
import threading
from functools import cache
from pathlib import Path

from niriss_eestep.errors import OutputError, ProductError
from niriss_eestep.guards.asdf_file import read_asdf
from niriss_eestep.products.columns import KINDS, schema_url
from niriss_eestep.products.validation import check_sense, check_tree, fill_new_columns, load_asdf_plugins

#: names this machine in temporary files, since others may share the directory
HOST = socket.gethostname()[:40]


def read_tree(path, *, model_type=None):
    """Read a product's tree.

    Parameters
    ----------
    path : str or Path
    model_type : str, optional
        Name of the class that it must be.

    Returns
    -------
    dict
        Plain containers and ndarrays.

    Raises
    ------
    ProductError
        The file is missing, not ASDF, not a product of this package, damaged, or written by a newer version.
    """
    path = Path(path)
    load_asdf_plugins()
    tree = read_asdf(path, "product", ProductError)
    url = _check_kind(path, tree, model_type)
    if not tree.get("history"):
        tree.pop("history", None)
    fill_new_columns(tree, url)
    check_tree(tree, url, path)
    check_sense(tree, path)
    return tree


def _check_kind(path, tree, model_type):
    """Find the schema of the product, by the class and the version that the file names."""
    meta = tree.get("meta") if isinstance(tree, dict) else None
    found = meta.get("model_type") if isinstance(meta, dict) else None
    if found not in KINDS or not isinstance(meta.get("eestep"), dict):
        raise ProductError(f"{path}: not a product of niriss_eestep (model type {str(found)[:60]})")
    if model_type not in (None, found, "ProductModel"):
        raise ProductError(f"{path}: holds {found}, expected {model_type}")
    url = schema_url(KINDS[found])
    written = str(meta["eestep"].get("schema"))
    if written != url:
        raise ProductError(
            f"{path}: written by schema {written[:100]}, this version of niriss_eestep reads {url}; "
            + _remedy(written, url)
        )
    return url


def _remedy(written, url):
    """What to do about a schema of another version."""
    pattern = re.escape(url.rsplit("-", 1)[0]) + r"-(\d+)\.(\d+)\.(\d+)"
    versions = [re.fullmatch(pattern, name) for name in (written, url)]
    if versions[0] is None:
        return "the file is damaged or not ours"
    newer = tuple(map(int, versions[0].groups())) > tuple(map(int, versions[1].groups()))
    return "upgrade niriss_eestep" if newer else "make the product again"


def write_atomically(path, data):
    """Write a file, whole or not at all.

    The bytes go to a hidden temporary file in the same directory, which then takes the file's place in one operation: a
    reader, or a run that is killed, never meets half a file.

    Parameters
    ----------
    path : str or Path
        A file that exists is replaced; a symbolic link is replaced, not followed.
    data : bytes

    Raises
    ------
    OutputError
        The directory is missing, cannot be written, or is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{HOST}-{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        _remove_leftovers(path.parent.absolute())
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        # gone already where the replacement went well; else nothing is left behind, an interrupt included
        with contextlib.suppress(OSError):
            temporary.unlink()


@cache
def _remove_leftovers(directory):
    """Remove temporary files whose writers were killed; once for each directory, which may hold many thousand files."""
    for leftover in directory.glob(".*.tmp"):
        found = re.search(r"-(\d+)-\d+\.tmp$", leftover.name)
        if found and f".{HOST}-{found[1]}-" in leftover.name and not _is_running(int(found[1])):
            leftover.unlink(missing_ok=True)


def _is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's, or no process number at all: not ours to judge
        return True
    return True
