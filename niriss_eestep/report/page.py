"""The HTML page of an association's product: one file that needs nothing else."""

import base64
import hashlib
import math
from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np

from niriss_eestep.errors import printable
from niriss_eestep.products.groups import error_terms, not_included, verdict
from niriss_eestep.report import figures
from niriss_eestep.report.bundle import bundle_of_models, read_bundle
from niriss_eestep.report.curves import resolve_psfee
from niriss_eestep.report.numbers import measured, number
from niriss_eestep.report.style import figure_bytes, styled

#: stamps of more exposures are folded away on the screen; they are printed all the same
UNFOLDED = 4

GROUP = ("target", "filter", "pupil", "subarray")


def write_report(path, output_dir=None):
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
    """
    return _write(read_bundle(path), Path(output_dir or Path(path).parent))


def write_report_of_models(directory, abs_flux, combined=(), profiles=()):
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
    return _write(bundle_of_models(abs_flux, combined, profiles), Path(directory))


def _write(bundle, directory):
    from niriss_eestep.products.files import write_atomically

    path = directory / f"{bundle.name}_report.html"
    write_atomically(path, report_html(bundle).encode())
    return path


def report_html(bundle):
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
    template, script = _template()
    reference = bundle.abs_flux._instance["meta"].get("ref_file", {}).get("psfee", {}).get("name")
    psfee, remark = resolve_psfee(reference)
    remarks = [*bundle.remarks, *([remark] if remark else [])]
    with styled():
        groups = [_group(bundle, index, psfee) for index in range(len(bundle.abs_flux.table))]
        overview = _overview(bundle.abs_flux)
    exposures = [_exposure(row) for row in bundle.abs_flux.exposures]
    return template.render(
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        name=printable(bundle.name),
        facts=_facts(bundle.abs_flux),
        problems=_problems(groups, exposures, remarks),
        outcome=_outcome(exposures),
        verdict=verdict(bundle.abs_flux),
        terms=_terms(bundle.abs_flux),
        zero=", ".join(_terms(bundle.abs_flux, zero=True).values()),
        not_included=", ".join(not_included(bundle.abs_flux)),
        groups=groups,
        exposures=exposures,
        overview=overview,
        parameters=_parameters(bundle),
        references=_references(bundle),
        inputs=_inputs(bundle),
        versions=_versions(bundle.abs_flux),
    )


@lru_cache(maxsize=1)
def environment():
    """The environment of the templates."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("niriss_eestep.report")
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {"measured": measured, "number": number}
    return made


def _template():
    """The template, and the script to embed."""
    from markupsafe import Markup

    made = environment()
    return made.get_template("report.html"), Markup(made.loader.get_source(made, "report.js")[0])


# ---- figures


def image(figure, alt, form="svg"):
    """A figure as the page holds it: its data, a description, its width on the screen."""
    width = round(96 * figure.get_size_inches()[0])
    data = base64.b64encode(figure_bytes(figure, form)).decode()
    kind = {"svg": "svg+xml"}.get(form, form)
    return {"src": f"data:image/{kind};base64,{data}", "alt": printable(alt), "width": width}


def _untitled(figure):
    """Take a figure's title away: the page has a heading."""
    figure.suptitle("")
    for axis in figure.axes:
        axis.set_title("")
    return figure


def _overview(model):
    """Figures of all groups together."""
    return [
        image(
            figures.plot_abs_flux(model),
            "Measured over expected electron rate, and PHOTMJSR over its predecessor, against wavelength",
        ),
        image(figures.plot_background(model), "Background of each exposure against time"),
    ]


def _group_figures(bundle, index, combined, psfee):
    """Figures of one group."""
    row = bundle.abs_flux.table[index]
    label = f"{row['target']} {row['filter']} {row['subarray']}"
    total = float(row["count_rate"]) if math.isfinite(row["count_rate"]) else None
    images = []
    if combined is not None and np.isfinite(combined.exposure_count_rate).any():
        used = bundle.abs_flux.radius[bundle.abs_flux.radius_used[index] > 0]
        averaged = None if total is None else (used, float(row["count_rate_err"]) / abs(total))
        scale = math.nan if total is None else total  # without a star there is nothing to scale a model to
        figure = figures.plot_combined_ee(combined, psfee=psfee, total=scale, averaged=averaged)
        images.append(image(_untitled(figure), f"Encircled energy, and its difference from the model, {label}"))
    sb = bundle.combined_sb.get(combined.meta.filename) if combined is not None else None
    if sb is not None:
        figure = figures.plot_combined_sb(sb, psfee=psfee, total=total)
        images.append(image(_untitled(figure), f"Surface brightness, {label}"))
    return images


def _stamps(bundle, names):
    """One figure of all stamps of a group; None without any."""
    models = [bundle.ee_profiles[name] for name in names if name in bundle.ee_profiles]
    models = [model for model in models if "stamp" in model._instance]
    return image(figures.plot_stamps(models), f"Stamps of {', '.join(names)}") if models else None


# ---- what the page says


