"""The parts of the pages that are made from the package: parameters from the steps, products from the schemas.

``python niriss_eestep/docs/_generate.py`` writes them into the pages, which are read in the repository too; Sphinx
makes them anew at every build, and a test compares.
"""

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
MARKER = re.compile(r"<!-- made by _generate.py: (\w+) -->\n.*?<!-- end -->", flags=re.DOTALL)

PRODUCTS = {
    "ee_profile": ("EEProfileModel", "<exposure>_eeprofile.asdf"),
    "sb_profile": ("SBProfileModel", "<exposure>_sbprofile.asdf"),
    "combined_ee": ("CombinedEEModel", "<product>_<filter>_<subarray>_eecombined.asdf"),
    "combined_sb": ("CombinedSBModel", "<product>_<filter>_<subarray>_sbcombined.asdf"),
    "abs_flux": ("AbsFluxModel", "<product>_absflux.asdf"),
}


def filled(name, text):
    """Fill a page's marked parts.

    Parameters
    ----------
    name : str
        The page, for example 'parameters'.
    text : str
        The page as it is written.

    Returns
    -------
    str
    """
    makers = {"parameters": parameters, "products": products, "commands": commands}
    return MARKER.sub(lambda m: f"<!-- made by _generate.py: {m[1]} -->\n{makers[m[1]]().strip()}\n<!-- end -->", text)


def parameters():
    """Give the parameters of every step: name, default, choices, meaning."""
    from niriss_eestep import steps
    from niriss_eestep.pipeline import integration

    parts = []
    for path, alias, _ in integration.get_steps():
        step = getattr(steps, path.rpartition(".")[2])
        rows = _parameter_rows(step)
        table = (
            ["| parameter | default | choices | meaning |", "|---|---|---|---|", *rows]
            if rows
            else ["None of its own."]
        )
        parts.append("\n".join([f"## `{alias}` ({step.__name__})", "", *table, ""]))
    return "\n".join(parts)


def _parameter_rows(step):
    from jwst.stpipe import Step

    spec, of_every_step = step.load_spec_file(), set(Step.load_spec_file())
    rows = []
    for key, value in step().get_pars().items():
        if key in of_every_step or key.startswith("override_") or key == "steps":
            continue
        choices = re.match(r"option\((.*?),\s*default", str(spec[key]))
        words = ", ".join(f"`{word}`" for word in re.findall(r"'(\w+)'", choices[1])) if choices else ""
        shown = (
            ", ".join(f"{x:g}" if isinstance(x, float) else str(x) for x in value) if isinstance(value, list) else value
        )
        rows.append(f"| `{key}` | {shown} | {words} | {_cell(spec.inline_comments[key].lstrip('# '))} |")
    return rows


def products():
    """Give the arrays and columns of every product: name, unit, dimensions, meaning."""
    from niriss_eestep.products.columns import SCHEMAS, schema_of

    parts = []
    for kind, (model, filename) in PRODUCTS.items():
        url = SCHEMAS[kind]
        fields = schema_of(url).arrays
        title = schema_of(url).tree["title"]
        parts += [f"## {title}", "", f"`{filename}`, `{model}`", ""]
        parts += ["| array | unit | runs over | meaning |", "|---|---|---|---|"]
        parts += [
            f"| `{name}` | {_cell(f['unit'])} | {', '.join(f['axes'])} | {_cell(f['description'])} |"
            for name, f in fields.items()
        ]
        parts.append("")
        for name in (name for name, f in fields.items() if f["datatype"] == "table"):
            parts += [f"### Columns of `{name}`", "", "| column | unit | meaning |", "|---|---|---|"]
            columns = fields[name]["columns"].items()
            parts += [
                f"| `{column}` | {_cell(f.get('unit', ''))} | {_cell(f['description'])} |" for column, f in columns
            ]
            parts.append("")
    return "\n".join(parts)


def commands():
    """Give every command with its help line."""
    from niriss_eestep.commands.arguments import COMMANDS

    rows = [f"| `niriss-ee {name}` | {_cell(text)} |" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["| command | does |", "|---|---|", *rows])


def _cell(text):
    return " ".join(str(text).split()).replace("|", "\\|")


def main():
    """Write the pages anew; with --check only name those that are not as they should be, and fail."""
    check = "--check" in sys.argv
    stale = []
    for page in sorted(HERE.glob("*.md")):
        old = page.read_text(encoding="utf-8")
        new = filled(page.stem, old)
        if new != old:
            stale.append(page.name)
            if not check:
                page.write_text(new, encoding="utf-8")
    if stale:
        print(f"{', '.join(stale)}: {'run python niriss_eestep/docs/_generate.py' if check else 'written'}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
