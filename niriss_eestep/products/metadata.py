"""What a product's metadata say: which group it belongs to, and what made it; and what its groups come to in words."""

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from niriss_eestep.errors import printable
from niriss_eestep.products.columns import SCHEMAS, schema_of

#: what the exposures of a group have in common
GROUP_KEYS = ("target", "filter", "pupil", "subarray")

#: what makes the products
SOFTWARE = {package: version(package) for package in ("niriss_eestep", "jwst")}

#: what a product says of itself
NOT_COPIED = (("meta", "date"), ("meta", "model_type"))

#: by the schemas of product and exposure: what the one takes over from the other, names by the path of their parent
_taken_over: dict[tuple[str, str], dict[tuple[str, ...], list[str]]] = {}


def group_of(model: Any, said: Iterable[str | None] | None = None) -> dict[str, str]:
    """Say which group an exposure, or its product, belongs to.

    Parameters
    ----------
    model : JwstDataModel
    said : (str, str, str, str), optional
        What a header says of target, FILTER, PUPIL and subarray, where the exposure has not been opened.

    Returns
    -------
    dict
        ``target``, ``filter`` (the science filter, whichever wheel holds it), ``pupil`` and ``subarray``.
    """
    if said is None:
        meta = model.meta
        target = meta.target.proposer_name or meta.target.catalog_name
        said = target, meta.instrument.filter, meta.instrument.pupil, meta.subarray.name
    target, first, pupil, subarray = (printable(name or "") for name in said)
    first, pupil = first.upper(), pupil.upper()
    return {"target": target, "filter": pupil if first == "CLEAR" else first, "pupil": pupil, "subarray": subarray}


def exposure_backgrounds(model: Any) -> list[tuple[Any, Any]]:
    """Give the annulus that each exposure of a group had its background from.

    Parameters
    ----------
    model : CombinedEEModel or CombinedSBModel

    Returns
    -------
    list of tuple of ndarray
        For each exposure the edges of the rings [pix] and their coverage, 0 to 1; both empty where there is no annulus.
    """
    return [
        (edges[np.isfinite(edges)], coverage[np.isfinite(coverage)])
        for edges, coverage in zip(model.exposure_ring_edges, model.exposure_ring_coverage, strict=True)
    ]


def copy_metadata(model: Any, exposure: Any) -> None:
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
    urls = type(model).schema_url, type(exposure).schema_url
    if urls not in _taken_over:  # as `JwstDataModel.update` does, which looks through both schemas each time
        own, _taken_over[urls] = schema_of(urls[0]).keywords, {}
        extensions = {"PRIMARY", *(hdu for hdu, _, _ in own)}
        parents = {path[:depth] for _, _, path in own for depth in range(len(path))}
        for hdu, _, path in schema_of(urls[1]).keywords:
            if hdu in extensions and path not in NOT_COPIED and path[:-1] in parents:
                _taken_over[urls].setdefault(path[:-1], []).append(path[-1])
    for parent, keys in _taken_over[urls].items():
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


def shared(tree: Any, other: Any) -> Any:
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


