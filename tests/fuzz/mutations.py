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
from types import SimpleNamespace

import asdf
import numpy as np
from astropy.io import fits
from astropy.table import Table

from niriss_eestep import products
from niriss_eestep.calibration.table import read_visits
from niriss_eestep.errors import NirissEEError
from niriss_eestep.exposures.inputs import Member, exposure_root, gather
from niriss_eestep.flux.synthetic import expected_rate
from niriss_eestep.psf.stpsf import read_psf_image, read_radtab
from niriss_eestep.reference import load_apcorr, load_psf_images, load_psfee, load_spectrum, load_throughput
from niriss_eestep.reference.psf import PACKAGED_PSF_IMAGES, PACKAGED_PSFEE
from niriss_eestep.reference.region import mean_gain, read_opd
from niriss_eestep.reference.stdspec import PACKAGED_THROUGHPUT
from niriss_eestep.simulate.program import Program, simulate_program
from niriss_eestep.steps import EEPhotometryStep, SBProfileStep

#: references that are read from files, and an exposure that is compressed
REFERENCES = (
    "spectrum",
    "psfee",
    "throughput",
    "psfimages",
    "psfee table",
    "throughput table",
    "apcorr",
    "gain",
    "packed exposure",
    "visits",
    "radtab",
    "stpsf image",
    "opd map",
)

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


