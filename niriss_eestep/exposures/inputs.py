"""What a step is given: files, models, lists, associations; and the exposures in them."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from jwst.lib.suffix import remove_suffix
from stpipe.datamodel import AbstractDataModel
from stpipe.library import AbstractModelLibrary

from niriss_eestep.errors import AssociationError, ExposureError, printable, reading, regular_file
from niriss_eestep.guards.fits_file import SIZE_MAX
from niriss_eestep.products.groups import group_names, group_of

__all__ = ["Member", "Product", "exposure_root", "gather", "group_members", "safe_name", "science_metadata"]

log = logging.getLogger(__name__)

#: file systems take names of 255 bytes; target, filter, subarray and suffix follow a product's name
NAME_MAX = 150

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
        raise AssociationError(
            f"{path}: product name {name!r} is not a plain file name; products are written into output_dir only"
        )
    if len(name.encode(errors="replace")) > NAME_MAX:
        raise AssociationError(
            f"{path}: product name {name[:20]!r}... has {len(name)} characters; it may have {NAME_MAX}"
        )
    if not name.isprintable():
        raise AssociationError(f"{path}: product name {name!r} has characters that cannot be printed")
    return name


def _load_association(path):
    """Products of an association file, with the science members' paths."""
    try:
        association = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AssociationError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise AssociationError(f"{path}: not an association: not JSON ({error})") from error
    return _asn_products(path, association)


def _asn_products(path, association):
    """Products of an association; its members' paths are relative to ``path``'s directory."""
    products = association.get("products") if isinstance(association, Mapping) else None
    if not isinstance(products, list) or not products:
        raise AssociationError(f"{path}: not an association: no products")
    kind = str(association.get("asn_type", ""))
    if kind.lower().startswith("tso"):
        raise AssociationError(
            f"{path}: association type {kind}: time series are not combined here; give the exposures one by one"
        )
    return [_asn_product(path, product) for product in products]


def _asn_product(path, product):
    if not isinstance(product, Mapping) or not isinstance(product.get("members"), list):
        raise AssociationError(f"{path}: a product without members")
    name = _check_product_name(path, product.get("name"))
    members, other = [], Counter()
    for entry in product["members"]:
        expname = entry.get("expname") if isinstance(entry, Mapping) else None
        if not isinstance(expname, str) or not expname or "\0" in expname:
            raise AssociationError(f"{path}: product {name} has a member without expname")
        kind = str(entry.get("exptype", "")).lower()
        if kind == "science":
            members.append(Member(exposure_root(expname), path.parent / expname))
        else:
            other[kind] += 1
    if other:
        ignored = ", ".join(f"{n} {kind}" for kind, n in sorted(other.items()))
        log.info("%s: product %s: members other than science are not used: %s", path.name, name, ignored)
    return Product(name, tuple(members))


def _collection(item):
    """Product of a library or container of models: its name, where an association gave it one, and science members."""
    if isinstance(item, AbstractModelLibrary):
        with item:
            models = list(item)
            for index, model in enumerate(models):
                item.shelve(model, index, modify=False)
        # a library of a plain list has a product without name
        name = item.asn["products"][0].get("name") or None
    else:
        models = list(item)
        name = item.asn_table["products"][0]["name"] if getattr(item, "asn_file_path", None) else None
    kinds = [str(model.meta.asn.exptype or "science").lower() for model in models]
    science = [model for model, kind in zip(models, kinds, strict=True) if kind == "science"]
    if len(science) < len(models):
        log.info("%d members other than science are not used", len(models) - len(science))
    return Product(name, tuple(_model_member(model) for model in science))


def _model_member(model):
    return Member(exposure_root(model.meta.filename or "exposure"), model)


def _paths(item, input_dir):
    """Paths that a file name or pattern stands for."""
    path = Path(item)
    if input_dir and not path.is_absolute() and len(path.parts) == 1 and not path.exists():
        path = Path(input_dir) / path
    if path.is_dir():
        raise AssociationError(
            f"{path}: is a directory: make its associations (niriss-ee asn {path}) and give one of them, or give files"
        )
    if not any(c in str(item) for c in "*?[") or path.exists():
        return [path]
    found = sorted(Path(name) for name in glob(str(path), recursive=True))
    if not found:
        raise ExposureError(f"{item}: no file fits this pattern")
    return found


def _products(item, input_dir):
    """Products of one input: named ones, of associations; one without name for anything else."""
    if isinstance(item, AbstractModelLibrary):
        return [_collection(item)]
    if isinstance(item, AbstractDataModel) and not isinstance(item, Sequence):
        return [Product(None, (_model_member(item),))]
    if isinstance(item, Mapping):
        return _asn_products(Path("association in memory"), item)
    if isinstance(item, (str, Path)):
        found = []
        for path in _paths(item, input_dir):
            if path.suffix.lower() == ".json":
                found += _load_association(path)
            else:
                found.append(Product(None, (Member(exposure_root(path), path),)))
        return found
    if isinstance(item, Sequence):
        if hasattr(item, "asn_table"):
            return [_collection(item)]
        return [product for entry in item for product in _products(entry, input_dir)]
    raise ExposureError(
        f"cannot take a {type(item).__name__} as input; give a file, an association, a model or a list of them"
    )


