"""Every fault of the catalogue says what MESSAGES.md has, and stops nothing but its own exposure."""

import sys
import tempfile
from pathlib import Path

import pytest
from catalogue import FAULTS, as_markdown, rough
from lab import Lab, Source

MESSAGES = Path(__file__).with_name("MESSAGES.md")


def message_of(fault, lab):
    """What the user is told of a fault."""
    if fault.of_exposure:
        return lab.measure(fault.make(lab))
    return fault.make(lab)


def each(faults):
    return pytest.mark.parametrize("fault", [pytest.param(f, id=f"{f.section}: {f.what}") for f in faults])


def test_the_table_has_the_catalogue():
    rows = [line for line in MESSAGES.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    titles = [line for line in rows if line == "| fault | message |"]
    assert len(rows) - len(titles) == len(FAULTS) == len({(f.section, f.what) for f in FAULTS})


@each(FAULTS)
def test_the_message_is_the_one_in_the_table(fault, lab):
    line = as_markdown({(fault.section, fault.what): message_of(fault, lab)}).splitlines()[-1]
    rows = MESSAGES.read_text(encoding="utf-8").splitlines()
    if fault.section == "scenes":
        line, rows = rough(line), [rough(row) for row in rows]
    written = next((row for row in rows if row.startswith(line.split(" | ")[0] + " | ")), None)
    assert line in rows, f"MESSAGES.md has {written}"


def main():
    """Write MESSAGES.md anew."""
    import os

    with tempfile.TemporaryDirectory() as folder:
        source = Source(Path(folder) / "source")
        os.environ["PYSYN_CDBS"] = str(source.folder)
        messages = {}
        for k, fault in enumerate(FAULTS):
            messages[fault.section, fault.what] = message_of(fault, Lab(source, Path(folder) / str(k)))
            print(f"{fault.section}: {fault.what}: {messages[fault.section, fault.what]}", file=sys.stderr)
    MESSAGES.write_text(as_markdown(messages), encoding="utf-8")


if __name__ == "__main__":
    main()