def change_card(data, rng):
    """Give one card of a FITS header another value: a number, a text, a logical, or nothing."""
    data = bytearray(data)
    starts = [start + 80 * i for start, end in _text_regions(bytes(data)) for i in range((end - start) // 80)]
    starts = [start for start in starts if data[start + 8 : start + 10] == b"= "]
    start = starts[rng.integers(len(starts))]
    value = (b"0", b"1", b"-1", b"T", b"F", b"''", b"'x'", b"1.5", b"99999999999", b"", b"'1PD(9)'", b"'A'")
    data[start + 10 : start + 80] = value[rng.integers(len(value))].rjust(20).ljust(70)
    return bytes(data)


def change_block(data, rng):
    """Damage the header or the content of one array block of an ASDF file."""
    data = bytearray(data)
    blocks, at = [], data.find(b"\xd3BLK")
    while at >= 0:
        blocks.append(at)
        at = data.find(b"\xd3BLK", at + 4)
    start = blocks[rng.integers(len(blocks))]
    if rng.random() < 0.7:
        data[start + 38 : start + 54] = bytes(16)  # no checksum
    end = min(len(data), start + (60 if rng.random() < 0.5 else 4000))
    for _ in range(rng.choice([1, 2, 8])):
        data[rng.integers(start, end)] = rng.choice([0, 1, 127, 255, int(rng.integers(256))])
    return bytes(data)


class Files:
    """An exposure, its products, an association and the references, whole.

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
        whole = [step.measure(Member(exposure_root(exposure), exposure, exposure.name)) for step in self.steps]
        self.whole = [np.array(model[model.y_name]) for model in whole]
        whole[0].save(str(product))
        members = [{"expname": name, "exptype": kind} for name, kind in (("a_rate.fits", "science"), ("b.fits", "x"))]
        association = {"asn_rule": "x", "asn_type": "image2", "products": [{"name": "jw01", "members": members}]}
        self.psfee = load_psfee()
        self.originals = {
            "exposure": exposure.read_bytes(),
            "product": product.read_bytes(),
            "association": json.dumps(association).encode(),
            "spectrum": next((folder / "sim").glob("calspec/*.fits")).read_bytes(),
            "psfee": PACKAGED_PSFEE.read_bytes(),
            "throughput": PACKAGED_THROUGHPUT.read_bytes(),
            "psfimages": self._few_images(),
            "psfee table": self._table("radius", 20.0, ee=True),
            "throughput table": self._table("wavelength", 3.0, unit="micron"),
            "apcorr": self._apcorr(),
            "gain": self._gain(),
            "packed exposure": self._packed(exposure),
            "visits": self._visits(),
            "radtab": "".join(f"{r:.2f} {1 - np.exp(-r):.5f}\n" for r in np.arange(0.05, 3, 0.05)).encode(),
            "stpsf image": self._image("DET_SAMP", FILTER="F200W", PIXELSCL=0.0656),
            "opd map": self._image("OPD", BUNIT="micron"),
        }
        self.text = {name: _text_regions(data) for name, data in self.originals.items()}
        self.names = {"exposure": "x_rate.fits", "product": "y_eeprofile.asdf", "association": "x.json"}
        suffixes = dict.fromkeys(("spectrum", "apcorr", "gain", "packed exposure", "stpsf image", "opd map"), "fits")
        suffixes |= dict.fromkeys(("psfee table", "throughput table", "visits"), "ecsv")
        for name in self.originals:
            self.names.setdefault(name, f"{name.replace(' ', '_')}.{suffixes.get(name, 'asdf')}")
        self.names["radtab"] = "f200w_psf.radtab"

    def _few_images(self):
        path = self.folder / "few.asdf"
        with asdf.open(PACKAGED_PSF_IMAGES) as file:
            tree = {"images": {"F480M": dict(file["images"]["F480M"])}, "radius": file["radius"], "meta": {"a": 1}}
            asdf.AsdfFile(tree).write_to(path, all_array_compression="zlib")
        return path.read_bytes()

    def _table(self, first, end, *, unit=None, ee=False):
        path = self.folder / "table.ecsv"
        x = np.linspace(0.1, end, 60)
        table = Table({first: x, "F200W": 1 - np.exp(-x) if ee else np.where((x > 1.7) & (x < 2.3), 0.5, 0.0)})
        table[first].unit = unit
        table.write(path, overwrite=True)
        return path.read_bytes()

    def _apcorr(self):
        path = self.folder / "apcorr.fits"
        names, radius = np.array(["CLEAR"] * 4), np.array([2.0, 3, 5, 9])
        rows = {"filter": names, "pupil": np.array(["F200W"] * 4), "eefraction": radius / 10, "radius": radius}
        rows |= {"apcorr": 1 + 1 / radius, "skyin": np.full(4, 20.0), "skyout": np.full(4, 25.0)}
        fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(Table(rows), name="APCORR")]).writeto(path)
        return path.read_bytes()

    def _gain(self):
        path = self.folder / "gain.fits"
        fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.full((64, 64), 1.6, "f4"), name="SCI")]).writeto(path)
        return path.read_bytes()

    def _packed(self, exposure):
        """The exposure with its science image compressed by tiles."""
        path = self.folder / "packed.fits"
        with fits.open(exposure) as hdus:
            sci = fits.CompImageHDU(hdus["SCI"].data, hdus["SCI"].header, name="SCI", compression_type="GZIP_1")
            fits.HDUList([sci if hdu.name == "SCI" else hdu for hdu in hdus]).writeto(path)
        return path.read_bytes()

    def _visits(self):
        path = self.folder / "visits.ecsv"
        table = Table({"filter": ["F200W", "F090W"] * 4, "target": ["a", "b"] * 4, "subarray": ["FULL"] * 8})
        numbers = {"mjd": 6e4, "count_rate": 900.0, "count_rate_err": 1.0, "ratio": 1.0, "ratio_err": 0.001}
        for name, value in (numbers | {"spectrum_err": 0.01}).items():
            table[name] = value * (1 + 1e-3 * np.arange(8))
        table.write(path, overwrite=True)
        return path.read_bytes()

    def _image(self, name, **header):
        path = self.folder / "image.fits"
        y, x = np.indices((65, 65)) - 32
        image = fits.ImageHDU(np.exp(-np.hypot(x, y)) / 7, fits.Header(header), name=name)
        fits.HDUList([fits.PrimaryHDU(header=fits.Header(header)), image]).writeto(path, overwrite=True)
        return path.read_bytes()

    def check(self, target, case):
        """Read one damaged file; what became of it.

        Raises
        ------
        Exception
            Anything but the package's own, a warning, or numbers without errors.
        """
        rng = np.random.default_rng([list(self.originals).index(target), case])
        path = self.folder / self.names[target]
        path.write_bytes(self._damaged(target, rng))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                return getattr(self, f"_read_{target.replace(' ', '_')}")(path, case)
            except NirissEEError as error:
                told = error
        assert str(told).isprintable(), told
        return type(told).__name__

    def _damaged(self, target, rng):
        data, kind = self.originals[target], rng.random()
        if data.startswith(b"SIMPLE") and kind < 0.5:
            return change_card(data, rng)
        if b"\xd3BLK" in data and kind < 0.5:
            return change_block(data, rng)
        return mutate(data, rng, self.text[target])

    def _read_spectrum(self, path, _):
        rate = expected_rate(load_spectrum(path), *load_throughput().curve("F200W"))
        assert np.isfinite(rate.electron_rate)
        return "read"

    def _read_psfee(self, path, _):
        psfee = load_psfee(path)
        for name in psfee.filters:
            assert np.all(np.diff(psfee.ee(name, [0, 2, 5, 9])) >= 0)
        return "read"

    _read_psfee_table = _read_psfee

    def _read_throughput(self, path, _):
        for wavelength, pce in load_throughput(path).curves.values():
            assert np.all(np.isfinite(wavelength))
            assert np.all(pce <= 1)
        return "read"

    _read_throughput_table = _read_throughput

    def _read_psfimages(self, path, _):
        images = load_psf_images(path)
        for name in images:
            assert np.all(np.isfinite(images[name].render(20.0, 20.0, (41, 41))))
        return "read"

    def _read_apcorr(self, path, _):
        # NaN: a radius that the table does not reach
        assert not np.any(load_apcorr(path).effective("F200W", 20, 25).curve([2.0, 4.0]) <= 0)
        return "read"

    def _read_gain(self, path, _):
        assert mean_gain(path, SimpleNamespace(xstart=1, ystart=1, xsize=64, ysize=64)) > 0
        return "read"

    def _read_visits(self, path, _):
        table = read_visits([path])
        assert len(table)
        return "read"

    def _read_radtab(self, path, _):
        _, _, ee = read_radtab(path)
        assert np.all(np.isfinite(ee))
        return "read"

    def _read_stpsf_image(self, path, _):
        _, _, ee, _ = read_psf_image(path, self.psfee)
        assert np.all(np.isfinite(ee))
        return "read"

    def _read_opd_map(self, path, _):
        assert np.all(np.isfinite(read_opd(path)))
        return "read"

    def _read_packed_exposure(self, path, case):
        return self._read_exposure(path, case)

    def _read_exposure(self, path, case):
        step = self.steps[case % 2]
        model = step.measure(Member("x", path, path.name))
        check_numbers(model)
        block = model._instance["meta"][model.meta_key]
        if block["failure"]:
            return "failed"
        if block["status"] == "measured":
            self._check_values(model, self.whole[case % 2])
        return block["status"].partition(":")[0]

    def _check_values(self, model, truth):
        """What is measured without a warning is what the whole file holds, to 1 %, or within 5 standard errors."""
        value, err = model[model.y_name], model[f"{model.y_name}_err"]
        off = np.abs(value - truth)
        wrong = off > np.maximum(0.01 * np.abs(truth), 5 * err)
        assert not wrong.any(), f"measured {value[wrong]} +- {err[wrong]} instead of {truth[wrong]}"

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
        metadata = [(data.rindex(b"#ASDF"), len(data))] if b"#ASDF" in data else []
        return [(start, data.index(b"END" + b" " * 77, start)) for start in starts] + metadata
    return [(0, data.index(b"\n...")) if data.startswith(b"#ASDF") else (0, len(data))]


def main():
    """Run as many cases as asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000, help="cases of each target [%(default)s]")
    parser.add_argument("--first", type=int, default=0, help="number of the first case [%(default)s]")
    parser.add_argument("--targets", nargs="+", metavar="TARGET", help="all by default")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        files = Files(Path(folder))
        for target in args.targets or files.originals:
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
