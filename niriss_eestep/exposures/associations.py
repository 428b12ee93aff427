"""Group the NIRISS imaging exposures of a directory into associations, one for each program and target."""

import itertools
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from niriss_eestep.errors import AssociationError, ExposureError, OutputError, ParameterError, regular_file
from niriss_eestep.products.files import write_atomically
from niriss_eestep.reference.guards import primary_header

#: Kinds of exposure that can be measured; where a directory holds several of one exposure, the first of these is taken.
SUFFIXES = ("rate", "cal", "rateints", "calints")
#: Marks the associations that this module wrote, which it may replace.
ASN_POOL = "niriss_eestep"


#: root of a file's name in the archive: program, observation, visit
_ARCHIVE = re.compile(r"jw\d{5}\d{3}\d{3}_")


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
    filter_name, pupil, subarray : str
        FILTER, PUPIL and SUBARRAY.
    background : bool
        Whether it is a background exposure (BKGDTARG).
    problem : str
        Why it cannot be measured; empty where nothing speaks against it.
    """

    path: Path
    root: str
    suffix: str
    program: str
    observation: str
    target: str
    filter_name: str
    pupil: str
    subarray: str
    background: bool
    problem: str


def find_exposures(
    directory: str | os.PathLike[str], suffix: str | None = None
) -> tuple[list[ExposureHeader], list[ExposureHeader]]:
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
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise AssociationError(
            f"{directory}: not a directory; name the one that holds the exposures (*_rate.fits, *_cal.fits)"
        )
    if suffix is not None and suffix not in SUFFIXES:
        raise ParameterError(f"suffix {suffix!r} is not among {', '.join(SUFFIXES)}")
    headers = [read_header(path) for path in _candidates(directory, suffix)]
    exposures = [header for header in headers if not header.problem]
    left_out = [header for header in headers if header.problem]
    if not exposures:
        reasons = "; ".join(f"{header.path.name}: {header.problem}" for header in left_out[:3])
        wanted = f"*_{suffix}.fits" if suffix else ", ".join(f"*_{kind}.fits" for kind in SUFFIXES)
        raise AssociationError(
            f"{directory}: no NIRISS imaging exposure ({wanted})" + (f"; {reasons}" if reasons else "")
        )
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
        header = primary_header(path, "exposure", ExposureError)
    except ExposureError as error:
        return ExposureHeader(path, root, suffix, "", "", "", "", "", "", False, str(error).removeprefix(f"{path}: "))

    def text(*keywords: str) -> str:
        return next((str(header[key]).strip() for key in keywords if str(header.get(key, "")).strip()), "")

    return ExposureHeader(
        path=path,
        root=root,
        suffix=suffix,
        program=text("PROGRAM").zfill(5),
        # the archive's names hold it: jwPPPPPOOOVVV
        observation=text("OBSERVTN").zfill(3) if text("OBSERVTN") else root[7:10] if _ARCHIVE.match(root) else "",
        target=text("TARGPROP", "TARGNAME"),
        filter_name=text("FILTER"),
        pupil=text("PUPIL"),
        subarray=text("SUBARRAY"),
        background=header.get("BKGDTARG") is True,
        problem=_problem(header),
    )


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
    groups: dict[tuple[str, str], list[ExposureHeader]] = defaultdict(list)
    for exposure in sorted(exposures, key=lambda exposure: exposure.path.name):
        groups[exposure.program, _target_key(exposure.target)].append(exposure)
    for members in groups.values():
        for first, second in itertools.pairwise(members):
            if first.root == second.root:
                raise AssociationError(
                    f"two exposures named {first.root}: {first.path} and {second.path}; keep one of them"
                )
    return {(program, groups[program, key][0].target): groups[program, key] for program, key in sorted(groups)}


def product_names(groups: Mapping[tuple[str, str], Sequence[ExposureHeader]]) -> list[str]:
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
    names, targets, combinations = [], defaultdict(int), defaultdict(int)
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


def make_association(
    products: Mapping[str, Sequence[ExposureHeader]], *, target: str, directory: Path
) -> dict[str, Any]:
    """Put exposures into the form of a JWST association.

    Parameters
    ----------
    products : mapping of str to sequence of ExposureHeader
        Members by product name; all of one program.
    target : str
        Name of the target.
    directory : pathlib.Path
        Where the association will be: members are named relative to it.

    Returns
    -------
    dict
        Read by jwst's loaders, those of level-2 and of level-3 associations.
    """
    program = next(iter(products.values()))[0].program
    candidate = next(iter(products)).split("-", 1)[1].split("_", 1)[0]
    return {
        "asn_type": "None",
        "asn_rule": "DMS_Level3_Base",
        "version_id": None,
        "code_version": _version(),
        "degraded_status": "No known degraded exposures in association.",
        "program": program,
        "constraints": "No constraints",
        "asn_id": candidate,
        "target": target,
        "asn_pool": ASN_POOL,
        "products": [
            {"name": name, "members": [_member(exposure, directory) for exposure in members]}
            for name, members in products.items()
        ],
    }


def write_associations(
    exposures: Iterable[ExposureHeader], output: Path, *, single: bool = False
) -> dict[Path, dict[str, Any]]:
    """Write the associations of exposures.

    Parameters
    ----------
    exposures : iterable of ExposureHeader
        As from `find_exposures`.
    output : pathlib.Path
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
    groups = group_exposures(exposures)
    named = dict(zip(product_names(groups), groups.items(), strict=True))
    written = {}
    if single:
        programs = sorted({program for program, _ in groups})
        if len(programs) > 1:
            raise AssociationError(
                f"{output}: programs {', '.join(programs)} cannot share an association; write one file for each"
            )
        products = {name: members for name, (_, members) in named.items()}
        target = ", ".join(target for _, target in groups)
        written[output] = make_association(products, target=target, directory=output.parent)
    else:
        for name, ((_, target), members) in named.items():
            association = make_association({name: members}, target=target, directory=output)
            written[output / f"{name}_asn.json"] = association
    for path in written:
        _refuse_to_replace(path)
    for path, association in written.items():
        _write(path, association)
    return written


