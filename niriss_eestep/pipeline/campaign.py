"""Many associations in one go: the exposures of all of them are shared out to workers, here or on a cluster."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from astropy.table import Table

from niriss_eestep.errors import AssociationError, NirissEEError
from niriss_eestep.exposures.associations import find_exposures, write_associations
from niriss_eestep.exposures.inputs import Product
from niriss_eestep.pipeline.fluxcal import FluxCalPipeline
from niriss_eestep.products.columns import make_table, schema_of
from niriss_eestep.products.files import write_atomically
from niriss_eestep.products.models import AbsFluxModel
from niriss_eestep.products.summary import aligned
from niriss_eestep.products.tables import as_bytes

log = logging.getLogger(__name__)

#: what the summary tells of a group, from the product's table
GROUP_COLUMNS = (
    "target", "filter", "pupil", "subarray", "n_exposures", "n_measured", "electron_rate", "electron_rate_err",
    "expected_electron_rate", "ratio", "ratio_err", "photmjsr", "photmjsr_err", "status",
)  # fmt: skip
#: ... and of an exposure
EXPOSURE_COLUMNS = ("exposure", "filename", "target", "filter", "pupil", "subarray", "mjd", "status")
GROUPS_FILE, EXPOSURES_FILE = "campaign.ecsv", "campaign_exposures.ecsv"


@dataclass(slots=True)
class Summary:
    """What became of a campaign.

    Parameters
    ----------
    groups : list of dict
        One for each group, with the product's name; one for a product that failed.
    exposures : list of dict
        One for each exposure, with the product's name.
    products : list of dict
        One for each product: ``product``, ``groups``, ``exposures``, ``measured``, ``warnings``, ``failed`` (exposures)
        and ``status``.
    """

    groups: list[dict] = field(default_factory=list)
    exposures: list[dict] = field(default_factory=list)
    products: list[dict] = field(default_factory=list)

    @property
    def failed(self) -> list[str]:
        """Products of which nothing was calibrated."""
        return [row["product"] for row in self.products if row["status"] != "calibrated"]

    def add(self, product: Product, result: Any) -> None:
        """Add a product.

        Parameters
        ----------
        product : Product
        result : AbsFluxModel or NirissEEError
        """
        name, status = {"product": product.name}, "calibrated"
        if isinstance(result, NirissEEError):
            status, n = f"failed: {result}", len(product.members)
            groups = [{"n_exposures": n, "n_measured": 0, "status": status}]
            exposures = [{"exposure": m.name, "filename": m.filename, "status": "failed"} for m in product.members]
        else:
            groups, exposures = (
                [dict(zip(names, row, strict=True)) for row in table[list(names)].tolist()]
                for table, names in ((result.table, GROUP_COLUMNS), (result.exposures, EXPOSURE_COLUMNS))
            )
        self.groups += [name | row for row in groups]
        self.exposures += [name | row for row in exposures]
        kinds = Counter("failed" if row["status"].startswith("failed") else row["status"] for row in exposures)
        measured, failed = kinds["measured"], kinds["failed"]
        counts = {"groups": len(groups) * (status == "calibrated"), "exposures": len(product.members)}
        counts |= {"measured": measured, "warnings": kinds.total() - measured - failed, "failed": failed}
        self.products.append(name | counts | {"status": status})

    def write(self, directory: Path) -> None:
        """Write the tables of groups and of exposures as ECSV: a row that lacks a column has NaN, 0 or nothing there.

        Parameters
        ----------
        directory : pathlib.Path
        """
        tables = (
            (GROUPS_FILE, self.groups, GROUP_COLUMNS, "table"),
            (EXPOSURES_FILE, self.exposures, EXPOSURE_COLUMNS, "exposures"),
        )
        for file, rows, columns, name in tables:
            fields = schema_of(AbsFluxModel.schema_url).arrays[name]["columns"]
            texts = {"product": fields["status"]}
            table = Table(make_table(texts | {column: fields[column] for column in columns}, rows))
            for column in columns:
                table[column].unit = fields[column]["unit"] or None
                table[column].description = fields[column]["description"]
            write_atomically(directory / file, as_bytes(table, format="ascii.ecsv"))

    def as_text(self) -> str:
        """Set the table of products as text.

        Returns
        -------
        str
        """
        return "\n".join(aligned(Table(self.products)))


def collect_associations(paths: Sequence[Path], output_dir: Path) -> list[Path]:
    """Find the associations to run.

    Parameters
    ----------
    paths : sequence of pathlib.Path
        Association files, and directories of exposures; the exposures of all directories are grouped by program and
        target.
    output_dir : pathlib.Path
        Where associations of the directories' exposures are written.

    Returns
    -------
    list of pathlib.Path
        In the order given, those of the directories last.

    Raises
    ------
    AssociationError
        If a path is neither, or there is nothing to run.
    """
    files, exposures = [], []
    for path in paths:
        if path.is_dir():
            try:
                found, left_out = find_exposures(path)
            except AssociationError as error:
                log.warning("%s", error)
                continue
            exposures += found
            for header in left_out:
                log.info("left out: %s: %s", header.path, header.problem)
        elif path.suffix == ".json" and path.is_file():
            files.append(path)
        else:
            raise AssociationError(f"{path}: neither an association (.json) nor a directory of exposures")
    if exposures:
        files += write_associations(exposures, output_dir)
    if not files:
        raise AssociationError(f"nothing to run in {', '.join(str(path) for path in paths)}")
    return files


def run_campaign(
    paths: Sequence[Any], output_dir: Any, *, workers: int = 1, make_executor: Any = None, skip_existing: bool = False
) -> Summary:
    """Calibrate many associations.

    Parameters
    ----------
    paths : sequence of path
        Associations, or directories of exposures; see `collect_associations`.
    output_dir : path
        Where all products go; made if need be.
    workers : int
        Processes on this machine.
    make_executor : callable, optional
        Makes the executor that measures instead of them, such as `niriss_eestep.pipeline.cluster.DaskWorkers`.
    skip_existing : bool
        Keep products of an earlier run that were made from the same input, parameters and references.

    Returns
    -------
    Summary
        Also written, as ``campaign.ecsv`` and ``campaign_exposures.ecsv``.

    Raises
    ------
    AssociationError
        If there is nothing to run, or two associations have products of one name.
    OutputError
        If the products cannot be written.
    """
    # as stpipe does it for a single step
    output_dir = Path(os.path.expandvars(output_dir)).expanduser().resolve()
    associations = [str(path) for path in collect_associations([Path(path).resolve() for path in paths], output_dir)]
    given = {"output_dir": str(output_dir), "save_results": True, "workers": workers, "skip_existing": skip_existing}
    config, config_file = FluxCalPipeline.build_config(associations[0], **given)
    pipeline = FluxCalPipeline.from_config_section(config, name="niriss_fluxcal", config_file=config_file)
    summary, pipeline.make_executor = Summary(), make_executor
    pipeline.take = partial(_take, pipeline, summary)
    pipeline.run(*associations)
    summary.write(output_dir)
    return summary


def _take(pipeline: Any, summary: Summary, product: Product, result: Any) -> None:
    """Save a product as soon as it is complete, and let it go; what became of it is in the summary."""
    if not isinstance(result, NirissEEError):
        pipeline.save_model(result, output_file=result.meta.filename)
    summary.add(product, result)
