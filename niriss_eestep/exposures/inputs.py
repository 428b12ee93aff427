"""What a step is given: files, models, lists, associations; and the exposures in them."""

import json
import logging
import re
from collections import Counter, namedtuple
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from jwst.lib.suffix import remove_suffix
from stdatamodels.jwst.datamodels import read_metadata
from stpipe.datamodel import AbstractDataModel
from stpipe.library import AbstractModelLibrary

from niriss_eestep.errors import AssociationError, ExposureError, printable, reading, regular_file
from niriss_eestep.exposures.reading import exposure_extensions, fits_image
from niriss_eestep.products.groups import group_names, group_of
from niriss_eestep.reference.guards import FITS_MAX, primary_header

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


#: one product of an association: its name, None for a plain list, and a tuple of its `Member`
Product = namedtuple("Product", ("name", "members"))


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
    ours = re.sub(rf"_({'|'.join(OUR_SUFFIXES)})$", "", stem)
    return ours if ours != stem else remove_suffix(stem)[0]


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


def _association(path, association=None):
    """Products of an association, a file's or a mapping; its members' paths are relative to ``path``'s directory."""
    if association is None:
        regular_file(path, "association", AssociationError)
        with reading(path, "an association", AssociationError):
            association = json.loads(path.read_text(encoding="utf-8"))
    products = association.get("products") if isinstance(association, Mapping) else None
    if not isinstance(products, list) or not products:
        raise AssociationError(f"{path}: not an association: no products")
    kind = str(association.get("asn_type", ""))
    if kind.lower().startswith("tso"):
        raise AssociationError(
            f"{path}: association type {kind}: time series are not combined here; give the exposures one by one"
        )
    found, other = [], Counter()
    for product in products:
        if not isinstance(product, Mapping) or not isinstance(product.get("members"), list):
            raise AssociationError(f"{path}: a product without members")
        name, members = product.get("name"), []
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
        for entry in product["members"]:
            expname = entry.get("expname") if isinstance(entry, Mapping) else None
            if not isinstance(expname, str) or not expname or "\0" in expname:
                raise AssociationError(f"{path}: product {name} has a member without expname")
            kind = str(entry.get("exptype", "")).lower()
            if kind == "science":
                members.append(Member(exposure_root(expname), path.parent / expname))
            else:
                other[kind] += 1
        found.append(Product(name, tuple(members)))
    if other:
        ignored = ", ".join(f"{n} {kind}" for kind, n in sorted(other.items()))
        log.info("%s: members other than science are not used: %s", path.name, ignored)
    return found


