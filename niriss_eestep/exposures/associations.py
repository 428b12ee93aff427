"""Group the NIRISS imaging exposures of a directory into associations, one for each program and target."""

import itertools
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from niriss_eestep.errors import AssociationError, ExposureError, OutputError, ParameterError, reading
from niriss_eestep.products.files import write_atomically
from niriss_eestep.reference.guards import primary_header

#: kinds of exposure that can be measured; where a directory holds several of one exposure, the first of these is taken
SUFFIXES = ("rate", "cal", "rateints", "calints")
#: of the primary header
KEYWORDS = {"PROGRAM", "OBSERVTN", "TARGPROP", "TARGNAME", "TARGTYPE", "BKGDTARG"}
KEYWORDS |= {"INSTRUME", "EXP_TYPE", "FILTER", "PUPIL", "TSOVISIT"}
#: marks the associations that this module wrote, which it may replace
ASN_POOL = "niriss_eestep"


@dataclass(frozen=True, slots=True)
class ExposureHeader:
    """What the primary header of an exposure says.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    root, suffix : str
        File name without and with only its suffix: jw01094001001_02101_00001_nis and rate.
    program, observation : str
        Program (five digits) and observation (three digits).
    target : str
        Name of the target as proposed, else as catalogued.
    background : bool
        Whether it is a background exposure (BKGDTARG).
    problem : str
        Why it cannot be measured; empty where nothing speaks against it.
    """

    path: Path
    root: str
    suffix: str
    program: str = ""
    observation: str = ""
    target: str = ""
    background: bool = False
    problem: str = ""