def made_of(parameters: Mapping[str, Any], inputs: Sequence[Any], references_used: Any) -> tuple[Any, dict[str, str]]:
    """Say what a product was made of.

    Parameters
    ----------
    parameters : mapping
        Parameters of the step.
    inputs : sequence of (str, Path, DataModel or dict)
        What the step read. Files are recorded with their SHA-256, models in memory by their name; a record of
        `exposure_record` stays as it is.
    references_used : sequence of (str, str)
        Type and file of each reference; of a file that can be read, the content counts, not the folder.

    Returns
    -------
    record : dict
        For ``meta.eestep``; its ``fingerprint`` is a hash of all that decides the product's numbers: SHA-256 in
        hexadecimal, of software version, parameters, input and references.
    references : dict of str to str
        The references by type; several of one type, as of two stars, one after the other.
    """
    names, described = dict[str, dict[str, None]](), []
    for kind, name in references_used:
        names.setdefault(kind, {})[str(name)] = None
    references = {kind: ", ".join(found) for kind, found in names.items()}
    for source in (*inputs, *references.values()):
        if isinstance(source, Mapping):
            entry = dict(source)
        elif isinstance(source, (str, Path)):
            entry = {"filename": Path(source).name}
            entry |= {"sha256": file_sha256(source)} if Path(source).is_file() else {}
        else:
            entry = {"filename": printable(source.meta.filename or "in memory")}
            # of a product, what made it stands for its numbers
            found = source._instance["meta"].get("eestep", {}).get("fingerprint")
            entry |= {"fingerprint": found} if found else {}
        described.append(entry)
    as_text = json.dumps(parameters, default=lambda value: getattr(value, "tolist", value.__str__)())
    record = {
        "version": SOFTWARE["niriss_eestep"],
        "input": described[: len(inputs)],
        "parameters": json.loads(as_text),
    }
    content = record | {"references": dict(zip(references, described[len(inputs) :], strict=True))}
    record["fingerprint"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return record | {"jwst_version": SOFTWARE["jwst"]}, references


def exposure_record(filename: str, metadata: dict[str, Any], exposures: Iterable[Any]) -> dict[str, str]:
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


def file_sha256(path: str | Path) -> str:
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


#: a ratio agrees with 1 within so many of its standard errors
_AGREES = 3.0

#: terms that are 0 until somebody gives them, and how
_GIVEN = {
    "err_gain": "gain_err is 0",
    "err_throughput": "throughput_err is 0",
    # the scatter of the response of NIRISS's pixels: see docs/real_files.md
    "err_flat": "flat_err is 0; 0.025 for exposures that are not flat-fielded",
}


def error_terms() -> dict[str, str]:
    """Name the terms of the error budget.

    Returns
    -------
    dict of str to str
        What each column ``err_...`` of the table stands for.
    """
    columns = schema_of(SCHEMAS["abs_flux"]).arrays["table"]["columns"]
    start = "Fractional error of ratio from "
    texts = {name: column["description"] for name, column in columns.items() if name.startswith("err_")}
    return {name: text.removeprefix(start).split(";")[0].removeprefix("the ") for name, text in texts.items()}


def not_included(model: Any) -> list[str]:
    """Name the terms that the errors leave out, since nobody gave them.

    Parameters
    ----------
    model : AbsFluxModel

    Returns
    -------
    list of str
        For example 'gain (gain_err is 0)'.
    """
    terms, table = error_terms(), model.table
    return [f"{terms[name]} ({why})" for name, why in _GIVEN.items() if name in terms and not np.any(table[name] > 0)]


def group_line(row: Mapping[str, Any]) -> str:
    """Say in a line what a group gave.

    Parameters
    ----------
    row : mapping
        Row of the table of `AbsFluxModel`; what a failed group lacks may be missing.

    Returns
    -------
    str
        For example 'WD1057+719 F200W SUB64: 2 of 2, ratio 1.0001 +- 0.0014 (aperture correction 0.12 %)', with the
        largest term of the error, and the status where it is not just 'measured'.
    """
    ratio, rate = row.get("ratio", np.nan), row.get("count_rate", np.nan)
    said = "no total count rate"
    if np.isfinite(ratio):
        name = max(error_terms(), key=lambda name: np.nan_to_num(row[name]))
        said = f"ratio {ratio:.4f} +- {row['ratio_err']:.4f} ({error_terms()[name]} {100 * row[name]:.2g} %)"
    elif np.isfinite(rate):
        said = f"{rate:.6g} +- {row['count_rate_err']:.2g} DN/s, no ratio"
    # what one filter cannot know of the PSF
    if abs(shift := row.get("psf_index_shift", np.nan)) > 2 * row.get("ratio_err", np.nan):
        said += f", not counting {100 * shift:+.2g} % if the PSF's mid frequencies have an index of 2.8"
    names = " ".join(filter(None, (row[key] for key in ("target", "filter", "subarray"))))
    status = "" if row["status"] == "measured" else f"; {row['status']}"
    return f"{names}: {row['n_measured']} of {row['n_exposures']}, {said}{status}"


def verdict(model: Any) -> str:
    """Say in a line whether the ratios agree with 1.

    Parameters
    ----------
    model : AbsFluxModel

    Returns
    -------
    str
    """
    table = model.table
    known = table[np.isfinite(table["ratio"]) & (table["ratio_err"] > 0)]
    without = len(table) - len(known)
    lacking = f"; {without} of {len(table)} without a ratio" if without else ""
    if not len(known):
        return f"no ratio in any of {len(table)} groups: the expected rate or the measurement is missing"
    off = known["ratio"] - 1
    sigma = np.abs(off) / known["ratio_err"]
    agree = int(np.sum(sigma <= _AGREES))
    k = int(np.argmax(sigma if agree < len(known) else np.abs(off)))
    largest = error_terms()[max(error_terms(), key=lambda name: np.mean(np.square(np.nan_to_num(known[name]))))]
    what = "filters" if len(set(known["filter"].tolist())) == len(known) else "groups"
    where = " ".join(str(known[name][k]) for name in ("filter", "subarray"))
    return (
        f"{agree} of {len(known)} {what} agree with 1 within {_AGREES:g} sigma; largest difference "
        f"{100 * off[k]:+.2f} % ({where}, {sigma[k]:.1f} sigma); errors dominated by the {largest}{lacking}"
    )
