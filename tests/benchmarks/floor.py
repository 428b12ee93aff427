"""The floor of the benchmark: open exposures with stdatamodels, and touch their arrays."""

import sys

from stdatamodels.jwst import datamodels

for path in sys.argv[1:]:
    with datamodels.open(path) as model:
        for name in ("data", "dq", "var_poisson", "var_rnoise", "var_flat"):
            array = getattr(model, name)
            if array is not None:
                array[array.shape[0] // 2, array.shape[1] // 2]
