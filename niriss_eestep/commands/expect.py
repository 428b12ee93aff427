"""Print what a standard star should give in each imaging filter: electron rate, flux density, zero points."""

from argparse import Namespace
from collections.abc import Sequence
from math import log10
from pathlib import Path
from typing import Any

from astropy.table import Table

from niriss_eestep.errors import ParameterError
from niriss_eestep.flux.synthetic import ExpectedRate, StandardSpectrum, predicted_photmjsr, zeropoint_vega
from niriss_eestep.instrument import COLLECTING_AREA, FILTERS, GAIN, PIXEL_SOLID_ANGLE
from niriss_eestep.reference import Throughput, load_spectrum, load_throughput
from niriss_eestep.reference.stdspec import expected_of_first, find_spectrum_files

_RATE = "expected_electron_rate"
_UNITS = {"pivot": "micron", "expected_count_rate": "DN / s", "fnu_band": "Jy", "fnu_mono": "Jy"}
_UNITS |= dict.fromkeys((_RATE, f"{_RATE}_err", f"{_RATE}_err_stat", f"{_RATE}_err_sys"), "electron / s")
_UNITS |= dict.fromkeys(("ab_mag", "zeropoint_ab", "zeropoint_ab_electron", "vega_mag", "zeropoint_vega"), "mag")
_UNITS |= dict.fromkeys(("photmjsr", "photmjsr_2022"), "MJy s / (DN sr)")
_MEANING = {
    "zero_points": "zeropoint_ab, zeropoint_vega: magnitude of 1 DN/s; zeropoint_ab_electron: of 1 e-/s",
    "fnu": "fnu_band: photon-weighted mean over the band; fnu_mono: the star's own at the pivot wavelength",
    "photmjsr": "predicted from the throughput, with the gain and the pixel area below; compare photmjsr_2022",
}


def run(args: Namespace) -> None:
    """Run ``niriss-ee expect``.

    Parameters
    ----------
    args : argparse.Namespace
    """
    if args.output and not args.output.lower().endswith(".ecsv"):
        raise ParameterError(f"--output {args.output}: the table is written as ECSV; give a name that ends in .ecsv")
    throughput = load_throughput(args.throughput)
    vega = load_spectrum(args.vega) if args.vega else None
    is_file = args.star.lower().endswith((".fits", ".fits.gz")) or Path(args.star).is_file()
    spectra = [Path(args.star)] if is_file else find_spectrum_files(args.star)
    table, notes = expectation_table(spectra, throughput, vega=vega)
    if args.output:
        table.write(args.output, format="ascii.ecsv", overwrite=True)
    print(f"{table.meta['target']}: spectrum {table.meta['spectrum']}, throughput {throughput.name}")
    lines = [
        f"{'filter':8}{'pivot':>8}{'e-/s':>12}{'+-':>10}{'F_nu':>11}{'AB':>9}{'zp AB':>9}{'PHOTMJSR':>10}"
        + f"{'Vega':>9}{'zp Vega':>9}" * (vega is not None),
        f"{'':8}{'micron':>8}{'':>12}{'':>10}{'Jy':>11}{'mag':>9}{'1 DN/s':>9}{'predicted':>10}"
        + f"{'mag':>9}{'1 DN/s':>9}" * (vega is not None),
    ]
    for row in table:
        line = f"{row['filter']:8}{row['pivot']:8.4f}{row[_RATE]:12.4e}{row[f'{_RATE}_err']:10.1e}"
        line += f"{row['fnu_band']:11.4e}{row['ab_mag']:9.3f}{row['zeropoint_ab']:9.3f}{row['photmjsr']:10.4f}"
        lines.append(line + (f"{row['vega_mag']:9.3f}{row['zeropoint_vega']:9.3f}" if vega is not None else ""))
    print("\n".join([*lines, *notes]))


def expectation_table(
    spectra: Sequence[Path], throughput: Throughput, *, vega: StandardSpectrum | None = None
) -> tuple[Table, list[str]]:
    """Return what a star should give in each filter of a throughput.

    Parameters
    ----------
    spectra : list of path
        The star's spectrum files, the one to prefer first: the first that covers a filter is taken.
    throughput : niriss_eestep.reference.Throughput
    vega : StandardSpectrum, optional
        Spectrum of Vega; adds the columns ``vega_mag`` and ``zeropoint_vega``.

    Returns
    -------
    table : astropy.table.Table
        One row per filter.
    notes : list of str
        Which file was taken where it is not the first, and what is odd about a spectrum.

    Raises
    ------
    ReferenceDataError
        Where no spectrum covers a filter.
    """
    found = {}
    for name in throughput.filters:
        wavelength, pce = throughput.curve(name)
        found[name] = expected_of_first(spectra, wavelength, pce, name)
    table = Table(rows=[_row(expected, throughput, name, vega) for name, (_, expected, _) in found.items()])
    for name in table.colnames:
        table[name].unit = _UNITS.get(name)
    files = ", ".join(dict.fromkeys(spectrum.meta["file"] for spectrum, _, _ in found.values()))
    table.meta = {"target": next(iter(found.values()))[0].name, "spectrum": files}
    table.meta |= {"throughput": throughput.name, "throughput_source": throughput.meta.get("source", "")}
    table.meta |= _MEANING | {"collecting_area_cm2": COLLECTING_AREA, "gain_e_per_dn": GAIN}
    table.meta |= {"pixel_solid_angle_sr": PIXEL_SOLID_ANGLE}
    return table, [f"{name}: {note}" for name, (_, _, notes) in found.items() for note in notes]


def _row(expected: ExpectedRate, throughput: Throughput, name: str, vega: StandardSpectrum | None) -> dict[str, Any]:
    """Return a filter's row."""
    wavelength, pce = throughput.curve(name)
    per_dn = 2.5 * log10(GAIN)  # 1 DN/s is brighter than 1 e-/s
    facts = FILTERS.get(name)
    row = {"filter": name, "pupil": facts.header_pupil if facts else "", "pivot": expected.pivot}
    terms = ("electron_rate", "electron_rate_err", "electron_rate_err_stat", "electron_rate_err_sys")
    row |= {f"expected_{term}": getattr(expected, term) for term in terms}
    row |= {"expected_count_rate": expected.electron_rate / GAIN}
    row |= {"fnu_band": expected.fnu_band, "fnu_mono": expected.fnu_mono}
    row |= {"ab_mag": expected.zeropoint_ab - 2.5 * log10(expected.electron_rate)}
    row |= {"zeropoint_ab": expected.zeropoint_ab - per_dn, "zeropoint_ab_electron": expected.zeropoint_ab}
    row |= {"photmjsr": predicted_photmjsr(wavelength, pce, gain=GAIN, pixel_solid_angle=PIXEL_SOLID_ANGLE)}
    row |= {"photmjsr_2022": facts.photmjsr if facts else float("nan")}
    if vega is not None:
        zeropoint = zeropoint_vega(vega, wavelength, pce, name=name)
        row |= {"vega_mag": zeropoint - 2.5 * log10(expected.electron_rate), "zeropoint_vega": zeropoint - per_dn}
    return row
