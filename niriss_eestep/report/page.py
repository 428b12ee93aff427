"""The HTML page of an association's product: one file that needs nothing else."""

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from astropy.time import Time
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from niriss_eestep.errors import printable
from niriss_eestep.instrument import PHOTMJSR_2022_ERR
from niriss_eestep.products.files import write_atomically
from niriss_eestep.products.metadata import GROUP_KEYS, error_terms, not_included, verdict
from niriss_eestep.products.models import AbsFluxModel
from niriss_eestep.reference import PSFEE
from niriss_eestep.report import figures
from niriss_eestep.report.bundle import Bundle, Products, bundle_of_models, read_bundle, resolve_psfee
from niriss_eestep.report.numbers import measured, number
from niriss_eestep.report.style import figure_bytes, frozen, styled

#: stamps of more exposures are folded away on the screen; they are printed all the same
UNFOLDED = 4

Rows = Sequence[Mapping[str, Any]]


def write_report(path: str | Path, output_dir: str | Path | None = None) -> Path:
    """Write the report of an absolute-flux product that has been saved, beside it or elsewhere.

    Parameters
    ----------
    path : str or Path
        Of the ``_absflux.asdf`` file; the products it was made of are looked for beside it.
    output_dir : str or Path, optional

    Returns
    -------
    Path
        ``<product>_report.html``, written whole or not at all.

    Raises
    ------
    ProductError
        If the product cannot be read, or the page not be written.

    Examples
    --------
    >>> write_report("products/jw01094-o001_t001_niriss_absflux.asdf")
    PosixPath('products/jw01094-o001_t001_niriss_report.html')
    """
    return _write(read_bundle(path), output_dir or Path(path).parent)


def write_report_of_models(
    directory: str | Path, abs_flux: AbsFluxModel, combined: Products = (), profiles: Products = ()
) -> Path:
    """Write the report of products in memory.

    Parameters
    ----------
    directory : str or Path
    abs_flux : AbsFluxModel
    combined : iterable of CombinedEEModel and CombinedSBModel
    profiles : iterable of EEProfileModel and SBProfileModel

    Returns
    -------
    Path
        As `write_report`.

    Raises
    ------
    OutputError
        If the page cannot be written.
    """
    return _write(bundle_of_models(abs_flux, combined, profiles), directory)


def _write(bundle: Bundle, directory: str | Path) -> Path:
    path = Path(directory) / f"{bundle.name}_report.html"
    write_atomically(path, report_html(bundle).encode())
    return path


def report_html(bundle: Bundle) -> str:
    """Make the page.

    Parameters
    ----------
    bundle : Bundle
        The products.

    Returns
    -------
    str
        HTML with all its figures inside. Whatever comes from a file is text in it, never markup.
    """
    model, templates = bundle.abs_flux, environment()
    meta = model._instance["meta"]
    script = Markup((Path(__file__).parent / "templates" / "report.js").read_text(encoding="utf-8"))
    psfee, remark = resolve_psfee(meta.get("ref_file", {}).get("psfee", {}).get("name"))
    compared = np.isfinite(model.table["ratio"]).any()
    with styled():
        groups = [_group(bundle, row, psfee) for row in range(len(model.table))]
        overview = [image(frozen(figures.plot_background(model)), "Background of each exposure against time")]
        if compared:
            alt = "Measured over expected electron rate, and PHOTMJSR over its predecessor"
            overview.insert(0, image(frozen(figures.plot_abs_flux(model)), alt))
    exposures = [_entry(row) for row in model.exposures]
    given, terms = not_included(model), error_terms()
    counted = {name: term for name, term in terms.items() if np.any(model.table[name] > 0)}
    zero = [term for name, term in terms.items() if name not in counted and not any(g.startswith(term) for g in given)]
    return templates.get_template("report.html").render(
        script=script, script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        bundle=bundle, facts=_observation(model), verdict=verdict(model), made=meta.get("eestep", {}),
        problems=_problems(groups, exposures, [*bundle.remarks, remark] if remark else bundle.remarks),
        outcome=Counter(entry["outcome"] for entry in exposures),
        terms=counted, zero=", ".join(zero), not_included=", ".join(given),
        groups=groups, overview=overview, compared=compared and PHOTMJSR_2022_ERR,
        parameters=_parameters(bundle), references=_references(bundle), inputs=_inputs(bundle),
    )  # fmt: skip


