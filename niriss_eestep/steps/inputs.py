"""What a step is given: files, models, lists, associations; and the exposures in them."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jwst.lib.suffix import remove_suffix
from stpipe.datamodel import AbstractDataModel
from stpipe.library import AbstractModelLibrary

from niriss_eestep.exceptions import AssociationError, ExposureError
from niriss_eestep.products.io import DAMAGE
from niriss_eestep.steps.fits_check import check_fits
from niriss_eestep.text import printable

__all__ = ["Member", "Product", "exposure_root", "gather", "safe_name", "science_metadata"]

log = logging.getLogger(__name__)

OUR_SUFFIXES = ("eeprofile", "sbprofile", "eecombined", "sbcombined", "absflux", "report")


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One exposure or product to process.

    Parameters
    ----------
    name : str
        Root of its file name, without the product's suffix.
    source : Path or DataModel
    """

    name: str
    source: object

    @property
    def filename(self):
        """The file's name; that of the model where it is in memory."""
        name = self.source.name if isinstance(self.source, Path) else self.source.meta.filename
        return printable(name or self.name)


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """One product of an association: its name, None for a plain list, and its members."""

    name: str | None
    members: tuple[Member, ...]


def exposure_root(filename):
    """Return the root of a file name: no directory, extension or product suffix, nothing unprintable.

    Parameters
    ----------
    filename : str or Path

    Returns
    -------
    str
    """
    stem = printable(Path(str(filename)).name)
    stem = re.sub(r"\.(fits|asdf|json)(\.gz)?$", "", stem)
    for suffix in OUR_SUFFIXES:
        if stem.endswith(f"_{suffix}"):
            return stem[: -len(suffix) - 1]
    return remove_suffix(stem)[0]


def safe_name(name):
    """Make text safe as a part of a file name.

    Parameters
    ----------
    name : str

    Returns
    -------
    str
        Lower case; letters, digits, ``+-.`` are kept, runs of anything else become one ``-``.
    """
    return re.sub(r"[^a-z0-9+.-]+", "-", str(name).lower()).strip("-.") or "unnamed"


def _check_product_name(path, name):
    """Refuse a product name that is not a plain file name."""
    if not isinstance(name, str) or not name or name != Path(name).name or name in (".", "..") or "\0" in name:
        msg = f"{path}: product name {name!r} is not a plain file name; products are written into output_dir only"
        raise AssociationError(msg)
    if not name.isprintable():
        msg = f"{path}: product name {name!r} has characters that cannot be printed"
        raise AssociationError(msg)
    return name


def _load_association(path):
    """Products of an association file, with the science members' paths."""
    try:
        association = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise AssociationError(msg) from error
    except (ValueError, RecursionError) as error:
        msg = f"{path}: not an association: not JSON ({error})"
        raise AssociationError(msg) from error
    products = association.get("products") if isinstance(association, dict) else None
    if not isinstance(products, list) or not products:
        msg = f"{path}: not an association: no products"
        raise AssociationError(msg)
    return [_asn_product(path, product) for product in products]


def _asn_product(path, product):
    if not isinstance(product, dict) or not isinstance(product.get("members"), list):
        msg = f"{path}: a product without members"
        raise AssociationError(msg)
    name = _check_product_name(path, product.get("name"))
    members, other = [], Counter()
    for entry in product["members"]:
        expname = entry.get("expname") if isinstance(entry, dict) else None
        if not isinstance(expname, str) or not expname or "\0" in expname:
            msg = f"{path}: product {name} has a member without expname"
            raise AssociationError(msg)
        kind = str(entry.get("exptype", "")).lower()
        if kind == "science":
            members.append(Member(exposure_root(expname), path.parent / expname))
        else:
            other[kind] += 1
    if other:
        ignored = ", ".join(f"{n} {kind}" for kind, n in sorted(other.items()))
        log.info("%s: product %s: members other than science are not used: %s", path.name, name, ignored)
    return Product(name, tuple(members))