def gather(inputs, *, input_dir=None, distinct=True):
    """Find the exposures in what a step is given.

    Parameters
    ----------
    inputs : sequence
        Arguments of ``process``: files, globs, associations, models, containers, libraries, lists of these.
    input_dir : str, optional
        Directory of bare file names.
    distinct : bool, optional
        Refuse inputs whose results would have the same name; of no concern to a step that makes one result of all.

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
    found = [product for item in inputs for product in _products(item, input_dir)]
    products = [product for product in found if product.name is not None]
    loose = tuple(member for product in found if product.name is None for member in product.members)
    if loose:
        products.append(Product(None, loose))
    if distinct:
        _check_distinct(products)
    return products


def _check_distinct(products):
    """Refuse what would overwrite its own results: members, or products, of the same name."""
    sources = {}
    for product in products:
        inside = set()
        for member in product.members:
            # products of two steps have the same root and other suffixes
            own = str(member.filename) if Path(str(member.filename)).suffix == ".asdf" else ""
            key = (member.name, own)
            source = member.source.absolute() if isinstance(member.source, Path) else member.source
            other = sources.setdefault(key, source)
            # one exposure may belong to several products of an association
            if key in inside or (other is not source and other != source):
                raise AssociationError(
                    f"{_called(source)} and {_called(other)} have the same exposure name {member.name}: one product "
                    "would overwrite the other; rename one, or run them apart, with output directories of their own"
                )
            inside.add(key)
    counts = Counter(product.name for product in products)
    several = [name for name, n in counts.items() if n > 1]
    if several:
        raise AssociationError(
            f"{counts[several[0]]} products are called {several[0]}: one would overwrite the other; rename them"
        )


def _called(source):
    """Call an input by its path, or a model by its file name."""
    return str(source) if isinstance(source, Path) else f"a model of {source.meta.filename or 'no name'}"


def group_members(members):
    """Sort exposures into the groups that are averaged, by what their primary headers say.

    Measured group by group, no more exposures than those of one group need be in memory.

    Parameters
    ----------
    members : sequence of Member

    Returns
    -------
    dict of (str, str, str, str) to list of Member
        By target, filter, pupil and subarray, in the order of their first members; all empty for those whose header
        cannot be read.
    """
    groups = {}
    for member in members:
        groups.setdefault(_group_key(member.source, len(members)), []).append(member)
    return groups


def _group_key(source, n_files):
    if not isinstance(source, Path):
        return tuple(group_of(source).values())
    from niriss_eestep.exposures.fits_image import group_header

    try:
        with reading(source, "a FITS file", ExposureError):
            header = group_header(source, n_files)
            # astropy reads a card when it is asked for it
            found = [header.get("TARGPROP") or header.get("TARGNAME")]
            found += [header.get(key) for key in ("FILTER", "PUPIL", "SUBARRAY")]
    except ExposureError as error:
        # opening it will tell
        log.debug("no header: %s", error)
        return ("", "", "", "")
    if all(isinstance(value, str) for value in found):
        return tuple(group_names(*found).values())
    # what a header lacks, the ASDF extension may have: the group is then that of the opened exposure
    return tuple(metadata_group(file_metadata(source)).values())


def metadata_group(metadata):
    """Name the group of an exposure by its flat metadata.

    Parameters
    ----------
    metadata : dict
        ``meta.instrument.filter`` and so on.

    Returns
    -------
    dict
        As `group_of`.
    """
    target = metadata.get("meta.target.proposer_name") or metadata.get("meta.target.catalog_name")
    keys = ("meta.instrument.filter", "meta.instrument.pupil", "meta.subarray.name")
    return group_names(target, *(metadata.get(key) for key in keys))


def science_metadata(dataset):
    """Read the flat metadata of the first science exposure, for looking up parameters and references.

    Parameters
    ----------
    dataset : str, Path, DataModel, container, library, association or list

    Returns
    -------
    dict
        ``meta.instrument.filter`` and so on; empty where there is no exposure that can be read.
    """
    if isinstance(dataset, dict) and "products" not in dataset:
        return dataset
    try:
        products = gather([dataset])
    except (AssociationError, ExposureError) as error:
        # the step itself will say so, with its own message
        log.debug("no parameters can be looked up: %s", error)
        return {}
    return metadata_of([member for product in products for member in product.members])


def metadata_of(members):
    """Read the flat metadata of the first member that has any.

    Parameters
    ----------
    members : sequence of Member

    Returns
    -------
    dict
        Empty where none can be read.
    """
    for member in members:
        if not isinstance(member.source, Path):
            return member.source.get_crds_parameters()
        found = file_metadata(member.source)
        if found:
            return found
    return {}


def nothing_in(inputs):
    """Say that inputs hold no exposure.

    Parameters
    ----------
    inputs : sequence
        Arguments of ``process``.

    Returns
    -------
    str
    """
    if not inputs:
        return "no input: give exposures (_rate, _cal, _rateints) or an association"
    return f"no science exposure in {', '.join(str(entry) for entry in inputs)}"


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

    from niriss_eestep.exposures.fits_image import exposure_extensions, fits_image

    try:
        regular_file(path, "exposure", ExposureError)
        with reading(path, "a JWST exposure", ExposureError):
            image = None if path.suffix == ".asdf" else fits_image(path, exposure_extensions(path, SIZE_MAX))
            found = read_metadata(path) if image is None else image.get_crds_parameters()
    except ExposureError as error:
        # a cut-out without ASDF extension, or no JWST file at all: opening it will tell
        log.debug("no metadata: %s", error)
        return {}
    return {k: v for k, v in found.items() if isinstance(v, (str, int, float, bool))}
