"""Conversion between the dataclasses of the measurement and the data models of the products, by the schemas' names."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from niriss_eestep.combine.mean import CombinedProfile
from niriss_eestep.errors import ProductError
from niriss_eestep.instrument import PIXEL_SOLID_ANGLE
from niriss_eestep.measure.profile import EEProfile, SBProfile
from niriss_eestep.products.columns import make_table, schema_of
from niriss_eestep.products.metadata import copy_metadata, group_of
from niriss_eestep.products.models import AbsFluxModel, CombinedEEModel, CombinedSBModel, EEProfileModel, SBProfileModel

#: where a profile has what its product holds under another name
_PLACES = {
    "x_center": "centroid.x", "y_center": "centroid.y", "x_center_err": "centroid.x_err",
    "y_center_err": "centroid.y_err", "shift": "centroid.shift", "centroid_method": "centroid.method",
    "background": "background.value", "noise_correlation": "background.correlation",
}  # fmt: skip
_PLACES |= {f"sky_{name}": f"background.{name}" for name in ("curvature", "curvature_err", "is_flat")}
_PLACES |= {
    f"background_{name}": f"background.{name}"
    for name in ("err", "std", "npix", "n_rejected", "r_in", "r_out", "method", "ring_edges", "ring_coverage")
}

#: where a mean has what its product holds under the name of the measured quantity
_MEAN_PLACES = {
    name: {name: "value", f"{name}_err": "err", f"{name}_err_formal": "err_formal", "exposure_names": "names"}
    | {f"exposure_{name}": "exposure_value", f"exposure_{name}_err": "exposure_err"}
    for name in ("count_rate", "surface_brightness")
}

#: Python's types of the schemas' scalars
_TYPES = {"number": float, "integer": int, "string": str, "boolean": bool, "array": list}


def profile_model(profile: EEProfile | SBProfile, exposure: Any = None) -> EEProfileModel | SBProfileModel:
    """Make the product of a profile.

    Parameters
    ----------
    profile : EEProfile or SBProfile
    exposure : JwstDataModel, optional
        What was measured; its core metadata is copied.

    Returns
    -------
    EEProfileModel or SBProfileModel
    """
    kind = EEProfileModel if isinstance(profile, EEProfile) else SBProfileModel
    properties = schema_of(kind.schema_url).tree["properties"]
    tree = _entries(profile, properties, _PLACES)
    record = _entries(profile, properties["meta"]["properties"][kind.meta_key]["properties"], _PLACES)
    tree["radius_arcsec"] = profile.pixel_scale * profile.radius
    if isinstance(profile, EEProfile):
        tree["electron_rate"] = profile.gain * profile.count_rate
        tree["electron_rate_err"] = profile.gain * profile.count_rate_err
        if profile.stamp_flat_err is not None:
            record["flat_err_scale"] = profile.flat_err_scale
    else:
        tree["surface_brightness_mjysr"] = profile.surface_brightness * record.get("photmjsr", math.nan)
    model = kind(tree | {"meta": {kind.meta_key: record}})
    if exposure is not None:
        copy_metadata(model, exposure)
    return model


def add_integrations(model: EEProfileModel | SBProfileModel, integrations: Any) -> None:
    """Put the profiles of an exposure's integrations into its product.

    Parameters
    ----------
    model : EEProfileModel or SBProfileModel
        Product of their mean; changed in place.
    integrations : dict of str to ndarray
        From `niriss_eestep.combine.mean.combine_integrations`.
    """
    for name, values in integrations.items():
        model._instance[f"integration_{name}"] = np.array(values, dtype=np.float64)


def combined_model(
    combined: CombinedProfile, members: Sequence[Any], *, product: str = ""
) -> CombinedEEModel | CombinedSBModel:
    """Make the product of a group's EE or SB.

    Parameters
    ----------
    combined : CombinedProfile
        The mean.
    members : sequence of EEProfileModel or of SBProfileModel
        The group's exposures, one for each row of ``combined`` and in its order; the first one's core metadata is
        copied.
    product : str, optional
        Name of the association's product.

    Returns
    -------
    CombinedEEModel or CombinedSBModel

    Raises
    ------
    ProductError
        When the members are not as many as the rows.
    """
    if len(members) != len(combined.names) or not members:
        raise ProductError(f"{len(members)} exposures do not belong to a combined profile of {len(combined.names)}")
    first = members[0]
    kind = CombinedEEModel if isinstance(first, EEProfileModel) else CombinedSBModel
    records = [member._instance["meta"][member.meta_key] for member in members]
    photometry = [member.meta.photometry for member in members]
    # where no photom step has run, the value that photom would give
    area = next((p.pixelarea_steradians for p in photometry if p.pixelarea_steradians), PIXEL_SOLID_ANGLE)
    group = group_of(first) | {"product": product, "pixel_scale": records[0]["pixel_scale"], "pixar_sr": area}
    calibrations = [r.get("photmjsr") or p.conversion_megajanskys for r, p in zip(records, photometry, strict=True)]
    if any(calibrations):
        group["photmjsr"] = next(filter(None, calibrations))
    seconds = [member.meta.exposure.integration_time for member in members]
    if all(seconds):
        group["integration_time"] = float(np.mean(seconds))
    tree = _entries(combined, schema_of(kind.schema_url).tree["properties"], _MEAN_PLACES[kind.y_name])
    times = [(member.meta.exposure.mid_time, member.meta.exposure.start_time) for member in members]
    unknown = [[{"filename": member.meta.filename or "in memory"}] for member in members]
    made_of = [m._instance["meta"].get("eestep", {}).get("input") or n for m, n in zip(members, unknown, strict=True)]
    tree |= {
        "exposure_mjd": np.array([next((t for t in when if t is not None), math.nan) for when in times]),
        "exposure_filenames": [entry[0].get("filename") for entry in made_of],
        "exposure_status": [record["status"] for record in records],
        "meta": {"group": group},
    }
    for name in ("x_center", "y_center", "background", "background_err"):
        tree[f"exposure_{name}"] = np.array([record.get(name, math.nan) for record in records], dtype=float)
    for name in ("ring_edges", "ring_coverage"):
        rows = [member[f"background_{name}"] for member in members]  # of different length: NaN behind the shorter ones
        stacked = np.array(list(itertools.zip_longest(*rows, fillvalue=math.nan)), dtype=float)
        tree[f"exposure_{name}"] = np.ascontiguousarray(stacked.reshape(-1, len(rows)).T)
    if kind is CombinedEEModel:
        tree["exposure_area"] = np.array([member.area for member in members], dtype=float)
        tree["exposure_covariance"] = np.array([member.covariance for member in members], dtype=float)
        group["gain"] = first.meta.ee.gain
    else:
        tree["surface_brightness_mjysr"] = tree["surface_brightness"] * group.get("photmjsr", math.nan)
    model = kind(tree)
    copy_metadata(model, first)
    return model


def combined_profile(model: CombinedEEModel | CombinedSBModel) -> CombinedProfile:
    """Give the mean that a combined product holds.

    Parameters
    ----------
    model : CombinedEEModel or CombinedSBModel

    Returns
    -------
    CombinedProfile
    """
    places, tree = _MEAN_PLACES[model.y_name], model._instance | {"exposure_names": tuple(model.exposure_names)}
    found = {places.get(name, name): value for name, value in tree.items()}
    return CombinedProfile(**{each.name: found[each.name] for each in fields(CombinedProfile) if each.name in found})


def abs_flux_model(rows: Any, *, radius: Any, exposures: Any = (), **arrays: Sequence[Any]) -> AbsFluxModel:
    """Make the product of the absolute flux calibration.

    Parameters
    ----------
    rows : sequence of mapping, or structured ndarray
        One per group, with the columns of the schema's ``table``; a column left out is NaN, 0 or empty.
    radius : array_like, shape (n_radii,)
        [pix].
    exposures : sequence of mapping, or structured ndarray
        One per exposure, with the columns of the schema's ``exposures``.
    **arrays : sequence of array_like, shape (n_radii,)
        By group: ``radius_used``, whether the total was averaged over the radius; ``total_count_rate`` and
        ``total_count_rate_err``, the total from each radius and its standard error [DN/s]; ``ee_effective``.
        ``aperture_modes`` and ``psf_modes`` have modes in the place of radii; see the schema. Short ones are filled up
        with 0 (modes) or NaN; those that no group has are left out.

    Returns
    -------
    AbsFluxModel

    Raises
    ------
    ProductError
        When a row has a column that the table does not know.
    """
    known, tree = schema_of(AbsFluxModel.schema_url).arrays, {"radius": np.array(radius, dtype=np.float64), "meta": {}}
    tree |= {name: make_table(known[name]["columns"], of) for name, of in (("table", rows), ("exposures", exposures))}
    for name, values in arrays.items():
        longest, fill = max(map(len, values), default=0), 0.0 if name.endswith("_modes") else np.nan
        if longest:
            found = np.full((len(rows), longest), fill)
            for row, value in zip(found, values, strict=True):
                row[: len(value)] = value
            tree[name] = found.astype(known[name]["datatype"])
    return AbsFluxModel(tree)


def _entries(profile: Any, properties: dict[str, Any], places: Mapping[str, str]) -> dict[str, Any]:
    """Entries of a schema that a profile has."""
    found = {}
    for name, entry in properties.items():
        value = profile
        for attribute in places.get(name, name).split("."):
            value = getattr(value, attribute, None)
        if value is not None:
            as_array = "datatype" in entry
            found[name] = np.array(value, dtype=entry["datatype"]) if as_array else _TYPES[entry["type"]](value)
    return found
