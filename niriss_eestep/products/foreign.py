"""Profiles that were not made by the steps here, completed with what averaging and calibrating them needs."""

import copy
from typing import Any

import numpy as np

from niriss_eestep.errors import ProductError
from niriss_eestep.instrument import PIXEL_SOLID_ANGLE
from niriss_eestep.products.metadata import group_of

#: what a group's mean must have
OF_A_GROUP = (
    "radius", "count_rate", "count_rate_err", "n_good", "exposure_count_rate", "exposure_count_rate_err",
    "exposure_flag", "exposure_names",
)  # fmt: skip


def completed(profile: Any) -> Any:
    """Fill in what a profile from elsewhere lacks.

    Parameters
    ----------
    profile : EEProfileModel or SBProfileModel
        With its radii, values and their errors, and where the background comes from.

    Returns
    -------
    EEProfileModel or SBProfileModel
        The same where nothing is missing; else a copy, in which the radii are taken as independent where no covariance
        says otherwise, apertures as whole circles, and the annulus as used throughout.
    """
    tree = profile._instance
    meta = tree.get("meta", {}).get(profile.meta_key, {})
    r_in, r_out = (meta.get(f"background_r_{side}") or 0.0 for side in ("in", "out"))
    annulus = [r_in, r_out] if r_out > r_in else []
    radius, err = (np.asarray(tree[name], dtype=np.float64) for name in ("radius", f"{profile.y_name}_err"))
    status = str(meta.get("status") or "measured")
    found = {"covariance": np.diag(err**2)} | ({"area": np.pi * radius**2} if profile.kind == "ee_profile" else {})
    known = {
        "pixel_scale": float(np.median(np.asarray(tree["radius_arcsec"]) / radius)),
        "background_method": "annulus" if annulus else "none",
        "failure": status.removeprefix("failed: ") if status.startswith("failed") else "",
        "status": status,
    }
    rings = {"background_ring_edges": np.array(annulus), "background_ring_coverage": np.ones(len(annulus) // 2)}
    found = _lacking(tree, found) | (rings if _lacking(tree, rings) else {})
    return _with(profile, profile.meta_key, found, _lacking(meta, known))


def completed_group(combined: Any) -> Any:
    """Fill in what a group's mean from elsewhere lacks.

    Parameters
    ----------
    combined : CombinedEEModel
        With its radii, values and their errors, those of its exposures, their annuli, and the gain.

    Returns
    -------
    CombinedEEModel
        The same where nothing is missing; else a copy, in which the radii are taken as independent where no covariance
        says otherwise, and those of an exposure as correlated like the mean's, apertures as whole circles, exposures
        as equal, and times and positions as unknown.

    Raises
    ------
    ProductError
        If it lacks something that has no sensible default.
    """
    tree, label = combined._instance, combined.meta.filename or "combined profile in memory"
    missing = [name for name in OF_A_GROUP if tree.get(name) is None]
    if missing:
        raise ProductError(f"{label}: has no {', '.join(missing)}: nothing to calibrate")
    if tree.get("exposure_ring_edges") is None or tree.get("exposure_ring_coverage") is None:
        raise ProductError(
            f"{label}: has no exposure_ring_edges and exposure_ring_coverage: the aperture correction needs to know in "
            "which annulus the background was measured; give for each exposure the edges [pix] and the coverage, 0 to "
            "1, or rows without entries where no background was subtracted"
        )
    group = tree["meta"].get("group", {})
    if group.get("gain") is None:
        raise ProductError(f"{label}: has no meta.group.gain [e-/DN]: no total count rate in electrons can be given")
    known = group_of(combined) | {"pixar_sr": combined.meta.photometry.pixelarea_steradians or PIXEL_SOLID_ANGLE}
    return _with(combined, "group", _lacking(tree, _group_defaults(tree)), _lacking(group, known))


def _lacking(tree: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The defaults of what a tree lacks."""
    return {name: value for name, value in defaults.items() if tree.get(name) is None}


def _with(model: Any, key: str, arrays: dict[str, Any], record: dict[str, Any]) -> Any:
    """A copy of a product with more arrays and metadata; itself where there are none to add."""
    if not arrays and not record:
        return model
    result = type(model)(
        dict(model._instance) | arrays | {"meta": copy.deepcopy(dict(model._instance.get("meta", {})))}
    )
    result._instance["meta"].setdefault(key, {}).update(record)
    return result


def _group_defaults(tree: dict[str, Any]) -> dict[str, Any]:
    """What stands for the arrays that a group's mean lacks."""
    err, exposure_err = (np.asarray(tree[f"{key}count_rate_err"], dtype=float) for key in ("", "exposure_"))
    flags, names = np.asarray(tree["exposure_flag"]), list(tree["exposure_names"])
    covariance = np.diag(err**2) if tree.get("covariance") is None else np.asarray(tree["covariance"])
    scale = np.outer(err, err)
    correlation = np.divide(covariance, scale, out=np.eye(err.size), where=scale > 0)
    return {
        "count_rate_err_formal": err,
        "covariance": covariance,
        "inflation": np.ones_like(err),
        **dict.fromkeys(("scatter", "chi2_dof"), np.full_like(err, np.nan)),
        "exposure_covariance": np.array([correlation * np.outer(row, row) for row in exposure_err]),
        "exposure_area": np.tile(np.pi * np.square(tree["radius"]), (len(names), 1)),
        "exposure_weight": flags / np.maximum(flags.sum(axis=0), 1),
        "exposure_filenames": names,
        "exposure_status": ["measured"] * len(names),
    } | dict.fromkeys(
        (f"exposure_{name}" for name in ("mjd", "x_center", "y_center", "background", "background_err")),
        np.full(len(names), np.nan),
    )