def _members(item, input_dir):
    """Members of anything that is not an association."""
    if isinstance(item, AbstractModelLibrary):
        with item:
            models = list(item)
            for index, model in enumerate(models):
                item.shelve(model, index, modify=False)
        return [m for model in models for m in _members(model, input_dir)]
    if isinstance(item, AbstractDataModel) and not isinstance(item, Sequence):
        return [Member(exposure_root(item.meta.filename or "exposure"), item)]
    if isinstance(item, (str, Path)):
        path = Path(item)
        if input_dir and not path.is_absolute() and len(path.parts) == 1:
            path = Path(input_dir) / path
        if any(c in str(item) for c in "*?[") and not path.exists():
            found = sorted(path.parent.glob(path.name))
            if not found:
                msg = f"{item}: no file fits this pattern"
                raise ExposureError(msg)
            return [Member(exposure_root(f), f) for f in found]
        return [Member(exposure_root(path), path)]
    if isinstance(item, Sequence):
        return [m for entry in item for m in _members(entry, input_dir)]
    msg = f"cannot take a {type(item).__name__} as input; give a file, an association, a model or a list of them"
    raise ExposureError(msg)


def gather(inputs, *, input_dir=None):
    """Find the exposures in what a step is given.

    Parameters
    ----------
    inputs : sequence
        Arguments of ``process``: files, globs, associations, models, containers, libraries, lists of these.
    input_dir : str, optional
        Directory of bare file names.

    Returns
    -------
    list of Product

    Raises
    ------
    AssociationError
        If an association cannot be read, or an exposure's name occurs twice in a product.
    ExposureError
        If an input is of no use.
    """
    products, loose = [], []
    for item in inputs:
        if isinstance(item, (str, Path)) and str(item).lower().endswith(".json"):
            path = Path(item)
            if input_dir and len(path.parts) == 1 and not path.exists():
                path = Path(input_dir) / path
            products += _load_association(path)
        else:
            loose += _members(item, input_dir)
    if loose:
        products.append(Product(None, tuple(loose)))
    for product in products:
        _check_distinct(product)
    return products


def _check_distinct(product):
    """Refuse two members whose products would have the same name."""
    seen = {}
    for member in product.members:
        key = (member.name, Path(str(member.filename)).suffix == ".asdf" and str(member.filename))
        if key in seen:
            msg = (
                f"{member.source if isinstance(member.source, Path) else member.filename} and "
                f"{seen[key]} have the same exposure name {member.name}: one product would overwrite the other"
            )
            raise AssociationError(msg)
        seen[key] = member.source if isinstance(member.source, Path) else member.filename


def science_metadata(dataset):
    """Read the flat metadata of the first science exposure, for looking up parameters and references.

    Parameters
    ----------
    dataset : str, Path, DataModel, container, library or list

    Returns
    -------
    dict
        ``meta.instrument.filter`` and so on; empty where there is no exposure that can be read.
    """
    if isinstance(dataset, dict):
        return dataset
    try:
        products = gather([dataset])
    except (AssociationError, ExposureError) as error:
        # the step itself will say so, with its own message
        log.debug("no parameters can be looked up: %s", error)
        return {}
    for member in (m for product in products for m in product.members):
        if not isinstance(member.source, Path):
            return member.source.get_crds_parameters()
        found = file_metadata(member.source)
        if found:
            return found
    return {}


def file_metadata(path):
    """Read a file's flat metadata without its arrays.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict
        Empty where the file cannot be read, or has none.
    """
    from stdatamodels.jwst.datamodels import read_metadata

    if not path.is_file():
        return {}
    try:
        if path.suffix != ".asdf":
            check_fits(path)
        found = read_metadata(path)
    except (ExposureError, *DAMAGE) as error:
        # a cut-out without ASDF extension, or no JWST file at all: opening it will tell
        log.debug("%s: no metadata: %s", path, error)
        return {}
    return {k: v for k, v in found.items() if isinstance(v, (str, int, float, bool))}
