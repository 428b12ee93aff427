"""Sums over pixels against plain arithmetic, and the same bits for any number of BLAS threads."""

import os
import subprocess
import sys
from fractions import Fraction

import numpy as np

from niriss_eestep.measure.geometry import covariance_of_sums

#: measures a star with repaired pixels, EE and SB, and prints the bits of what depends on long sums
MEASURE = """
import hashlib
import numpy as np
from niriss_eestep.measure.ee import EEOptions, measure_ee
from niriss_eestep.measure.stamp import StarExposure
from niriss_eestep.measure.sb import measure_sb

rng = np.random.default_rng(4)
j, i = np.mgrid[:90, :90]
image = 1e4 * np.exp(-np.hypot(i - 45.3, j - 44.8)) + rng.normal(0, 0.1, (90, 90))
bad = np.zeros(image.shape, dtype=bool)
bad[44 + rng.integers(-9, 10, 15), 53 + rng.integers(0, 6, 15)] = True
dq = bad.astype(np.uint32)
variance = rng.uniform(0.5, 1.5, image.shape) * 1e-2
star = StarExposure("star", np.where(bad, np.nan, image), variance, dq, bad, 45, 45, 0, 0, 0.0656, 1.61)
ee, sb = measure_ee(star, EEOptions(bad_pixel_method="surface")), measure_sb(star)
assert np.isfinite(ee.count_rate).all() and ee.n_repaired[-1] > 5
arrays = (ee.count_rate, ee.covariance, sb.surface_brightness, sb.covariance)
print(hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest())
"""


def test_the_covariance_of_sums_is_that_of_exact_arithmetic():
    rng = np.random.default_rng(1)
    weights, values = rng.integers(-8, 8, (3, 40)) / 8.0, rng.integers(0, 64, 40) / 16.0
    exact = [[Fraction(w) for w in row] for row in weights]
    # dyadic numbers of few bits: floating point is exact too
    covariance = [
        [float(sum(a * b * Fraction(v) for a, b, v in zip(p, q, values, strict=True))) for q in exact] for p in exact
    ]
    np.testing.assert_array_equal(covariance_of_sums(weights, values), covariance)


def test_a_measurement_does_not_depend_on_the_number_of_threads():
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    found = {
        subprocess.run(
            [sys.executable, "-c", MEASURE],
            env=os.environ | dict.fromkeys(threads, n),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for n in ("1", "2", "3")
    }
    assert len(found) == 1
