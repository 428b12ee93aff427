"""Whether an exposure's star is where it was measured, and where else it may be."""

import os
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np

from niriss_eestep.errors import ReferenceDataError
from niriss_eestep.exposures.cut import check_exposure
from niriss_eestep.measure.sources import FAR, find_sources, source_at, the_star
from niriss_eestep.products.groups import group_of
from niriss_eestep.reference import load_psfee, load_throughput

#: the star is looked for this far off: proper motions of standards come to 140 pix in 20 years [pix]
REACH = 150

#: a source this near to the one measured is the same [pix]
SAME = 3.0


def known_star(model, gain, psfee=None, spectrum=None, throughput=None):
    """Say what is known of an exposure's star beforehand.

    Parameters
    ----------
    model : stdatamodels model
    gain : float
        [e-/DN].
    psfee, spectrum, throughput : path, optional
        References; by default the packaged ones, and the spectra in ``$PYSYN_CDBS/calspec``.

    Returns
    -------
    ee : callable
        EE of the PSF at radii [pix].
    expected : float or None
        Count rate that the star should give [DN/s]; None where its spectrum or the throughput is not to be had.
    """
    name = check_exposure("", model.meta, allow_nrm=True)
    environment = os.environ.get("PYSYN_CDBS"), os.environ.get("NIS_SYNPHOT")
    rate = _electron_rate(group_of(model)["target"], name, spectrum, throughput, environment)
    return partial(load_psfee(psfee).ee, name), None if rate is None else rate / gain


@lru_cache(maxsize=64)
def _electron_rate(target, name, spectrum, throughput, environment):
    """Expected rate [e-/s] of a star in a filter, as long as the environment stays; None where it is not known."""
    from niriss_eestep.reference.stdspec import expected_of_first, find_spectrum_files

    try:
        paths = find_spectrum_files(target) if spectrum is None else [spectrum]
        return expected_of_first(paths, *load_throughput(throughput).curve(name), name)[1].electron_rate
    except ReferenceDataError:
        return None


def second_look(exposures, centre, field, known, cut, *, is_given):
    """Look at what was measured, and elsewhere where that cannot be the star.

    Parameters
    ----------
    exposures : list of StarExposure
        The stamps that were measured.
    centre : Centroid
        Where; the first position where the measurement failed.
    field : Field
    known : (callable, float or None)
        From `known_star`.
    cut : callable
        ``cut(field, half_size=n)`` gives stamps about a field's position.
    is_given : bool
        The user gave the position: no other is taken.

    Returns
    -------
    Field, str or None
        None where the star was measured, as far as can be told; the field with the position of the star, where it is
        elsewhere; why there is none.
    """
    ee, expected = known
    first = source_at(_mean(exposures), centre.x, centre.y, ee, field.pixels.ratio)
    if not np.isfinite(first.err) and not field.outside:
        return None  # no pixel to judge by: the measurement says why
    if first.is_significant and not field.outside:
        is_usual = first.is_star if expected is None else 1 / FAR < first.rate / expected < FAR
        if is_given or is_usual:
            return None
    found = find_sources(_mean(cut(field, half_size=REACH)), ee, field.pixels.ratio)
    others = [source for source in found if np.hypot(source.x - first.x, source.y - first.y) > SAME]
    if field.outside:  # nothing is known of what stands at the edge
        first = replace(first, rate=0.0)
    star = first if is_given or (field.outside and expected is None) else the_star(first, others, expected)
    if star is None or not star.is_significant:
        return _no_star(first, others, field.outside, expected)
    if star is first:
        return None
    place = field.outside or (
        _brightness(first, expected) if first.is_significant else f"no star at x={first.x:.1f}, y={first.y:.1f}"
    )
    told = f"{place}; the star is the one at {_brightness(star, expected)}"
    return replace(field, x=star.x, y=star.y, warnings=(*field.warnings, told), outside="")


def _mean(exposures):
    """The mean of integrations, as one stamp."""
    if len(exposures) == 1:
        return exposures[0]
    image = np.mean([exposure.image for exposure in exposures], axis=0)
    variance = np.mean([exposure.variance for exposure in exposures], axis=0) / len(exposures)
    return replace(exposures[0], image=image, variance=variance, bad=np.any([e.bad for e in exposures], axis=0))


def _brightness(source, expected):
    """Where a source is, and how bright."""
    share = f", {source.rate / expected:.2g} of the expected rate" if expected is not None else ""
    return f"x={source.x:.1f}, y={source.y:.1f} ({source.rate:.3g} DN/s{share})"


def _no_star(first, others, outside, expected):
    """Say that there is no star, and what there is."""
    told = outside or f"no star at x={first.x:.1f}, y={first.y:.1f}: {first.rate:.2g} +- {first.err:.2g} DN/s"
    brightest = next((source for source in others if source.is_star), others[0] if others else None)
    if brightest is None:
        return f"{told}; no source within {REACH} pix"
    away = np.hypot(brightest.x - first.x, brightest.y - first.y)
    return (
        f"{told}; the brightest source is at {_brightness(brightest, expected)}, {away:.0f} pix away; set source_x and "
        "source_y, or mend the target's coordinates or proper motion"
    )
