"""Conversion between the dataclasses of the measurement and the data models of the products."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from niriss_eestep.combine.mean import CombinedProfile
from niriss_eestep.errors import ProductError
from niriss_eestep.instrument import PIXEL_SOLID_ANGLE
from niriss_eestep.measure.background import Background
from niriss_eestep.measure.pixels import PixelMap
from niriss_eestep.measure.position import Centroid
from niriss_eestep.measure.profile import CoreReport, EEProfile, SBProfile
from niriss_eestep.products.columns import make_table, table_fields
from niriss_eestep.products.groups import group_of
from niriss_eestep.products.models import (
    AbsFluxModel,
    CombinedEEModel,
    CombinedSBModel,
    EEProfileModel,
    SBProfileModel,
)
from niriss_eestep.products.provenance import copy_metadata

__all__ = [
    "abs_flux_model",
    "add_integrations",
    "combined_ee_model",
    "combined_profile",
    "combined_sb_model",
    "ee_profile",
    "ee_profile_model",
    "sb_profile_model",
]


def ee_profile_model(profile, exposure=None):
    """Make the product of an EE profile.

    Parameters
    ----------
    profile : EEProfile
    exposure : JwstDataModel, optional
        What was measured; its core metadata is copied.

    Returns
    -------
    EEProfileModel
    """
    tree = _profile_arrays(profile)
    for name in ("count_rate", "count_rate_err", "electron_rate", "electron_rate_err", "area"):
        tree[name] = _floats(getattr(profile, name))
    for name in ("n_bad", "n_repaired"):
        tree[name] = _integers(getattr(profile, name))
    tree["meta"] = {
        "ee": _star_record(profile)
        | {
            "gain": float(profile.gain),
            "core_saturated": int(profile.core.saturated),
            "core_do_not_use": int(profile.core.do_not_use),
            "core_flagged": int(profile.core.flagged),
            "bad_pixel_method": profile.bad_pixel_method,
        }
    }
    if profile.sky_covariance is not None:
        tree["sky_covariance"] = _floats(profile.sky_covariance)
    if profile.noise is not None:
        tree["noise_correlation"] = _floats(profile.noise.amplitude)
    if profile.sky_shape is not None:
        value, err = profile.sky_shape.curvature
        tree["meta"]["ee"] |= {"sky_curvature": float(value), "sky_curvature_err": float(err)}
        tree["meta"]["ee"]["sky_is_flat"] = not profile.sky_shape.is_needed
    if profile.pixels is not None:
        pixels = profile.pixels
        tree |= {"stamp": pixels.image, "stamp_repaired": pixels.repaired, "stamp_kind": pixels.kind}
        if pixels.flat_err is not None:
            tree["stamp_flat_err"] = pixels.flat_err
            tree["meta"]["ee"]["flat_err_scale"] = float(pixels.flat_scale)
        tree["meta"]["ee"] |= {"stamp_x0": int(pixels.x_origin), "stamp_y0": int(pixels.y_origin)}
    return _with_metadata(EEProfileModel(tree), exposure)


def ee_profile(model):
    """Give the EE profile that a product holds.

    Parameters
    ----------
    model : EEProfileModel

    Returns
    -------
    EEProfile
    """
    record = model._instance["meta"]["ee"]
    return EEProfile(
        radius=model.radius,
        count_rate=model.count_rate,
        covariance=model.covariance,
        area=model.area,
        n_bad=model.n_bad,
        n_repaired=model.n_repaired,
        core=CoreReport(record["core_saturated"], record["core_do_not_use"], record["core_flagged"]),
        gain=record["gain"],
        bad_pixel_method=record["bad_pixel_method"],
        pixels=_pixels(model, record),
        sky_covariance=_optional(model, "sky_covariance"),
        **_star(model, record),
    )


def _optional(model, name):
    """Give an array that older products, and those of others, do not have; None there."""
    return model[name] if name in model._instance else None


def _pixels(model, record):
    """Give the pixels around the star; None where the product has none."""
    if "stamp" not in model._instance:
        return None
    flat = model.stamp_flat_err if "stamp_flat_err" in model._instance else None
    origin = record["stamp_x0"], record["stamp_y0"]
    return PixelMap(
        model.stamp, model.stamp_repaired, model.stamp_kind, *origin, flat, record.get("flat_err_scale", 0.0)
    )


def sb_profile_model(profile, exposure=None):
    """Make the product of an SB profile.

    Parameters
    ----------
    profile : SBProfile
    exposure : JwstDataModel, optional
        What was measured; its core metadata is copied.

    Returns
    -------
    SBProfileModel
    """
    tree = _profile_arrays(profile)
    for name in ("surface_brightness", "surface_brightness_err", "surface_brightness_mjysr"):
        tree[name] = _floats(getattr(profile, name))
    for name in ("n_used", "n_clipped"):
        tree[name] = _integers(getattr(profile, name))
    tree["half_width"] = float(profile.half_width)
    record = _star_record(profile)
    if profile.photmjsr is not None:
        record["photmjsr"] = float(profile.photmjsr)
    tree["meta"] = {"sb": record}
    return _with_metadata(SBProfileModel(tree), exposure)


def add_integrations(model, integrations):
    """Put the profiles of an exposure's integrations into its product.

    Parameters
    ----------
    model : EEProfileModel or SBProfileModel
        Product of their mean; changed in place.
    integrations : Integrations
        From `niriss_eestep.measure.integrations.combine_integrations`.
    """
    name = model.y_name
    for key, value in (
        (f"integration_{name}", integrations.value),
        (f"integration_{name}_err", integrations.err),
        ("integration_scatter", integrations.scatter),
    ):
        model._instance[key] = np.array(value, dtype=np.float64)


def combined_ee_model(combined, members, *, product=""):
    """Make the product of a group's EE.

    Parameters
    ----------
    combined : CombinedProfile
        The mean.
    members : sequence of EEProfileModel
        The group's exposures, one for each row of ``combined`` and in its order; the first one's core metadata is
        copied.
    product : str, optional
        Name of the association's product.

    Returns
    -------
    CombinedEEModel

    Raises
    ------
    ProductError
        When the members are not as many as the rows.
    """
    tree = _combined_tree(combined, members, "ee", "count_rate", product)
    tree["exposure_area"] = np.array([member.area for member in members], dtype=float)
    for name in ("flat_covariance", "sky_covariance"):
        if getattr(combined, name) is not None:
            tree[name] = _floats(getattr(combined, name))
    tree["exposure_covariance"] = np.array([member.covariance for member in members], dtype=float)
    tree["meta"]["group"]["gain"] = members[0].meta.ee.gain
    return _with_metadata(CombinedEEModel(tree), members[0])


def combined_sb_model(combined, members, *, product=""):
    """Make the product of a group's SB.

    Parameters
    ----------
    combined : CombinedProfile
        The mean.
    members : sequence of SBProfileModel
        As `combined_ee_model`.
    product : str, optional
        Name of the association's product.

    Returns
    -------
    CombinedSBModel

    Raises
    ------
    ProductError
        When the members are not as many as the rows.
    """
    tree = _combined_tree(combined, members, "sb", "surface_brightness", product)
    photmjsr = tree["meta"]["group"].get("photmjsr", math.nan)
    tree["surface_brightness_mjysr"] = tree["surface_brightness"] * photmjsr
    return _with_metadata(CombinedSBModel(tree), members[0])


def combined_profile(model):
    """Give the mean that a combined product holds.

    Parameters
    ----------
    model : CombinedEEModel or CombinedSBModel

    Returns
    -------
    CombinedProfile
    """
    value = model.y_name
    return CombinedProfile(
        radius=model.radius,
        value=model[value],
        covariance=model.covariance,
        err_formal=model[f"{value}_err_formal"],
        inflation=model.inflation,
        scatter=model.scatter,
        chi2_dof=model.chi2_dof,
        n_good=model.n_good,
        names=tuple(model._instance["exposure_names"]),
        exposure_value=model[f"exposure_{value}"],
        exposure_err=model[f"exposure_{value}_err"],
        exposure_flag=model.exposure_flag,
        exposure_weight=model.exposure_weight,
        exposure_covariance=model.exposure_covariance if value == "count_rate" else None,
        flat_covariance=_optional(model, "flat_covariance"),
        sky_covariance=_optional(model, "sky_covariance"),
    )


def abs_flux_model(rows, *, radius, radius_used, total_count_rate, total_count_rate_err, ee_effective, exposures=()):
    """Make the product of the absolute flux calibration.

    Parameters
    ----------
    rows : sequence of mapping, or structured ndarray
        One per group, with the columns of the schema's ``table``; a column left out is NaN, 0 or empty.
    radius : array_like, shape (n_radii,)
        [pix].
    radius_used : array_like of bool or int, shape (n_groups, n_radii)
        Whether the total was averaged over the radius.
    total_count_rate, total_count_rate_err : array_like, shape (n_groups, n_radii)
        Total from each radius and its standard error [DN/s].
    ee_effective : array_like, shape (n_groups, n_radii)
        Effective encircled energy.
    exposures : sequence of mapping, or structured ndarray
        One per exposure, with the columns of the schema's ``exposures``.

    Returns
    -------
    AbsFluxModel

    Raises
    ------
    ProductError
        When a row has a column that the table does not know.
    """
    url = AbsFluxModel.schema_url
    radius = _floats(radius)
    shape = (len(rows), len(radius))
    return AbsFluxModel(
        {
            "table": make_table(table_fields(url, "table"), rows),
            "exposures": make_table(table_fields(url, "exposures"), exposures),
            "radius": radius,
            "radius_used": np.asarray(radius_used, dtype=np.int8).reshape(shape),
            "total_count_rate": _floats(total_count_rate).reshape(shape),
            "total_count_rate_err": _floats(total_count_rate_err).reshape(shape),
            "ee_effective": _floats(ee_effective).reshape(shape),
            "meta": {},
        }
    )


def _floats(values):
    return np.array(values, dtype=np.float64)


def _integers(values):
    return np.array(values, dtype=np.int64)


def _with_metadata(model, source):
    if source is not None:
        copy_metadata(model, source)
    return model


def _profile_arrays(profile: EEProfile | SBProfile):
    """Arrays that both kinds of profile have."""
    return {
        "radius": _floats(profile.radius),
        "radius_arcsec": _floats(profile.radius_arcsec),
        "covariance": _floats(profile.covariance),
        "background_ring_edges": _floats(profile.background.ring_edges),
        "background_ring_coverage": _floats(profile.background.ring_coverage),
    }


def _star_record(profile: EEProfile | SBProfile):
    """Metadata that both kinds of profile have."""
    centroid, background = profile.centroid, profile.background
    return {
        "x_center": float(centroid.x),
        "y_center": float(centroid.y),
        "x_center_err": float(centroid.x_err),
        "y_center_err": float(centroid.y_err),
        "shift": float(centroid.shift),
        "centroid_method": centroid.method,
        "pixel_scale": float(profile.pixel_scale),
        "background": float(background.value),
        "background_err": float(background.err),
        "background_std": float(background.std),
        "background_npix": int(background.npix),
        "background_n_rejected": int(background.n_rejected),
        "background_r_in": float(background.r_in),
        "background_r_out": float(background.r_out),
        "background_method": background.method,
        "status": profile.status,
        "warnings": list(profile.warnings),
        "failure": profile.failure,
    }


def _star(model, record):
    """Undo `_star_record`."""
    return {
        "centroid": Centroid(
            x=record["x_center"],
            y=record["y_center"],
            x_err=record.get("x_center_err", math.nan),
            y_err=record.get("y_center_err", math.nan),
            shift=record.get("shift", math.nan),
            method=record.get("centroid_method", ""),
        ),
        "background": Background(
            value=record["background"],
            err=record["background_err"],
            std=record.get("background_std", math.nan),
            npix=record.get("background_npix", 0),
            n_rejected=record.get("background_n_rejected", 0),
            r_in=record["background_r_in"],
            r_out=record["background_r_out"],
            ring_edges=model.background_ring_edges,
            ring_coverage=model.background_ring_coverage,
            method=record["background_method"],
        ),
        "pixel_scale": record["pixel_scale"],
        "warnings": tuple(record.get("warnings", ())),
        "failure": record.get("failure", ""),
    }


def _combined_tree(combined: CombinedProfile, members: Sequence, key, value, product):
    """Tree that both kinds of combined product have."""
    if len(members) != len(combined.names) or not members:
        raise ProductError(f"{len(members)} exposures do not belong to a combined profile of {len(combined.names)}")
    records = [member._instance["meta"][key] for member in members]
    tree = {
        "radius": _floats(combined.radius),
        value: _floats(combined.value),
        f"{value}_err": _floats(combined.err),
        f"{value}_err_formal": _floats(combined.err_formal),
        f"exposure_{value}": _floats(combined.exposure_value),
        f"exposure_{value}_err": _floats(combined.exposure_err),
        "exposure_flag": _integers(combined.exposure_flag),
        "n_good": _integers(combined.n_good),
        "exposure_mjd": _floats([_mjd(member) for member in members]),
        "exposure_ring_edges": _stack([member.background_ring_edges for member in members]),
        "exposure_ring_coverage": _stack([member.background_ring_coverage for member in members]),
        "exposure_names": list(combined.names),
        "exposure_filenames": [_input_name(member) for member in members],
        "exposure_status": [record["status"] for record in records],
        "meta": {"group": _group_record(members, records, product)},
    }
    for name in ("covariance", "inflation", "scatter", "chi2_dof", "exposure_weight"):
        tree[name] = _floats(getattr(combined, name))
    for name in ("x_center", "y_center", "background", "background_err"):
        tree[f"exposure_{name}"] = _floats([record.get(name, math.nan) for record in records])
    return tree


def _stack(rows):
    """Stack rows of different length, NaN behind the shorter ones."""
    stacked = np.full((len(rows), max(len(row) for row in rows)), np.nan)
    for target, row in zip(stacked, rows, strict=True):
        target[: len(row)] = row
    return stacked


def _group_record(members, records, product):
    """What the exposures of a group have in common, from the first that has it."""
    scale = records[0]["pixel_scale"]
    photometry = [member.meta.photometry for member in members]
    # where no photom step has run, the value that photom would give
    area = next((p.pixelarea_steradians for p in photometry if p.pixelarea_steradians), PIXEL_SOLID_ANGLE)
    record = group_of(members[0]) | {
        "product": product,
        "pixel_scale": scale,
        "pixar_sr": area,
    }
    calibrations = [r.get("photmjsr") or p.conversion_megajanskys for r, p in zip(records, photometry, strict=True)]
    photmjsr = next((calibration for calibration in calibrations if calibration), None)
    if photmjsr is not None:
        record["photmjsr"] = photmjsr
    return record


def _mjd(model):
    """Middle of the exposure, else its start [MJD]."""
    times = model.meta.exposure.mid_time, model.meta.exposure.start_time
    return next((time for time in times if time is not None), math.nan)


def _input_name(model):
    """Name of the file that an exposure's product was made from."""
    record = model._instance["meta"].get("eestep", {}).get("input") or []
    return record[0]["filename"] if record else model.meta.filename or "in memory"
