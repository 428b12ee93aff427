"""The data models of the products."""

import io
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from asdf import AsdfFile
from stdatamodels.jwst.datamodels import JwstDataModel

from niriss_eestep.errors import ProductError, printable
from niriss_eestep.products.columns import SCHEMAS, check_tree, load_asdf_plugins, schema_of
from niriss_eestep.products.files import asdf_bytes, copy_tree, read_tree, write_atomically
from niriss_eestep.products.metadata import group_of, verdict


class ProductModel(JwstDataModel):
    """What the products have in common.

    A wrong value raises when it is set, and the whole tree is validated before it is written; a file is written whole
    or not at all.

    Parameters
    ----------
    init : dict, str, Path, DataModel or None
        Tree, product file, or model.
    **kwargs
        Passed to `JwstDataModel`.
    """

    #: kind of product, where the metadata have the product's own, and the name of the measured quantity
    kind = meta_key = y_name = ""

    #: whether a step of this process made it: then nothing is missing
    _is_finished = False

    def __init__(self, init: Any = None, **kwargs: Any) -> None:
        if isinstance(init, (str, Path)):
            init = read_tree(init, model_type=type(self).__name__)
        kwargs.setdefault("strict_validation", True)
        # the merged schema may be shared: a model never changes it in place
        schema = kwargs.pop("schema", None) or schema_of(self.schema_url).tree
        # of a tree, the base class would only merge the schema once more
        super().__init__(init, schema={"type": "object"} if isinstance(init, dict) else schema, **kwargs)
        self._schema = schema
        self.__dict__["_asdf"] = None

    def on_init(self, init: Any) -> None:
        """Say what the product is; the base class sets these one by one, and validates each."""
        meta = self._instance.setdefault("meta", {})
        meta["model_type"] = type(self).__name__
        # as astropy's Time.now().isot, which takes 0.15 ms
        meta.setdefault("date", f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3])

    @property
    def _asdf(self) -> AsdfFile:
        # made where it is asked for: kept with each exposure of a group it takes 4 kB, as much as the measurement
        file = AsdfFile()
        file._tree = self._instance
        return file

    def __reduce__(self) -> tuple[type[Any], tuple[dict[str, Any]]]:
        return type(self), (dict(self._instance),)

    def __repr__(self) -> str:
        name = self.meta.filename or "in memory"
        return f"<{type(self).__name__} {name}: {self.outline()}>"

    def _repr_html_(self) -> str:
        """Show the outline and the table, as a notebook does."""
        table = self.to_table() if "radius" in self._instance else None
        return f"<p>{escape(repr(self)[1:-1])}</p>" + (table._repr_html_() if table else "")

    def get_crds_parameters(self) -> dict[str, Any]:
        """Give the flat metadata by which parameters and references are chosen.

        The base class looks through arrays and logs too: 1.3 ms.

        Returns
        -------
        dict
            ``meta.instrument.filter`` and so on.
        """
        found, waiting = {}, [("meta", self._instance["meta"])]
        for path, value in waiting:
            if isinstance(value, dict):
                waiting += [(f"{path}.{key}", entry) for key, entry in value.items()]
            elif isinstance(value, (str, int, float)):
                found[path] = value
        return found

    def outline(self) -> str:
        """Describe the product in a few words.

        Returns
        -------
        str
            One line; what is missing from an unfinished product is left out.
        """
        tree = self._instance
        if "table" in tree:
            counts = [(len(tree[name]), word) for name, word in (("table", "group"), ("exposures", "exposure"))]
            said = ", ".join(f"{n} {word}{'s' * (n != 1)}" for n, word in counts) + f": {verdict(self)}"
        else:
            group = tree["meta"].get("group") or group_of(self)
            words = [" ".join(filter(None, (group.get(key) for key in ("target", "filter", "subarray"))))]
            words += [f"{len(tree['exposure_names'])} exposures"] if "exposure_names" in tree else []
            words += [f"{len(tree.get('radius', ()))} radii", tree["meta"].get(self.meta_key, {}).get("status", "")]
            said = ", ".join(filter(None, words))
        return printable(said)

    def info(self, *args: Any, **kwargs: Any) -> None:
        """Print a summary; with any argument, the tree as `asdf.AsdfFile.info` shows it."""
        if args or kwargs:
            super().info(*args, **kwargs)
            return
        from niriss_eestep.products.summary import summary

        print(summary(self))

    def completed(self) -> Any:
        """Fill in what a profile from elsewhere lacks; see `niriss_eestep.products.foreign`.

        Returns
        -------
        ProductModel
            Itself where nothing is missing; else a copy.
        """
        from niriss_eestep.products.foreign import completed, completed_group

        known: dict[str, Any] = {"ee_profile": completed, "sb_profile": completed, "combined_ee": completed_group}
        return known[self.kind](self) if self.kind in known else self

    def to_table(self) -> Any:
        """Give the profile, or the table of groups, as a table with units.

        Returns
        -------
        astropy.table.QTable
            Every array that runs over the radii alone is a column. The metadata holds the title and the product's own
            metadata.
        """
        from niriss_eestep.products.tables import product_table

        return product_table(self)

    def plot(self, **kwargs: Any) -> Any:
        """Plot the product.

        Parameters
        ----------
        **kwargs
            Passed to the function of `niriss_eestep.report.figures` named ``plot_<kind>``.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from niriss_eestep.report import figures

        return getattr(figures, f"plot_{self.kind}")(self, **kwargs)

    def validate(self) -> None:
        """Compare the whole tree with the schema.

        Raises
        ------
        ProductError
            Names the entry and what is wrong with it.
        """
        label = self._instance["meta"].get("filename") or "product in memory"
        check_tree(copy_tree(dict(self._instance)), self.schema_url, f"{label} ({type(self).__name__})")

    def to_asdf(self, init: Any, *args: Any, **kwargs: Any) -> None:
        """Write the product, whole or not at all.

        Parameters
        ----------
        init : str, Path or file object
            Where to write; a file that exists is replaced.
        *args, **kwargs
            Passed to `asdf.AsdfFile.write_to`.

        Raises
        ------
        ProductError
            When the tree does not agree with the schema, or cannot be written.
        """
        meta, to_file = self._instance.setdefault("meta", {}), isinstance(init, (str, Path))
        before = meta.get("filename")
        # as jwst does, and the schema; entries that are None are left out in writing
        meta |= {"filename": Path(init).name} if to_file else {}
        meta |= {"date": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3], "model_type": type(self).__name__}
        meta.setdefault("eestep", {})["schema"] = self.schema_url
        try:
            tree, label = copy_tree(dict(self._instance)), meta["filename"] or "product in memory"
            check_tree(tree, self.schema_url, f"{label} ({type(self).__name__})")
            data = None if args or kwargs else asdf_bytes(tree)
            if data is None:
                load_asdf_plugins()
                buffer = io.BytesIO()
                with AsdfFile() as file:
                    for key, value in tree.items():
                        file[key] = value
                    file.write_to(buffer, *args, **kwargs)
                data = buffer.getvalue()
            write_atomically(init, data) if to_file else init.write(data)
        except ProductError:
            meta["filename"] = before
            raise

    def to_fits(self, init: Any, *args: Any, **kwargs: Any) -> None:
        """Refuse: the products are ASDF files."""
        raise ProductError(f"{init}: {type(self).__name__} is written as .asdf; `niriss-ee export` writes FITS tables")


class EEProfileModel(ProductModel):
    """Encircled energy of one exposure."""

    schema_url = SCHEMAS["ee_profile"]
    kind, meta_key, y_name = "ee_profile", "ee", "count_rate"


class SBProfileModel(ProductModel):
    """Surface-brightness profile of one exposure."""

    schema_url = SCHEMAS["sb_profile"]
    kind, meta_key, y_name = "sb_profile", "sb", "surface_brightness"


class CombinedEEModel(ProductModel):
    """Encircled energy of a group."""

    schema_url = SCHEMAS["combined_ee"]
    kind, meta_key, y_name = "combined_ee", "group", "count_rate"


class CombinedSBModel(ProductModel):
    """Surface-brightness profile of a group."""

    schema_url = SCHEMAS["combined_sb"]
    kind, meta_key, y_name = "combined_sb", "group", "surface_brightness"


class AbsFluxModel(ProductModel):
    """Absolute flux calibration: one row per group."""

    schema_url, kind = SCHEMAS["abs_flux"], "abs_flux"


MODELS = {model.__name__: model for model in ProductModel.__subclasses__()}


def open(source: str | Path | ProductModel) -> ProductModel:
    """Open a product.

    Parameters
    ----------
    source : str, Path or ProductModel
        File; a model is handed back as it is.

    Returns
    -------
    ProductModel
        Of the class that the file names, its arrays in memory.

    Raises
    ------
    ProductError
        The file is missing, not ASDF, not a product of this package, damaged, or written by a newer version.

    Examples
    --------
    >>> from niriss_eestep import products
    >>> absflux = products.open("jw01094-o001_t001_niriss_absflux.asdf")
    >>> print(absflux.to_table()["filter", "ratio", "ratio_err"])
    >>> absflux.plot().savefig("ratios.png")
    """
    if isinstance(source, ProductModel):
        return source
    tree = read_tree(source)
    return MODELS[tree["meta"]["model_type"]](tree)


def save_product(model: ProductModel, path: str | Path) -> Path:
    """Validate a product and write it, whole or not at all.

    Parameters
    ----------
    model : ProductModel
    path : str or Path
        Its name ends in ``.asdf``.

    Returns
    -------
    Path

    Raises
    ------
    ProductError
        The product does not agree with its schema, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".asdf":
        raise ProductError(f"{path}: a product's name ends in .asdf")
    model.to_asdf(path)
    return path
