"""Encircled energy with astropy and photutils alone, as a script does it: the yardstick of the benchmark."""

import sys
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.stats import sigma_clipped_stats
from astropy.table import Table
from astropy.wcs import WCS
from photutils.aperture import CircularAnnulus, CircularAperture, aperture_photometry
from photutils.centroids import centroid_com

RADII = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15]


def measure(path):
    """Background-subtracted count rates in apertures."""
    with fits.open(path) as hdus:
        data = hdus["SCI"].data.astype(float)
        error = hdus["ERR"].data.astype(float)
        mask = (hdus["DQ"].data & 1 != 0) | ~np.isfinite(data)
        header = hdus["SCI"].header
        x, y = WCS(header).all_world2pix(hdus[0].header["TARG_RA"], hdus[0].header["TARG_DEC"], 0)
    i, j = round(float(x)) - 5, round(float(y)) - 5
    box = np.where(mask, 0, data)[j : j + 11, i : i + 11]
    dx, dy = centroid_com(box - np.median(box))
    position = (i + dx, j + dy)
    annulus = CircularAnnulus(position, 20, 25).to_mask().get_values(data, mask=mask)
    background = sigma_clipped_stats(annulus)[1]
    apertures = [CircularAperture(position, radius) for radius in RADII]
    table = aperture_photometry(data - background, apertures, error=error, mask=mask)
    rates = [table[f"aperture_sum_{k}"][0] for k in range(len(RADII))]
    errors = [table[f"aperture_sum_err_{k}"][0] for k in range(len(RADII))]
    return Table({"radius": RADII, "count_rate": rates, "count_rate_err": errors})


directory = Path(sys.argv[1])
for name in sys.argv[2:]:
    measure(name).write(directory / f"{Path(name).stem}.ecsv", overwrite=True)
