"""The products of one association that a report is made of, from memory or from their directory."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from niriss_eestep.errors import ProductError

_ABSFLUX = "_absflux.asdf"


@dataclass(frozen=True, slots=True)
class Bundle:
    """An absolute-flux product, and what it was made of.

    Parameters
    ----------
    abs_flux : AbsFluxModel
    combined_ee, combined_sb : dict of str to CombinedEEModel or CombinedSBModel
        By the file name of the group's combined EE product.
    ee_profiles, sb_profiles : dict of str to EEProfileModel or SBProfileModel
        By the exposure's name.
    remarks : list of str
        What is missing, or does not belong.
    """

    abs_flux: object
    combined_ee: dict = field(default_factory=dict)
    combined_sb: dict = field(default_factory=dict)
    ee_profiles: dict = field(default_factory=dict)
    sb_profiles: dict = field(default_factory=dict)
    remarks: list = field(default_factory=list)

    @property
    def name(self):
        """Name of the association's product."""
        return (self.abs_flux.meta.filename or "in memory").removesuffix(_ABSFLUX)


def bundle_of_models(abs_flux, combined=(), profiles=()):
    """Put together products in memory.

    Parameters
    ----------
    abs_flux : AbsFluxModel
    combined : iterable of CombinedEEModel and CombinedSBModel
    profiles : iterable of EEProfileModel and SBProfileModel

    Returns
    -------
    Bundle
    """
    bundle = Bundle(abs_flux)
    for model in combined:
        named = (model.meta.filename or "").replace("_sbcombined", "_eecombined")
        (bundle.combined_ee if model.kind == "combined_ee" else bundle.combined_sb)[named] = model
    for model in profiles:
        stem = (model.meta.filename or "").removesuffix(".asdf")
        ee = model.kind == "ee_profile"
        (bundle.ee_profiles if ee else bundle.sb_profiles)[stem.removesuffix("_eeprofile" if ee else "_sbprofile")] = (
            model
        )
    return bundle


def read_bundle(path):
    """Read an absolute-flux product, and the products beside it that it was made of.

    Parameters
    ----------
    path : str or Path
        Of the ``_absflux.asdf`` file.

    Returns
    -------
    Bundle
        A product that is missing, damaged or of another run is left out; ``remarks`` say so.

    Raises
    ------
    ProductError
        If the file itself cannot be read, or is another kind of product.
    """
    from niriss_eestep import products

    path = Path(path)
    abs_flux = products.open(path)
    if abs_flux.kind != "abs_flux":
        raise ProductError(
            f"{path}: is a {type(abs_flux).__name__}; a report is made of an absolute-flux product (*{_ABSFLUX})"
        )
    bundle = Bundle(abs_flux)
    for name in dict.fromkeys(str(row["product"]) for row in abs_flux.exposures if row["product"]):
        model = _beside(path, name, "combined_ee", bundle.remarks)
        if model is not None and _agrees(model, abs_flux, name, bundle.remarks):
            bundle.combined_ee[name] = model
            _read_group(path, name, model, bundle)
    return bundle


def _read_group(path, name, combined, bundle):
    """Read what belongs to a group's combined EE product."""
    sb = _beside(path, name.replace("_eecombined", "_sbcombined"), "combined_sb", None)
    if sb is not None:
        bundle.combined_sb[name] = sb
    for i, exposure in enumerate(combined.exposure_names):
        ee = _beside(path, f"{exposure}_eeprofile.asdf", "ee_profile", bundle.remarks)
        if ee is not None:
            if np.array_equal(ee.count_rate, combined.exposure_count_rate[i], equal_nan=True):
                bundle.ee_profiles[exposure] = ee
            else:
                bundle.remarks.append(f"{exposure}_eeprofile.asdf is of another run than {name}: not shown")
        sb = _beside(path, f"{exposure}_sbprofile.asdf", "sb_profile", None)
        if sb is not None:
            bundle.sb_profiles[exposure] = sb


def _beside(path, name, kind, remarks):
    """Open a product in the same directory; None, with a remark where wanted, if that cannot be done."""
    from niriss_eestep import products

    if Path(name).name != name:  # a name in a file is not to lead to another directory
        return None
    try:
        model = products.open(path.parent / name)
    except ProductError as error:
        if remarks is not None:
            remarks.append(f"not shown: {error}")
        return None
    return model if model.kind == kind else None


def _agrees(combined, abs_flux, name, remarks):
    """Whether a combined product holds the numbers that the absolute flux was made of."""
    rows = abs_flux.exposures[abs_flux.exposures["product"] == name]
    rates = dict(zip(combined.exposure_names, combined.exposure_count_rate, strict=True))
    for row in rows:
        at = np.flatnonzero(combined.radius == row["radius"])
        found = rates.get(str(row["exposure"]))
        if found is None or not at.size or not np.array_equal(found[at[0]], row["count_rate"], equal_nan=True):
            remarks.append(f"{name} is of another run than the absolute-flux product: not shown")
            return False
    return True
