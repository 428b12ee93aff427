"""Which group a product belongs to, the annuli of its exposures, and what it comes to in a line."""

import numpy as np

from niriss_eestep.errors import printable
from niriss_eestep.products.columns import schema_url, table_fields


def group_of(model):
    """Say which group an exposure, or its product, belongs to.

    Parameters
    ----------
    model : JwstDataModel

    Returns
    -------
    dict
        ``target``, ``filter`` (the science filter, whichever wheel holds it), ``pupil`` and ``subarray``.
    """
    meta = model.meta
    return group_names(
        meta.target.proposer_name or meta.target.catalog_name,
        meta.instrument.filter,
        meta.instrument.pupil,
        meta.subarray.name,
    )


def group_names(target, filter_wheel, pupil_wheel, subarray):
    """Name a group by what the headers of its exposures say.

    Parameters
    ----------
    target, filter_wheel, pupil_wheel, subarray : str or None

    Returns
    -------
    dict
        As `group_of`.
    """
    wheels = [printable(value or "").upper() for value in (filter_wheel, pupil_wheel)]
    return {
        "target": printable(target or ""),
        "filter": wheels[1] if wheels[0] == "CLEAR" else wheels[0],
        "pupil": wheels[1],
        "subarray": printable(subarray or ""),
    }


def exposure_backgrounds(model):
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


#: a ratio agrees with 1 within so many of its standard errors
_AGREES = 3.0

#: terms that are 0 until somebody gives them, and how
_GIVEN = {
    "err_gain": "gain_err is 0",
    "err_throughput": "throughput_err is 0",
    # the scatter of the response of NIRISS's pixels: see docs/real_files.md
    "err_flat": "flat_err is 0; 0.025 for exposures that are not flat-fielded",
}


def error_terms():
    """Name the terms of the error budget.

    Returns
    -------
    dict of str to str
        What each column ``err_...`` of the table stands for.
    """
    fields = table_fields(schema_url("abs_flux"), "table")
    return {
        name: field.description.removeprefix("Fractional error of ratio from ").split(";")[0].removeprefix("the ")
        for name, field in fields.items()
        if name.startswith("err_")
    }


def not_included(model):
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


def group_line(row):
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
    names = " ".join(filter(None, (row[key] for key in ("target", "filter", "subarray"))))
    status = "" if row["status"] == "measured" else f"; {row['status']}"
    return f"{names}: {row['n_measured']} of {row['n_exposures']}, {said}{status}"


def verdict(model):
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
    terms = {
        name: float(np.mean(np.square(np.nan_to_num(known[name]))))
        for name in error_terms()
        if name in known.dtype.names
    }
    largest = error_terms()[max(terms, key=terms.get)]
    what = "filters" if len(set(known["filter"].tolist())) == len(known) else "groups"
    where = " ".join(str(known[name][k]) for name in ("filter", "subarray"))
    return (
        f"{agree} of {len(known)} {what} agree with 1 within {_AGREES:g} sigma; largest difference "
        f"{100 * off[k]:+.2f} % ({where}, {sigma[k]:.1f} sigma); errors dominated by the {largest}{lacking}"
    )
