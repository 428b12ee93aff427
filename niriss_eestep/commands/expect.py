"""Print what a standard star should give in each imaging filter: electron rate, flux density, zero points."""

HELP = "expected electron rates of a standard star"


def configure(parser):
    """Add the arguments of ``niriss-ee expect``.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    """
    parser.add_argument(
        "star", metavar="STAR_OR_FILE", help="a CALSPEC FITS file, or the name of a star in $PYSYN_CDBS/calspec"
    )
    parser.add_argument("--output", metavar="FILE.ecsv", help="write all columns as ECSV")
    parser.add_argument(
        "--throughput",
        metavar="PATH",
        help="ASDF or ECSV file, or directory of synphot FITS files (default: $NIS_SYNPHOT, else the packaged curves)",
    )
    parser.add_argument("--vega", metavar="FILE", help="spectrum of Vega, for Vega magnitudes and zero points")


def run(args):
    """Run ``niriss-ee expect``.

    Parameters
    ----------
    args : argparse.Namespace
    """
    from niriss_eestep.reference import load_spectrum, load_throughput

    throughput = load_throughput(args.throughput)
    vega = load_spectrum(args.vega) if args.vega else None
    table, notes = expectation_table(_spectra(args.star), throughput, vega=vega)
    if args.output:
        _write(table, args.output)
    print(f"{table.meta['target']}: spectrum {table.meta['spectrum']}, throughput {throughput.name}")
    print("\n".join([_as_text(table), *notes]))


def expectation_table(spectra, throughput, *, vega=None):
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
    from astropy.table import Table

    from niriss_eestep.reference.stdspec import expected_of_first

    found = {name: expected_of_first(spectra, *throughput.curve(name), name) for name in throughput.filters}
    table = Table(rows=[_row(expected, throughput, name, vega) for name, (_, expected, _) in found.items()])
    for name, unit in _units().items():
        if name in table.colnames:
            table[name].unit = unit
    table.meta = {
        "target": next(iter(found.values()))[0].name,
        "spectrum": ", ".join(dict.fromkeys(spectrum.meta["file"] for spectrum, _, _ in found.values())),
        "throughput": throughput.name,
        "throughput_source": throughput.meta.get("source", ""),
        "zero_points": "zeropoint_ab, zeropoint_vega: magnitude of 1 DN/s; zeropoint_ab_electron: of 1 e-/s",
        "fnu": "fnu_band: photon-weighted mean over the band; fnu_mono: the star's own at the pivot wavelength",
        "photmjsr": "predicted from the throughput, with the gain and the pixel area below; compare photmjsr_2022",
    } | _constants()
    return table, [f"{name}: {note}" for name, (_, _, notes) in found.items() for note in notes]


def _row(expected, throughput, name, vega):
    """Return a filter's row."""
    from math import log10

    from niriss_eestep.flux.synthetic import predicted_photmjsr, zeropoint_vega
    from niriss_eestep.instrument import FILTERS, GAIN, PIXEL_SOLID_ANGLE

    wavelength, pce = throughput.curve(name)
    per_dn = 2.5 * log10(GAIN)  # 1 DN/s is brighter than 1 e-/s
    row = {
        "filter": name,
        "pupil": FILTERS[name].header_pupil if name in FILTERS else "",
        "pivot": expected.pivot,
        "expected_electron_rate": expected.electron_rate,
        "expected_electron_rate_err": expected.electron_rate_err,
        "expected_electron_rate_err_stat": expected.electron_rate_err_stat,
        "expected_electron_rate_err_sys": expected.electron_rate_err_sys,
        "expected_count_rate": expected.electron_rate / GAIN,
        "fnu_band": expected.fnu_band,
        "fnu_mono": expected.fnu_mono,
        "ab_mag": expected.ab_mag,
        "zeropoint_ab": expected.zeropoint_ab - per_dn,
        "zeropoint_ab_electron": expected.zeropoint_ab,
        "photmjsr": predicted_photmjsr(wavelength, pce, gain=GAIN, pixel_solid_angle=PIXEL_SOLID_ANGLE),
        "photmjsr_2022": FILTERS[name].photmjsr if name in FILTERS else float("nan"),
    }
    if vega is not None:
        zeropoint = zeropoint_vega(vega, wavelength, pce, name=name)
        row["vega_mag"] = zeropoint - 2.5 * log10(expected.electron_rate)
        row["zeropoint_vega"] = zeropoint - per_dn
    return row


def _units():
    """Return the units of the columns that have one."""
    from astropy import units as u

    rates = [f"expected_electron_rate{term}" for term in ("", "_err", "_err_stat", "_err_sys")]
    magnitudes = ("ab_mag", "zeropoint_ab", "zeropoint_ab_electron", "vega_mag", "zeropoint_vega")
    units = {"pivot": u.micron, "expected_count_rate": u.DN / u.s} | dict.fromkeys(rates, u.electron / u.s)
    units |= dict.fromkeys(("fnu_band", "fnu_mono"), u.Jy) | dict.fromkeys(magnitudes, u.mag)
    return units | dict.fromkeys(("photmjsr", "photmjsr_2022"), u.MJy / u.sr / (u.DN / u.s))


def _constants():
    """Return the constants that the table goes with."""
    from niriss_eestep.instrument import COLLECTING_AREA, GAIN, PIXEL_SOLID_ANGLE

    return {"collecting_area_cm2": COLLECTING_AREA, "gain_e_per_dn": GAIN, "pixel_solid_angle_sr": PIXEL_SOLID_ANGLE}


def _spectra(star):
    """Return the spectrum file that was given, or those of a star by name."""
    from pathlib import Path

    from niriss_eestep.reference.stdspec import find_spectrum_files

    looks_like_a_file = star.lower().endswith((".fits", ".fits.gz")) or Path(star).is_file()
    return [star] if looks_like_a_file else find_spectrum_files(star)


def _write(table, output):
    """Write the table, or say why not."""
    from niriss_eestep.errors import ParameterError

    if not output.lower().endswith(".ecsv"):
        raise ParameterError(f"--output {output}: the table is written as ECSV; give a name that ends in .ecsv")
    try:
        table.write(output, format="ascii.ecsv", overwrite=True)
    except OSError as error:
        raise ParameterError(f"--output {output}: cannot be written ({error})") from error


def _as_text(table):
    """Return the main columns as text, one line per filter."""
    header = f"{'filter':8}{'pivot':>8}{'e-/s':>12}{'+-':>10}{'F_nu':>11}{'AB':>9}{'zp AB':>9}{'PHOTMJSR':>10}"
    units = f"{'':8}{'micron':>8}{'':>12}{'':>10}{'Jy':>11}{'mag':>9}{'1 DN/s':>9}{'predicted':>10}"
    vega = "vega_mag" in table.colnames
    if vega:
        header, units = f"{header}{'Vega':>9}{'zp Vega':>9}", f"{units}{'mag':>9}{'1 DN/s':>9}"
    lines = [header, units]
    for row in table:
        lines.append(
            f"{row['filter']:8}{row['pivot']:8.4f}{row['expected_electron_rate']:12.4e}"
            f"{row['expected_electron_rate_err']:10.1e}{row['fnu_band']:11.4e}{row['ab_mag']:9.3f}"
            f"{row['zeropoint_ab']:9.3f}{row['photmjsr']:10.4f}"
            + (f"{row['vega_mag']:9.3f}{row['zeropoint_vega']:9.3f}" if vega else "")
        )
    return "\n".join(lines)