def find_exposures(directory: str | Path, suffix: str | None = None) -> tuple[list[ExposureHeader], ...]:
    """Find the exposures of a directory by their names, and read their primary headers.

    Parameters
    ----------
    directory : path
        Where they are; its subdirectories are not searched.
    suffix : str, optional
        Take this kind of exposure only: one of `SUFFIXES`. By default, the first kind that an exposure has.

    Returns
    -------
    exposures : list of ExposureHeader
        Those that can be measured, by name.
    left_out : list of ExposureHeader
        Those that cannot; ``problem`` says why.

    Raises
    ------
    AssociationError
        The directory does not exist or holds no exposure that can be measured.
    ParameterError
        Another suffix.

    Examples
    --------
    >>> exposures, left_out = find_exposures("visit1")  # doctest: +SKIP
    >>> write_associations(exposures, "visit1")  # one for each program and target  # doctest: +SKIP
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise AssociationError(f"{directory}: not a directory; give that of the exposures (*_rate.fits, *_cal.fits)")
    if suffix is not None and suffix not in SUFFIXES:
        raise ParameterError(f"suffix {suffix!r} is not among {', '.join(SUFFIXES)}")
    wanted = SUFFIXES if suffix is None else (suffix,)
    best: dict[str, tuple[int, Path]] = {}
    for path in sorted(directory.iterdir()):
        match = re.fullmatch(rf"(.+)_({'|'.join(wanted)})\.fits", path.name)
        if match:
            rank = wanted.index(match[2]), path
            best[match[1]] = min(best.get(match[1], rank), rank)
    headers = [read_header(path) for _, path in best.values()]
    exposures = [header for header in headers if not header.problem]
    left_out = [header for header in headers if header.problem]
    if not exposures:
        reasons = "".join(f"; {header.path.name}: {header.problem}" for header in left_out[:3])
        files = ", ".join(f"*_{kind}.fits" for kind in wanted)
        raise AssociationError(f"{directory}: no NIRISS imaging exposure ({files}){reasons}")
    return exposures, left_out


def read_header(path: Path) -> ExposureHeader:
    """Read what matters of an exposure's primary header; nothing else of the file is read.

    Parameters
    ----------
    path : pathlib.Path
        A FITS file.

    Returns
    -------
    ExposureHeader
        With a ``problem`` where the file is no NIRISS imaging exposure of a fixed target.
    """
    root, suffix = path.name.removesuffix(".fits").rsplit("_", 1)
    try:
        header = primary_header(path, "exposure", KEYWORDS, ExposureError)
    except ExposureError as error:
        return ExposureHeader(path, root, suffix, problem=str(error).removeprefix(f"{path}: "))
    keywords = ("OBSERVTN", "PROGRAM", "TARGPROP", "TARGNAME")
    observation, program, proposed, known = (str(header.get(keyword, "")).strip() for keyword in keywords)
    # the archive's names hold it: jwPPPPPOOOVVV, program, observation and visit
    in_name = re.match(r"jw\d{5}(\d{3})\d{3}_", root)
    observation = observation.zfill(3) if observation else in_name[1] if in_name else ""
    dispersed = [w for w in ("FILTER", "PUPIL") if str(header.get(w)) in {"GR150C", "GR150R", "GR700XD", "NRM"}]
    problems = {
        f"INSTRUME is {header.get('INSTRUME')!r}, not 'NIRISS'": header.get("INSTRUME") != "NIRISS",
        f"EXP_TYPE is {header.get('EXP_TYPE')!r}, not 'NIS_IMAGE'": header.get("EXP_TYPE") != "NIS_IMAGE",
        **{f"{wheel} is {header[wheel]!r}, which is no imaging filter": True for wheel in dispersed},
        "TARGTYPE is 'MOVING': not a standard star": header.get("TARGTYPE") == "MOVING",
        "a time-series exposure (TSOVISIT)": header.get("TSOVISIT") is True,
        "no PROGRAM in its header": not program,
        "neither TARGPROP nor TARGNAME names the target": not (proposed or known),
    }
    problem = next((told for told, applies in problems.items() if applies), "")
    is_background = header.get("BKGDTARG") is True
    target = proposed or known
    return ExposureHeader(path, root, suffix, program.zfill(5), observation, target, is_background, problem)


def group_exposures(exposures: Iterable[ExposureHeader]) -> dict[tuple[str, str], list[ExposureHeader]]:
    """Group exposures by program and target.

    Parameters
    ----------
    exposures : iterable of ExposureHeader
        In any order.

    Returns
    -------
    dict of (program, target) to list of ExposureHeader
        Sorted by program and target, each group by file name. Targets whose names differ only in case or blanks are
        one, under the first spelling.

    Raises
    ------
    AssociationError
        A group holds two exposures of one name (from different directories).
    """
    groups = defaultdict(list)
    for exposure in sorted(exposures, key=lambda exposure: exposure.path.name):
        groups[exposure.program, "".join(exposure.target.split()).upper()].append(exposure)
    for members in groups.values():
        for one, two in itertools.pairwise(members):
            if one.root == two.root:
                raise AssociationError(f"two exposures named {one.root}: {one.path} and {two.path}; keep one of them")
    return {(program, groups[program, key][0].target): groups[program, key] for program, key in sorted(groups)}


def product_names(groups: dict[tuple[str, str], list[ExposureHeader]]) -> list[str]:
    """Name the products of groups by the archive's convention.

    Parameters
    ----------
    groups : mapping of (program, target) to sequence of ExposureHeader
        As from `group_exposures`.

    Returns
    -------
    list of str
        jw<program>-o<observation>_t<number>_niriss, or -c<number> where a group spans several observations, or none is
        known; targets and combinations are numbered within their program.
    """
    names, targets, combinations = [], Counter[str](), Counter[str]()
    for (program, _), members in groups.items():
        targets[program] += 1
        observations = {member.observation for member in members}
        if len(observations) == 1 and observations != {""}:
            candidate = f"o{observations.pop()}"
        else:
            combinations[program] += 1
            candidate = f"c{1000 + combinations[program]}"
        names.append(f"jw{program}-{candidate}_t{targets[program]:03d}_niriss")
    return names


def write_associations(exposures: Iterable[ExposureHeader], output: Any, *, single: bool = False) -> dict[Path, Any]:
    """Write the associations of exposures.

    Parameters
    ----------
    exposures : iterable of ExposureHeader
        As from `find_exposures`.
    output : path
        Directory for one file per program and target, ``<product name>_asn.json``; or, with ``single``, the file.
    single : bool
        Write one file with a product for each target; all exposures must be of one program.

    Returns
    -------
    dict of pathlib.Path to dict
        What was written.

    Raises
    ------
    AssociationError
        Several programs for a single file, or a file of another making stands in the way.
    """
    groups, output = group_exposures(exposures), Path(output)
    named = list(zip(product_names(groups), groups.items(), strict=True))
    if single:
        programs = sorted({program for program, _ in groups})
        if len(programs) > 1:
            raise AssociationError(f"{output}: programs {', '.join(programs)} cannot share a file; write one for each")
        files = {output: named}
    else:
        files = {output / f"{product[0]}_asn.json": [product] for product in named}
    for path in files:
        with suppress(AssociationError, AttributeError), reading(path, "association", AssociationError):
            if json.loads(path.read_text(encoding="utf-8")).get("asn_pool") == ASN_POOL:
                continue
        if path.exists():
            raise AssociationError(f"{path} exists and was not written by niriss-ee; move it or choose another output")
    written = {path: _association(products, path.parent) for path, products in files.items()}
    for path, association in written.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, (json.dumps(association, indent=4) + "\n").encode())
        except (OSError, OutputError) as error:
            raise AssociationError(f"{path}: cannot be written ({error})") from error
    return written


def _association(products: list[tuple[str, Any]], directory: Path) -> dict[str, Any]:
    """Put products, each a name, (program, target) and members, into the form of a JWST association in a directory."""
    entries = []
    for name, (_, members) in products:
        paths = [(Path(os.path.relpath(e.path, directory)).as_posix(), e.background) for e in members]
        kinds = [{"expname": path, "exptype": "background" if dark else "science"} for path, dark in paths]
        entries.append({"name": name, "members": kinds})
    name, ((program, _), _) = products[0]
    return {
        "asn_type": "None", "asn_rule": "DMS_Level3_Base", "version_id": None, "code_version": version("niriss_eestep"),
        "degraded_status": "No known degraded exposures in association.", "program": program,
        "constraints": "No constraints", "asn_id": name.split("-", 1)[1].split("_", 1)[0],
        "target": ", ".join(target for _, ((_, target), _) in products), "asn_pool": ASN_POOL, "products": entries,
    }  # fmt: skip