def _harmless(value: object) -> str:
    return value if isinstance(value, Markup) else printable(value)


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The environment of the templates: whatever they show is text on one line, made harmless.

    Returns
    -------
    jinja2.Environment
    """
    made = Environment(loader=PackageLoader("niriss_eestep.report"), finalize=_harmless, autoescape=True)
    made.undefined, made.trim_blocks, made.lstrip_blocks = StrictUndefined, True, True
    made.filters |= {"measured": measured, "number": number}
    return made


def image(figure: Figure, alt: str, form: str = "svg") -> dict[str, Any]:
    """A figure as the page holds it: its data, a description, its width on the screen.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    alt : str
        What it shows, for readers who cannot see it.
    form : {'svg', 'png'}

    Returns
    -------
    dict of str to object
        ``src``, ``alt`` and ``width`` [CSS pixels].
    """
    data = base64.b64encode(figure_bytes(figure, form)).decode()
    kind = "svg+xml" if form == "svg" else form
    return {"src": f"data:image/{kind};base64,{data}", "alt": alt, "width": round(96 * figure.get_figwidth())}


def _group(bundle: Bundle, index: int, psfee: PSFEE) -> dict[str, Any]:
    """One group: its row, its figures, its exposures."""
    table, exposures = bundle.abs_flux.table, bundle.abs_flux.exposures
    mine = exposures[np.all([exposures[name] == table[name][index] for name in GROUP_KEYS], axis=0)]
    row, title = _entry(table[index]), " ".join(str(table[name][index]) for name in ("target", "filter", "subarray"))
    means = [m for m in bundle.models.values() if hasattr(m.meta, "group")]
    own = {m.kind: m for m in means if all(getattr(m.meta.group, name) == table[name][index] for name in GROUP_KEYS)}
    combined, sb = own.get("combined_ee"), own.get("combined_sb")
    images, total = [], row["count_rate"]
    if combined is not None and np.isfinite(combined.exposure_count_rate).any():
        used = bundle.abs_flux.radius[bundle.abs_flux.radius_used[index] > 0]
        averaged = (used, row["count_rate_err"] / abs(total)) if math.isfinite(total) else None
        figure = figures.plot_combined_ee(combined, psfee=psfee, total=total, averaged=averaged, title=False)
        images.append(image(frozen(figure), f"Encircled energy, and its difference from the model, {title}"))
    if sb is not None and np.isfinite(sb.exposure_surface_brightness).any():
        scale = total if math.isfinite(total) else None
        figure = figures.plot_combined_sb(sb, psfee=psfee, total=scale, title=False)
        images.append(image(frozen(figure), f"Surface brightness, {title}"))
    inputs = [(m, m._instance["meta"].get("eestep", {}).get("input")) for m in bundle.of_kind("ee_profile")]
    made_of = {entry[0].get("filename") if entry else m.meta.filename: m for m, entry in inputs}
    profiles = [made_of[name] for name in mine["filename"] if name in made_of and "stamp" in made_of[name]._instance]
    stamps = image(figures.plot_stamps(profiles), f"Stamps of {title}") if profiles else None
    return {
        "id": f"group-{index + 1}", "title": title, "row": row, "figures": images, "stamps": stamps,
        "unfolded": len(mine) <= UNFOLDED, "exposures": [_entry(entry) for entry in mine],
    }  # fmt: skip


def _entry(row: np.void) -> dict[str, Any]:
    """A row of a table, and the class of its status: 'measured', 'warned' or 'failed'."""
    entry = {name: row[name].item() for name in row.dtype.names or ()}
    status = entry["status"]
    outcome = "failed" if status.startswith("failed") else "measured" if status == "measured" else "warned"
    return entry | {"outcome": outcome}


def _problems(groups: Rows, exposures: Rows, remarks: Sequence[str]) -> list[tuple[str, str, str, str]]:
    """What needs attention, the worst first; a group's section below gives the problems of its exposures."""
    shown = {entry["exposure"] for group in groups for entry in group["exposures"]}
    found = [(group["row"]["outcome"], group["title"], group["row"]["status"], group["id"]) for group in groups]
    found += [(e["outcome"], e["exposure"], e["status"], "") for e in exposures if e["exposure"] not in shown]
    found += [("warned", "report", remark, "") for remark in remarks]
    return sorted((entry for entry in found if entry[0] != "measured"), key=lambda entry: entry[0] != "failed")


def _observation(model: AbsFluxModel) -> dict[str, str]:
    """What was observed, when, and when the product was made."""
    meta, dates = model.meta, model.exposures["mjd"][np.isfinite(model.exposures["mjd"])]
    days = [dates.min(), dates.max()] if len(dates) else []
    ends = dict.fromkeys(Time(day, format="mjd").strftime("%Y-%m-%d %H:%M") for day in days)
    facts = {
        "target": ", ".join(dict.fromkeys(model.table["target"].tolist())),
        "program": " ".join(filter(None, (meta.observation.program_number, meta.program.title))),
        "observed": f"{' to '.join(ends)} UTC" if ends else "",
        "made": str(meta.date or "")[:16].replace("T", " ") + " UTC" * bool(meta.date),
    }
    return {label: text for label, text in facts.items() if text}


# ---- what the products' metadata say


def _parameters(bundle: Bundle) -> list[tuple[str, str, str]]:
    """Parameters of each step; where several products of a kind differ, all their values."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    steps = {"ee_profile": "ee_photometry", "sb_profile": "sb_profile", "abs_flux": "abs_flux"}
    for model in (*bundle.models.values(), bundle.abs_flux):
        given = model._instance["meta"].get("eestep", {}).get("parameters") or {}
        for name, value in given.items() if model.kind in steps else ():
            found.setdefault((steps[model.kind], str(name)), {})[str(value)] = None
    return [(step, name, " | ".join(values)) for (step, name), values in sorted(found.items())]


def _references(bundle: Bundle) -> list[tuple[str, str]]:
    """References by type, with all the files that products used."""
    found: dict[str, dict[str, None]] = {}
    for model in (bundle.abs_flux, *bundle.of_kind("combined_ee"), *bundle.of_kind("ee_profile")):
        for kind, entry in model._instance["meta"].get("ref_file", {}).items():
            if isinstance(entry, dict) and entry.get("name") not in (None, "", "N/A"):
                found.setdefault(str(kind), {})[str(entry["name"])] = None
    return [(kind, ", ".join(names)) for kind, names in sorted(found.items())]


def _inputs(bundle: Bundle) -> list[tuple[str, str]]:
    """Files that the exposures were read from, with their checksums."""
    made = [model._instance["meta"].get("eestep", {}) for model in bundle.of_kind("ee_profile")]
    records = [record for record_of in made for record in record_of.get("input") or ()]
    return sorted({(r["filename"], r.get("content_sha256") or r.get("sha256", "")) for r in records})
