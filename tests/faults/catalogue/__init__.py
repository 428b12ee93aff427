"""The faults that a calibration meets: each with how it is made and, in MESSAGES.md, what the user is told.

A fault is a function that spoils something in a `Lab`. Faults of exposures give the exposure's path: the tests measure
it alone and in an association with a good one. All others give the message.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

SECTIONS = {
    "files": "The exposure's file",
    "headers": "The exposure's header",
    "images": "The exposure's image",
    "scenes": "The star and its surroundings",
    "parameters": "Parameters",
    "references": "References",
    "products": "Products",
    "associations": "Associations",
    "outputs": "The output directory",
}


@dataclass(frozen=True)
class Fault:
    """One fault.

    Parameters
    ----------
    section : str
        One of `SECTIONS`.
    what : str
        The fault in words.
    make : callable
        Makes it in a `Lab`; gives the exposure's path, or the message.
    """

    section: str
    what: str
    make: Callable

    @property
    def of_exposure(self):
        return self.section in ("files", "headers", "images", "scenes")


FAULTS: list[Fault] = []


def fault(section, what):
    """Enter a function into the catalogue."""

    def enter(make):
        FAULTS.append(Fault(section, what, make))
        return make

    return enter


#: what a library says differs between its versions
_LIBRARY = r"(not an? [^:;()]+: \w+(?:Error|Exception)\w*|not JSON|not an? ASDF file)"


def normal(message, *folders):
    """Take out of a message what differs between machines and versions of the libraries."""
    for folder in folders:
        message = message.replace(f"{folder}/", "").replace(str(folder), "output_dir")
    return re.sub(_LIBRARY + r"(?:: | \()[^;]*", r"\1 ...", message, flags=re.DOTALL)


def rough(line):
    """Take out of a line the numbers, which follow the PSF that is simulated."""
    return re.sub(r"\d+", "#", line)


def as_markdown(messages):
    """Table of all faults.

    Parameters
    ----------
    messages : dict of (str, str) to str
        Message by section and fault.
    """
    lines = [
        "# What goes wrong, and what the user is told",
        "",
        "Made by `python tests/faults/test_faults.py`; the tests compare every line with what the program says.",
        "Exposures are measured alone here: an error is raised, a warning is in the product's status. In an",
        "association either is recorded, and the other exposures are measured.",
    ]
    for section, title in SECTIONS.items():
        lines += ["", f"## {title}", "", "| fault | message |", "|---|---|"]
        cells = [(what, message) for (where, what), message in messages.items() if where == section]
        lines += [f"| {what} | {escape(message)} |" for what, message in cells]
    return "\n".join(lines) + "\n"


def escape(text):
    """Make text fit into a cell of a Markdown table."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


for _module in SECTIONS:
    import_module(f"{__name__}.{_module}")