def _products(item, input_dir):
    """Products of one input: named ones, of associations; one without name for anything else."""
    if isinstance(item, Mapping):
        return _association(Path("association in memory"), item)
    name, sources, found = None, [item], []
    if isinstance(item, AbstractModelLibrary) or (isinstance(item, Sequence) and hasattr(item, "asn_table")):
        if isinstance(item, AbstractModelLibrary):
            association, models = item.asn, list(item.map_function(lambda model, _: model, modify=False))
        else:
            association, models = item.asn_table if getattr(item, "asn_file_path", None) else {}, list(item)
        # a library of a plain list has a product without name
        name = (association["products"][0].get("name") or None) if association else None
        sources = [model for model in models if str(model.meta.asn.exptype or "science").lower() == "science"]
        if len(sources) < len(models):
            log.info("%d members other than science are not used", len(models) - len(sources))
    elif isinstance(item, Sequence) and not isinstance(item, str):
        return [product for entry in item for product in _products(entry, input_dir)]
    elif isinstance(item, (str, Path)):
        path = Path(item)
        if input_dir and not path.is_absolute() and len(path.parts) == 1 and not path.exists():
            path = Path(input_dir) / path
        if path.is_dir():
            raise AssociationError(
                f"{path}: is a directory: make its associations (niriss-ee asn {path}) and give one of them, or give "
                "files"
            )
        sources = [path]
        if any(c in str(item) for c in "*?[") and not path.exists():
            sources = sorted(Path(file) for file in glob(str(path), recursive=True))
            if not sources:
                raise ExposureError(f"{item}: no file fits this pattern")
        found = [product for file in sources if file.suffix.lower() == ".json" for product in _association(file)]
        sources = [file for file in sources if file.suffix.lower() != ".json"]
    elif not isinstance(item, (Member, AbstractDataModel)):
        raise ExposureError(
            f"cannot take a {type(item).__name__} as input; give a file, an association, a model or a list of them"
        )
    names = [s if isinstance(s, (Member, Path)) else s.meta.filename or "exposure" for s in sources]
    pairs = zip(names, sources, strict=True)
    members = tuple(s if isinstance(s, Member) else Member(exposure_root(file), s) for file, s in pairs)
    return [*found, Product(name, members)]


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
    sources = {}
    for product in products if distinct else ():
        inside = set()
        for member in product.members:
            # products of two steps have the same root and other suffixes
            key = member.name, member.filename if Path(member.filename).suffix == ".asdf" else ""
            source = member.source.absolute() if isinstance(member.source, Path) else member.source
            other = sources.setdefault(key, source)
            # one exposure may belong to several products of an association
            if key in inside or (other is not source and other != source):
                one, two = (
                    s if isinstance(s, Path) else f"a model of {s.meta.filename or 'no name'}" for s in (source, other)
                )
                raise AssociationError(
                    f"{one} and {two} have the same exposure name {member.name}: one product would overwrite "
                    "the other; rename one, or run them apart, with output directories of their own"
                )
            inside.add(key)
    several = [(name, n) for name, n in Counter(product.name for product in products).items() if n > 1]
    if several and distinct:
        raise AssociationError(
            f"{several[0][1]} products are called {several[0][0]}: one would overwrite the other; rename them"
        )
    return products


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
        source, key, header = member.source, ("", "", "", ""), None
        try:
            if isinstance(source, Path):
                with reading(source, "FITS file", ExposureError):
                    # of a truncated file the first may be whole: the file is missed in its group
                    with suppress(ExposureError):
                        header = exposure_extensions(source, FITS_MAX)[0].header
                    header = header or primary_header(source, "exposure", ExposureError)
                    names = [header.get("TARGPROP") or header.get("TARGNAME")]
                    names += map(header.get, ("FILTER", "PUPIL", "SUBARRAY"))
                if not all(isinstance(value, str) for value in names):
                    # what a header lacks, the ASDF extension may have: the group is then that of the opened exposure
                    flat = science_metadata(member)
                    names = [flat.get("meta.target.proposer_name") or flat.get("meta.target.catalog_name")]
                    names += map(flat.get, ("meta.instrument.filter", "meta.instrument.pupil", "meta.subarray.name"))
            group = group_names(*names) if isinstance(source, Path) else group_of(source)
            key = tuple(group.values())
        except ExposureError as error:
            log.debug("no header: %s", error)  # opening it will tell
        groups.setdefault(key, []).append(member)
    return groups


def science_metadata(dataset):
    """Read the flat metadata of the first science exposure, for looking up parameters and references.

    Parameters
    ----------
    dataset : str, Path, DataModel, Member, container, library, association or list

    Returns
    -------
    dict
        ``meta.instrument.filter`` and so on; empty where there is no exposure that can be read.
    """
    if isinstance(dataset, dict) and "products" not in dataset:
        return dataset
    try:
        members = [member for product in gather([dataset]) for member in product.members]
    except (AssociationError, ExposureError) as error:
        # the step itself will say so, with its own message
        log.debug("no parameters can be looked up: %s", error)
        return {}
    for path in (member.source for member in members):
        if not isinstance(path, Path):
            return path.get_crds_parameters()
        try:
            regular_file(path, "exposure", ExposureError)
            with reading(path, "JWST exposure", ExposureError):
                image = None if path.suffix == ".asdf" else fits_image(path, exposure_extensions(path, FITS_MAX))
                found = read_metadata(path) if image is None else image.get_crds_parameters()
        except ExposureError as error:
            # a cut-out without ASDF extension, or no JWST file at all: opening it will tell
            log.debug("no metadata: %s", error)
            continue
        if found:
            return {k: v for k, v in found.items() if isinstance(v, (str, int, float, bool))}
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
