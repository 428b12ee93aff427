"""What a report is made of: the products of one association, from memory or their directory, and their PSF."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from niriss_eestep import products
from niriss_eestep.arrays import Array
from niriss_eestep.errors import NirissEEError, ProductError
from niriss_eestep.products.models import AbsFluxModel, CombinedEEModel, EEProfileModel, ProductModel
from niriss_eestep.reference import PSFEE, load_psfee

Products = Iterable[ProductModel]


@dataclass(frozen=True, slots=True)
class Bundle:
    """An absolute-flux product, and the products that it was made of.

    Parameters
    ----------
    abs_flux : AbsFluxModel
    models : dict of str to ProductModel
        The other products by their file names.
    remarks : list of str
        Which products are missing, or belong to another run.
    """

    abs_flux: AbsFluxModel
    models: dict[str, ProductModel] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of the association's product."""
        return str(self.abs_flux.meta.filename or "in memory").removesuffix("_absflux.asdf")

    def of_kind(self, kind: str) -> list[ProductModel]:
        """Return the products of one kind, such as 'ee_profile'.

        Parameters
        ----------
        kind : str

        Returns
        -------
        list of ProductModel
        """
        return [model for model in self.models.values() if model.kind == kind]


def bundle_of_models(abs_flux: AbsFluxModel, combined: Products = (), profiles: Products = ()) -> Bundle:
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
    return Bundle(abs_flux, {model.meta.filename or "": model for model in (*combined, *profiles)})


def read_bundle(path: str | Path) -> Bundle:
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
    path = Path(path)
    abs_flux = products.open(path)
    if abs_flux.kind != "abs_flux":
        raise ProductError(f"{path}: holds {type(abs_flux).__name__}; reports are made of *_absflux.asdf products")
    bundle = Bundle(abs_flux)
    for name in dict.fromkeys(str(row["product"]) for row in abs_flux.exposures if row["product"]):
        combined = _add(bundle, path, name, "combined_ee", partial(_is_mean_of, abs_flux, name))
        if not isinstance(combined, CombinedEEModel):
            continue
        stem = name.rpartition(subarray := f"_{combined.meta.group.subarray}_".lower())[0]  # its suffix may be another
        _add(bundle, path, f"{stem}{subarray}sbcombined.asdf", "combined_sb")
        for exposure, rates in zip(combined.exposure_names, combined.exposure_count_rate, strict=True):
            _add(bundle, path, f"{exposure}_eeprofile.asdf", "ee_profile", partial(_has_rates, rates))
            _add(bundle, path, f"{exposure}_sbprofile.asdf", "sb_profile")
    return bundle


def _add(
    bundle: Bundle, path: Path, name: str, kind: str, belongs: Callable[..., bool] | None = None
) -> ProductModel | None:
    """Open a product beside the absolute flux; one that is missing or of another run is left out, with a remark.

    A product without a test of what belongs is one that the page can do without: it needs no remark.
    """
    if Path(name).name != name:  # a name in a file is not to lead to another directory
        return None
    try:
        model = products.open(path.with_name(name))
    except ProductError as error:
        if belongs is not None:
            bundle.remarks.append(f"not shown: {error}")
        return None
    if model.kind != kind:
        return None
    if belongs is not None and not belongs(model):
        bundle.remarks.append(f"{name} is of another run than {path.name}: not shown")
        return None
    bundle.models[name] = model
    return model


def _has_rates(rates: Array, profile: EEProfileModel) -> bool:
    """Whether a profile has the count rates that its group was averaged from."""
    return np.array_equal(profile.count_rate, rates, equal_nan=True)


def _is_mean_of(abs_flux: AbsFluxModel, name: str, combined: CombinedEEModel) -> bool:
    """Whether a combined product holds the count rates that the absolute flux was made of."""
    rates = dict(zip(combined.exposure_names, combined.exposure_count_rate, strict=True))
    rows = abs_flux.exposures[abs_flux.exposures["product"] == name]
    if not set(rows["exposure"].tolist()) <= set(rates):
        return False
    found = [rates[row["exposure"]][combined.radius == row["radius"]] for row in rows]
    return all(np.array_equal(f, [r], equal_nan=True) for f, r in zip(found, rows["count_rate"], strict=True))


def resolve_psfee(name: str | None) -> tuple[PSFEE, str]:
    """Find again the psfee reference that a product was made with.

    Parameters
    ----------
    name : str or None
        As the product's ``meta.ref_file.psfee.name`` has it: a path, ``crds://FILE``, or ``packaged ...``.

    Returns
    -------
    psfee : PSFEE
        The packaged one where the reference is not to be found.
    remark : str
        Why it was not found; empty where it was.
    """
    if not name or name == "N/A" or name.startswith("packaged"):
        return load_psfee(), ""
    paths = [Path(name)]
    if name.startswith("crds://"):
        cache = Path(os.environ.get("CRDS_PATH", "/nowhere")) / "references" / "jwst"
        paths = [folder / name.removeprefix("crds://") for folder in (cache / "niriss", cache)]
    try:
        return load_psfee(next(filter(Path.exists, paths), paths[0])), ""
    except NirissEEError as error:
        return load_psfee(), f"psfee reference: {error}; the packaged encircled energy is drawn instead"
