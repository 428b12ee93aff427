"""Profiles that were not made by the steps here, completed with what averaging and calibrating them needs."""

import copy

import numpy as np

from niriss_eestep.errors import ProductError
from niriss_eestep.instrument import PIXEL_SOLID_ANGLE
from niriss_eestep.products.groups import group_of

#: what a group's mean must have
OF_A_GROUP = (
    "radius", "count_rate", "count_rate_err", "n_good", "exposure_count_rate", "exposure_count_rate_err",
    "exposure_flag", "exposure_names",
)  # fmt: skip

#: ... and what stands for something else where it lacks it, as `_group_defaults` says
MAY_LACK = tuple(
    """count_rate_err_formal covariance inflation scatter chi2_dof exposure_covariance exposure_area exposure_weight
    exposure_filenames exposure_status exposure_mjd exposure_x_center exposure_y_center exposure_background
    exposure_background_err""".split()  # noqa: SIM905 - a list of them would take fifteen lines
)


def completed(profile):
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
    tree, found = profile._instance, {}
    meta = tree.get("meta", {}).get(profile.meta_key, {})
    if tree.get("covariance") is None:
        found["covariance"] = np.diag(np.square(np.asarray(tree[f"{profile.y_name}_err"], dtype=np.float64)))
    if tree.get("area") is None and profile.kind == "ee_profile":
        found["area"] = np.pi * np.square(np.asarray(tree["radius"], dtype=np.float64))
    r_in, r_out = (meta.get(f"background_r_{side}") or 0.0 for side in ("in", "out"))
    has_annulus = r_out > r_in
    if tree.get("background_ring_edges") is None or tree.get("background_ring_coverage") is None:
        found["background_ring_edges"] = np.array([r_in, r_out] if has_annulus else [], dtype=np.float64)
        found["background_ring_coverage"] = np.ones(1 if has_annulus else 0)
    status = str(meta.get("status") or "measured")
    known = {
        "pixel_scale": float(np.median(np.asarray(tree["radius_arcsec"]) / np.asarray(tree["radius"]))),
        "background_method": "annulus" if has_annulus else "none",
        "failure": status.removeprefix("failed: ") if status.startswith("failed") else "",
        "status": status,
    }
    known = {key: value for key, value in known.items() if meta.get(key) is None}
    if not found and not known:
        return profile
    result = type(profile)(dict(tree) | found | {"meta": copy.deepcopy(dict(tree.get("meta", {})))})
    result._instance["meta"].setdefault(profile.meta_key, {}).update(known)
    return result


def completed_group(combined):
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
        raise ProductError(
            f"{label}: has no meta.group.gain [e-/DN]: the total count rate cannot be given in electrons"
        )
    known = {key: value for key, value in group_of(combined).items() if group.get(key) is None}
    if group.get("pixar_sr") is None:
        known["pixar_sr"] = combined.meta.photometry.pixelarea_steradians or PIXEL_SOLID_ANGLE
    if not known and all(tree.get(name) is not None for name in MAY_LACK):
        return combined
    found = {name: value for name, value in _group_defaults(tree).items() if tree.get(name) is None}
    result = type(combined)(dict(tree) | found | {"meta": copy.deepcopy(dict(tree["meta"]))})
    result._instance["meta"]["group"].update(known)
    return result


def _group_defaults(tree):
    """What stands for the arrays that a group's mean lacks."""
    err, exposure_err = (np.asarray(tree[f"{key}count_rate_err"], dtype=float) for key in ("", "exposure_"))
    flags, names = np.asarray(tree["exposure_flag"]), list(tree["exposure_names"])
    covariance = np.diag(err**2) if tree.get("covariance") is None else np.asarray(tree["covariance"])
    scale = np.outer(err, err)
    correlation = np.divide(covariance, scale, out=np.eye(err.size), where=scale > 0)
    unknown = np.full(len(names), np.nan)
    defaults = (
        err,
        covariance,
        np.ones_like(err),
        np.full_like(err, np.nan),
        np.full_like(err, np.nan),
        np.array([correlation * np.outer(row, row) for row in exposure_err]),
        np.tile(np.pi * np.square(tree["radius"]), (len(names), 1)),
        flags / np.maximum(flags.sum(axis=0), 1),
        names,
        ["measured"] * len(names),
        *[unknown] * 5,
    )
    return dict(zip(MAY_LACK, defaults, strict=True))