def _group(bundle, index, psfee):
    """One group: its row, its figures, its exposures."""
    table = bundle.abs_flux.table
    row = {name: table[name][index].item() for name in table.dtype.names}
    row |= {name: printable(row[name]) for name in (*GROUP, "status")}
    mine = bundle.abs_flux.exposures[
        np.all([bundle.abs_flux.exposures[name] == table[name][index] for name in GROUP], axis=0)
    ]
    names = [str(entry["exposure"]) for entry in mine]
    product = next((str(entry["product"]) for entry in mine if entry["product"]), "")
    combined = bundle.combined_ee.get(product)
    return {
        "id": f"group-{index + 1}",
        "title": " ".join(row[name] for name in ("target", "filter", "subarray")),
        "row": row,
        "outcome": _kind(row["status"]),
        "budget": [100 * row[name] for name in _terms(bundle.abs_flux)],
        "figures": _group_figures(bundle, index, combined, psfee),
        "stamps": _stamps(bundle, names),
        "unfolded": len(names) <= UNFOLDED,
        "exposures": [_exposure(entry) for entry in mine],
    }


def _terms(model, *, zero=False):
    """Terms of the error budget that count in some group; or those that nobody need give and that count in none."""
    given = not_included(model)
    return {
        name: label
        for name, label in error_terms().items()
        if np.any(model.table[name] > 0) != zero and not (zero and any(text.startswith(label) for text in given))
    }


def _exposure(row):
    """Row of the table of exposures."""
    entry = {name: row[name].item() for name in row.dtype.names}
    entry = {name: printable(value) if isinstance(value, str) else value for name, value in entry.items()}
    return entry | {"outcome": _kind(entry["status"])}


def _kind(status):
    """Class of a status: 'measured', 'warned' or 'failed'."""
    if status.startswith("failed"):
        return "failed"
    return "measured" if status == "measured" else "warned"


def _outcome(exposures):
    """How many exposures were measured, and how."""
    counts = Counter(entry["outcome"] for entry in exposures)
    return {kind: counts[kind] for kind in ("measured", "warned", "failed")}


def _problems(groups, exposures, remarks):
    """What needs a person's eye, the worst first; the exposures of a group say below what is wrong with them."""
    found = [
        {"outcome": group["outcome"], "where": group["title"], "what": group["row"]["status"], "link": group["id"]}
        for group in groups
    ]
    shown = {entry["exposure"] for group in groups for entry in group["exposures"]}
    found += [
        {"outcome": entry["outcome"], "where": entry["exposure"], "what": entry["status"], "link": ""}
        for entry in exposures
        if entry["exposure"] not in shown
    ]
    found += [{"outcome": "warned", "where": "report", "what": printable(remark), "link": ""} for remark in remarks]
    found = [entry for entry in found if entry["outcome"] != "measured"]
    for entry in found:
        entry["what"] = entry["what"].removeprefix("failed: ").removeprefix("measured with warnings: ")
    return sorted(found, key=lambda entry: entry["outcome"] != "failed")


def _facts(model):
    """What was observed."""
    meta = model.meta
    program = " ".join(filter(None, (meta.observation.program_number, meta.program.title)))
    targets = ", ".join(dict.fromkeys(str(name) for name in model.table["target"]))
    dates = model.exposures["mjd"][np.isfinite(model.exposures["mjd"])]
    observed = ""
    if dates.size:
        from astropy.time import Time

        first, last = (
            Time(day, format="mjd", scale="utc").strftime("%Y-%m-%d %H:%M") for day in (dates.min(), dates.max())
        )
        observed = f"{first} to {last} UTC" if first != last else f"{first} UTC"
    facts = {"target": targets, "program": program, "observed": observed, "made": str(meta.date or "")}
    return {label: printable(text) for label, text in facts.items() if text}


def _parameters(bundle):
    """Parameters of each step, where several products of a kind differ with all their values."""
    kinds = {
        "ee_photometry": bundle.ee_profiles.values(),
        "sb_profile": bundle.sb_profiles.values(),
        "abs_flux": [bundle.abs_flux],
    }
    found = []
    for step, models in kinds.items():
        values = {}
        for model in models:
            for name, value in (model._instance["meta"].get("eestep", {}).get("parameters") or {}).items():
                values.setdefault(str(name), {}).setdefault(printable(value), None)
        found += [(step, printable(name), " | ".join(seen)) for name, seen in sorted(values.items())]
    return found


def _references(bundle):
    """References by type, with all the files that products used."""
    found = {}
    for model in (bundle.abs_flux, *bundle.combined_ee.values(), *bundle.ee_profiles.values()):
        for kind, entry in model._instance["meta"].get("ref_file", {}).items():
            if isinstance(entry, dict) and entry.get("name") not in (None, "", "N/A"):
                found.setdefault(printable(kind), {}).setdefault(printable(entry["name"]), None)
    return [(kind, ", ".join(names)) for kind, names in sorted(found.items())]


def _inputs(bundle):
    """Files that the exposures were read from, with their checksums."""
    records = [
        record
        for model in bundle.ee_profiles.values()
        for record in model._instance["meta"].get("eestep", {}).get("input") or ()
    ]
    return sorted(
        (printable(record["filename"]), printable(record.get("content_sha256") or record.get("sha256", "")))
        for record in {tuple(record.items()): record for record in records}.values()
    )


def _versions(model):
    """Software that made the product."""
    made = model._instance["meta"].get("eestep", {})
    crds = model.meta.ref_file.crds.context_used
    found = {
        "niriss_eestep": made.get("version"),
        "jwst": made.get("jwst_version"),
        "CRDS context": crds,
        "schema": made.get("schema"),
        "fingerprint": made.get("fingerprint"),
    }
    return {label: printable(text) for label, text in found.items() if text}
