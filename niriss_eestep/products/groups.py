"""Which group an exposure or product belongs to, and the annuli of a group's exposures."""

import numpy as np

from niriss_eestep.errors import printable


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
