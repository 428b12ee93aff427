"""Profiles that were not made by the steps here, completed with what averaging them needs."""

from __future__ import annotations

import copy

import numpy as np

__all__ = ["completed"]


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
