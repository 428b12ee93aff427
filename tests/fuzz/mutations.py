"""Files with damaged bytes, and what must hold for whatever reads them.

``python tests/fuzz/mutations.py --cases 100000`` makes a longer run than the tests; a failure names its target and
case, which ``--first`` repeats.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from niriss_eestep import products
from niriss_eestep.errors import NirissEEError
from niriss_eestep.exposures.inputs import Member, exposure_root, gather
from niriss_eestep.simulate.program import Program, simulate_program
from niriss_eestep.steps import EEPhotometryStep, SBProfileStep

#: what parsers stumble over
TOKENS = (
    b"\x00",
    b"\xff" * 4,
    b"\x1b[2J",
    b"-1",
    b"0",
    b"1e400",
    b"nan",
    b"99999999999999999999",
    b"../",
    b"'",
    b'"',
    b"{}",
    b"[]",
    b"null",
    b": ",
    b"\n",
    b"&a",
    b"*a",
    b"!!python/object",
    b"END" + b" " * 77,
    b"NAXIS   ",
    b"T",
)


def mutate(data, rng, text_regions):
    """Damage some bytes.

    Parameters
    ----------
    data : bytes
    rng : numpy.random.Generator
    text_regions : list of (int, int)
        Where headers and metadata are; most of the damage is done there.

    Returns
    -------
    bytes
    """
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        start, end = text_regions[rng.integers(len(text_regions))] if rng.random() < 0.8 else (0, len(data))
        at = int(rng.integers(min(start, len(data) - 1), max(1, min(end, len(data)))))
        length = int(rng.choice([1, 4, 80, 2880]))
        match rng.integers(7):
            case 0:
                data[at] ^= 1 << int(rng.integers(8))
            case 1:
                data[at] = int(rng.integers(256))
            case 2:
                token = TOKENS[rng.integers(len(TOKENS))]
                data[at : at + len(token)] = token
            case 3:
                data[at:at] = TOKENS[rng.integers(len(TOKENS))]
            case 4:
                del data[at : at + length]
            case 5:
                data[at:at] = data[at : at + length]
            case 6 if rng.random() < 0.3:
                del data[at:]
        if not data:
            break
    return bytes(data)


class Files:
    """An exposure, its products and an association, whole.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder):
        self.folder = folder
        simulate_program(folder / "sim", Program(groups=(("F200W", "SUB64"),), n_dithers=1, seed=4))
        exposure = next((folder / "sim").glob("*_rate.fits"))
        self.steps = [EEPhotometryStep(radii=[1.0, 5, 10, 15]), SBProfileStep()]
        product = folder / "x_eeprofile.asdf"
        self.steps[0].measure(Member(exposure_root(exposure), exposure)).save(str(product))
        members = [{"expname": name, "exptype": kind} for name, kind in (("a_rate.fits", "science"), ("b.fits", "x"))]
        association = {"asn_rule": "x", "asn_type": "image2", "products": [{"name": "jw01", "members": members}]}
        self.originals = {
            "exposure": exposure.read_bytes(),
            "product": product.read_bytes(),
            "association": json.dumps(association).encode(),
        }
        self.text = {name: _text_regions(data) for name, data in self.originals.items()}

    def check(self, target, case):
        """Read one damaged file; what became of it.

        Raises
        ------
        Exception
            Anything but the package's own, a warning, or numbers without errors.
        """
        rng = np.random.default_rng([list(self.originals).index(target), case])
        path = self.folder / {"exposure": "x_rate.fits", "product": "y_eeprofile.asdf", "association": "x.json"}[target]
        path.write_bytes(mutate(self.originals[target], rng, self.text[target]))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                return getattr(self, f"_read_{target}")(path, case)
            except NirissEEError as error:
                told = error
        assert str(told).isprintable(), told
        return type(told).__name__

    def _read_exposure(self, path, case):
        step = self.steps[case % 2]
        model = step.measure(Member("x", path))
        check_numbers(model)
        return "measured" if not model._instance["meta"][model.meta_key]["failure"] else "failed"

    def _read_product(self, path, _):
        model = products.open(path)
        model.outline()
        model.to_table()
        return "opened"

    def _read_association(self, path, _):
        for product in gather([path]):
            assert Path(product.name).name == product.name
            for member in product.members:
                assert "/" not in member.name
                assert member.name.isprintable()
        return "read"


def check_numbers(model):
    """Every finite rate has a finite error that is not negative."""
    value, err = model[model.y_name], model[f"{model.y_name}_err"]
    assert not np.any(np.isinf(value))
    assert np.all(err[np.isfinite(value)] >= 0)
    assert np.all(np.isfinite(err[np.isfinite(value)]))


def _text_regions(data):
    """Headers of a FITS file and its metadata; the metadata of an ASDF file; all of JSON."""
    if data.startswith(b"SIMPLE"):
        starts = [0]
        while (found := data.find(b"XTENSION", starts[-1] + 1)) > 0:
            starts.append(found)
        return [(start, data.index(b"END" + b" " * 77, start)) for start in starts] + [
            (data.rindex(b"#ASDF"), len(data)),
        ]
    return [(0, data.index(b"\n...")) if data.startswith(b"#ASDF") else (0, len(data))]


def main():
    """Run as many cases as asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000, help="cases of each target [%(default)s]")
    parser.add_argument("--first", type=int, default=0, help="number of the first case [%(default)s]")
    parser.add_argument("--targets", nargs="+", default=["exposure", "product", "association"])
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        files = Files(Path(folder))
        for target in args.targets:
            outcomes, start = Counter(), time.monotonic()
            for case in range(args.first, args.first + args.cases):
                try:
                    outcomes[files.check(target, case)] += 1
                except Exception as error:  # the search is for whatever should not be raised
                    bad += 1
                    outcomes["BAD"] += 1
                    print(f"{target} {case}: {type(error).__name__}: {error}", flush=True)
                    if args.cases == 1:
                        traceback.print_exc()
            print(f"{target}: {dict(outcomes)} in {time.monotonic() - start:.0f} s", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
