"""Rows of many absolute-flux products, brought together."""

import numpy as np
import pytest
from stdatamodels.jwst import datamodels

from niriss_eestep import products
from niriss_eestep.calibration.table import read_visits
from niriss_eestep.errors import ProductError
from niriss_eestep.instrument import PIXEL_SOLID_ANGLE


def test_pixel_areas_of_headers_are_brought_together(tmp_path, abs_flux_row, write_visit):
    lost = abs_flux_row("F090W", 0.24) | {"status": "failed: no star", "pixar_sr": np.nan, "count_rate": np.nan}
    other = abs_flux_row("F090W", 0.24 / 1.01, pixar_sr=1.01 * PIXEL_SOLID_ANGLE)
    paths = [
        write_visit(tmp_path / "a_absflux.asdf", lost, abs_flux_row("F090W", 0.24)),
        write_visit(tmp_path / "b_absflux.asdf", other | {"mjd": 59801.3}),
    ]
    table = read_visits(paths)
    # PHOTMJSR times pixel area is the star's flux density, the same in both
    assert table["photmjsr"][1:] == pytest.approx([0.24, 0.24])
    assert table["pixar_sr"] == pytest.approx([PIXEL_SOLID_ANGLE] * 3)


def test_files_and_models_are_the_same(visits):
    from_files, from_models = read_visits(visits), read_visits([products.open(path) for path in visits])
    assert len(from_files) == 16
    for name in from_files.colnames:
        np.testing.assert_array_equal(from_files[name], from_models[name])


def test_bad_input_is_told(visits):
    with pytest.raises(ProductError, match="no visits"):
        read_visits([])
    with pytest.raises(ProductError, match=r"repeats a visit of visit2_absflux.asdf: WD1057\+719 in F090W and SUB64"):
        read_visits([*visits, visits[2]])
    with pytest.raises(ProductError, match="a model in memory: holds ImageModel"):
        read_visits([datamodels.ImageModel()])
