"""What made a product: software, parameters, input, references."""

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np

from niriss_eestep.errors import printable
from niriss_eestep.products.columns import keywords

#: what makes the products
SOFTWARE = {package: version(package) for package in ("niriss_eestep", "jwst")}

#: what a product says of itself
NOT_COPIED = (("meta", "date"), ("meta", "model_type"))


def copy_metadata(model, exposure):
    """Copy to a product the core metadata of what it was measured on.

    Instrument set-up, target, program, observation, exposure, subarray, dates, earlier references, photometry and
    calibration logs: every entry that the exposure has, both schemas know and a FITS keyword stands for.

    Parameters
    ----------
    model : ProductModel
        Receives the metadata.
    exposure : JwstDataModel
        Exposure or product.
    """
    # as `JwstDataModel.update` does, which looks through both schemas each time
    for parent, keys in _copied(type(model).schema_url, type(exposure).schema_url).items():
        source, target = exposure._instance, model._instance
        for key in parent:
            source = source.get(key) if isinstance(source, dict) else None
        found = {key: source[key] for key in keys if key in source} if isinstance(source, dict) else {}
        found = {key: v for key, v in found.items() if v is not None and not isinstance(v, (dict, list, np.ndarray))}
        for key in parent if found else ():
            target = target.setdefault(key, {})
        target.update(found)
    logs = exposure._instance.get("cal_logs")
    if logs:
        model._instance.setdefault("cal_logs", {}).update(copy.deepcopy(dict(logs)))


@cache
def _copied(product_url, exposure_url):
    """Entries that a product takes over, by their parent's path: of keywords, where both schemas know the parent."""
    own, found = keywords(product_url), {}
    extensions = {"PRIMARY", *(hdu for hdu, _, _ in own)}
    parents = {path[:depth] for _, _, path in own for depth in range(len(path))}
    for hdu, _, path in keywords(exposure_url):
        if hdu in extensions and path not in NOT_COPIED and path[:-1] in parents:
            found.setdefault(path[:-1], {})[path[-1]] = None
    return found


def shared(tree, other):
    """Take the entries of a tree from another one where they are equal, so that they are in memory once.

    Parameters
    ----------
    tree, other : object
        Containers and values; of two exposures of a group, four fifths of the metadata are equal.

    Returns
    -------
    object
        Equal to ``tree``; containers that are changed later must not be shared.
    """
    if type(tree) is not type(other) or isinstance(tree, np.ndarray):
        return tree
    if isinstance(tree, dict):
        tree = {key: shared(value, other.get(key)) for key, value in tree.items()}
        is_same = tree.keys() == other.keys() and all(value is other[key] for key, value in tree.items())
    else:
        is_same = tree == other
    return other if is_same else tree


def record_provenance(model, *, parameters, inputs, references=None):
    """Record in ``meta.eestep`` what made a product.

    Parameters
    ----------
    model : ProductModel
    parameters : mapping
        Parameters of the step.
    inputs : sequence of (str, Path, DataModel or dict)
        What the step read. Files are recorded with their SHA-256, models in memory by their name; a record of
        `exposure_record` stays as it is.
    references : mapping of str to str, optional
        File of each reference type.
    """
    inputs = [_describe(source) for source in inputs]
    record = model._instance["meta"].setdefault("eestep", {})
    record.update(
        schema=model.schema_url,
        version=SOFTWARE["niriss_eestep"],
        jwst_version=SOFTWARE["jwst"],
        parameters=json.loads(json.dumps(parameters, default=_plain)),
        input=inputs,
        fingerprint=fingerprint(parameters=parameters, inputs=inputs, references=references or {}),
    )


def fingerprint(*, parameters, inputs, references):
    """Hash of all that decides a product's numbers.

    Parameters
    ----------
    parameters : mapping
        Parameters of the step.
    inputs : sequence
        As `record_provenance`, or its records of ``meta.eestep.input``.
    references : mapping of str to str
        File of each reference type; of a file that can be read, the content counts, not the folder.

    Returns
    -------
    str
        SHA-256 in hexadecimal, of software version, parameters, input and references.
    """
    content = {
        "version": SOFTWARE["niriss_eestep"],
        "parameters": parameters,
        "input": [_describe(source) for source in inputs],
        "references": {kind: _describe(name) for kind, name in references.items()},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=_plain).encode()).hexdigest()


def exposure_record(filename, metadata, exposures):
    """Make the record of an exposure that was measured.

    A full frame has 84 MB, of which a measurement uses 0.1 MB: what was used is hashed, not the file. A product stays
    up to date when other pixels of the file change.

    Parameters
    ----------
    filename : str
    metadata : dict
        Flat metadata of the exposure.
    exposures : sequence of StarExposure
        The stamps that were measured.

    Returns
    -------
    dict
        For ``meta.eestep.input``: ``filename`` and ``content_sha256``.
    """
    # when a file was written decides nothing
    used = {key: value for key, value in metadata.items() if key.startswith("meta.") and key != "meta.date"}
    digest = hashlib.sha256(json.dumps(used, sort_keys=True, default=str).encode())
    for exposure in exposures:
        for field in fields(exposure):
            value = getattr(exposure, field.name)
            content = value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()
            digest.update(field.name.encode() + content)
    return {"filename": printable(filename), "content_sha256": digest.hexdigest()}


def file_sha256(path):
    """SHA-256 of a file.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    str
        Hexadecimal.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _describe(source):
    """Record of one input: its name, and the hash of a file."""
    if isinstance(source, Mapping):
        return dict(source)
    if not isinstance(source, (str, Path)):
        record = {"filename": printable(source.meta.filename or "in memory")}
        made = source._instance["meta"].get("eestep", {}).get("fingerprint")
        # of a product, what made it stands for its numbers
        return record | {"fingerprint": made} if made else record
    record = {"filename": Path(source).name}
    if Path(source).is_file():
        record["sha256"] = file_sha256(source)
    return record


def _plain(value):
    """Give what JSON and YAML do not know as what they do."""
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else str(value)