def _candidates(directory: Path, suffix: str | None) -> list[Path]:
    """Files of one kind per exposure."""
    wanted = SUFFIXES if suffix is None else (suffix,)
    pattern = re.compile(rf"(.+)_({'|'.join(wanted)})\.fits")
    best: dict[str, tuple[int, Path]] = {}
    for path in sorted(directory.iterdir()):
        match = pattern.fullmatch(path.name)
        if match:
            rank = wanted.index(match[2])
            if match[1] not in best or rank < best[match[1]][0]:
                best[match[1]] = rank, path
    return [path for _, path in best.values()]


def _problem(header: Mapping[str, Any]) -> str:
    instrument, kind = header.get("INSTRUME"), header.get("EXP_TYPE")
    if instrument != "NIRISS":
        return f"INSTRUME is {instrument!r}, not 'NIRISS'"
    if kind != "NIS_IMAGE":
        return f"EXP_TYPE is {kind!r}, not 'NIS_IMAGE'"
    for wheel in ("FILTER", "PUPIL"):
        if str(header.get(wheel)) in {"GR150C", "GR150R", "GR700XD", "NRM"}:
            return f"{wheel} is {header[wheel]!r}, which is no imaging filter"
    if header.get("TARGTYPE") == "MOVING":
        return "TARGTYPE is 'MOVING': not a standard star"
    if header.get("TSOVISIT") is True:
        return "a time-series exposure (TSOVISIT)"
    if not str(header.get("PROGRAM", "")).strip():
        return "no PROGRAM in its header"
    if not str(header.get("TARGPROP", "")).strip() and not str(header.get("TARGNAME", "")).strip():
        return "neither TARGPROP nor TARGNAME names the target"
    return ""


def _target_key(target: str) -> str:
    return "".join(target.split()).upper()


def _member(exposure: ExposureHeader, directory: Path) -> dict[str, str]:
    name = Path(os.path.relpath(exposure.path, directory)).as_posix()
    return {"expname": name, "exptype": "background" if exposure.background else "science"}


def _version() -> str:
    from importlib.metadata import version

    return version("niriss_eestep")


def _refuse_to_replace(path: Path) -> None:
    if not path.exists():
        return
    try:
        regular_file(path, "association", AssociationError)
        ours = json.loads(path.read_text(encoding="utf-8")).get("asn_pool") == ASN_POOL
    except (AssociationError, OSError, ValueError, AttributeError):
        ours = False
    if not ours:
        raise AssociationError(f"{path} exists and was not written by niriss-ee; move it or choose another output")


def _write(path: Path, association: Mapping[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(association, indent=4) + "\n").encode())
    except (OSError, OutputError) as error:
        raise AssociationError(f"{path}: cannot be written ({error})") from error
