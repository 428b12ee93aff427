"""Rows of many absolute-flux products, brought together."""

import numpy as np
import pytest
from astropy.table import Table
from stdatamodels.jwst import datamodels

from niriss_eestep import products
from niriss_eestep.calibration.table import read_visits, usable_visits, warned_rows
from niriss_eestep.combine.mean import combine_profiles
from niriss_eestep.errors import ParameterError, ProductError
from niriss_eestep.flux.total_rate import rate_warnings, total_rate
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


def test_modes_of_the_psf_are_common_and_what_a_fit_adds_is_the_products_own(tmp_path, abs_flux_row, write_visit):
    models = []
    for k, mjd in enumerate((59700.0, 59800.0)):
        rows = [abs_flux_row(name, 0.24) | {"mjd": mjd + i} for i, name in enumerate(("F090W", "F200W"))]
        model = products.open(write_visit(tmp_path / f"{k}_absflux.asdf", *rows))
        # three modes of the reference; a fit adds one of each group
        model.aperture_modes = np.array([[1.0, 2, 3, 4, 0], [5, 6, 7, 0, 8]]) * 1e-3
        model.psf_modes = np.zeros((2, 3))
        model.meta.ref_file.psfee.name = "psfee.asdf"
        models.append(model)
    modes = 1e3 * read_visits(models)["aperture_modes"]
    covariance = modes @ modes.T
    assert covariance[0, 0] == pytest.approx(1 + 4 + 9 + 16)
    assert covariance[0, 1] == pytest.approx(5 + 12 + 21)
    assert covariance[0, 2] == pytest.approx(1 + 4 + 9)
    assert covariance[1, 3] == pytest.approx(25 + 36 + 49)


def test_bad_input_is_told(visits):
    with pytest.raises(ProductError, match="no visits"):
        read_visits([])
    with pytest.raises(ProductError, match=r"repeats a visit of visit2_absflux.asdf: WD1057\+719 in F090W and SUB64"):
        read_visits([*visits, visits[2]])
    with pytest.raises(ProductError, match="a model in memory: holds ImageModel"):
        read_visits([datamodels.ImageModel()])


def table_of(tmp_path, **changed):
    """A table of six visits of two stars, written; columns may be replaced."""
    n = 6
    columns = {
        "filter": ["F200W"] * n,
        "target": ["A", "B"] * 3,
        "subarray": ["SUB64"] * n,
        "mjd": 59800.0 + 30 * np.arange(n),
        "count_rate": np.full(n, 1e4),
        "count_rate_err": np.full(n, 20.0),
        "ratio": np.full(n, 1.01),
        "ratio_err": np.full(n, 0.002),
        "spectrum_err": np.full(n, 0.01),
    }
    path = tmp_path / "visits.ecsv"
    Table(columns | changed).write(path, overwrite=True)
    return path


def test_rows_that_cannot_be_used_are_told_why(tmp_path):
    ratio, rate = np.full(6, 1.01), np.full(6, 1e4)
    ratio[0], rate[1] = np.nan, 90.0
    visits, index, reason = usable_visits(read_visits([table_of(tmp_path, ratio=ratio, count_rate=rate)]))
    assert list(index) == [2, 3, 4, 5]
    assert reason[0] == "no expected rate: the spectrum of A is not known"
    assert reason[1].endswith("DN/s is below 5 sigma: no star")
    assert len(visits.value) == 4
    mjd, err = 59800.0 + 30 * np.arange(6), np.full(6, 0.002)
    mjd[0], mjd[1], err[2], err[3] = np.nan, mjd[1] + 2400000.5, 0.0, -0.002
    table_of(tmp_path, mjd=mjd, ratio_err=err, filter=["F200W"] * 4 + ["", "F200W"])
    _, index, reason = usable_visits(read_visits([tmp_path / "visits.ecsv"]))
    assert list(index) == [5]
    assert [
        next(word for word in ("Julian date", "date", "ratio_err", "filter") if word in text) for text in reason[:5]
    ] == ["date", "Julian date", "ratio_err", "ratio_err", "filter"]
    table_of(tmp_path)
    Table.read(tmp_path / "visits.ecsv")[:0].write(tmp_path / "empty.ecsv")
    with pytest.raises(ProductError, match=r"no rows in .*empty.ecsv"):
        read_visits([tmp_path / "empty.ecsv"])
    with pytest.raises(ParameterError, match=r"no row of 6 can be used: no expected rate: the spectrum of A"):
        usable_visits(read_visits([table_of(tmp_path, ratio=np.full(6, np.nan))]))


def test_a_visit_reduced_twice_does_not_count_twice(tmp_path):
    # by date, where rows do not name their exposures; conflicting values are shown
    mjd = 59800.0 + np.array([0.0, 1, 0, 2, 3, 4])
    with pytest.raises(ProductError, match=r"repeats a visit .*: A in F200W and SUB64 at MJD 59800.00000; give each"):
        read_visits([table_of(tmp_path, mjd=mjd)])
    rate = np.array([1e4, 1e4, 1.02e4, 1e4, 1e4, 1e4])
    # without dates nothing tells visits apart, and nothing is said
    assert len(read_visits([table_of(tmp_path, mjd=np.full(6, np.nan))])) == 6
    with pytest.raises(ProductError, match="count rates differ, 10200 and 10000 DN/s"):
        read_visits([table_of(tmp_path, mjd=mjd, count_rate=rate)])
    # by exposures, where they are named: dithers of one visit may share a date, and one exposure in two rows is twice
    names = np.array(["a b", "c", "d e", "f", "g", "h"])
    assert len(read_visits([table_of(tmp_path, mjd=mjd, exposures=names)])) == 6
    names[2] = "d a"
    with pytest.raises(ProductError, match="repeats a visit"):
        read_visits([table_of(tmp_path, exposures=names)])


def test_modes_of_one_reference_are_common_and_of_two_are_not(tmp_path):
    columns = {"aperture_modes": np.tile([0.003, 0.004], (6, 1)), "err_aperture": np.full(6, 0.013)}
    visits = usable_visits(read_visits([table_of(tmp_path, **columns)]))[0]
    # what the modes do not hold is the filter's own
    assert visits.aperture == pytest.approx(np.tile([0.003, 0.004, 0.012], (6, 1)))
    # two files of one reference, one of another with a shorter table: zeros where a visit has no such mode
    for k, (name, n_modes) in enumerate((("a", 2), ("b", 1), ("a", 2))):
        table = Table.read(table_of(tmp_path, mjd=59800.0 + 100 * k + np.arange(6.0)))[:2]
        table["aperture_modes"], table.meta["psfee"] = np.ones((2, n_modes)), name
        table.write(tmp_path / f"{k}.ecsv")
    table_of(tmp_path, mjd=60800.0 + np.arange(6.0))
    joined = read_visits([*(tmp_path / f"{k}.ecsv" for k in range(3)), tmp_path / "visits.ecsv"])
    modes = joined["aperture_modes"]
    expected = np.zeros((4, 4))
    expected[np.ix_([0, 2], [0, 2])], expected[1, 1] = 2.0, 1.0
    assert modes[[0, 2, 4, 6]] @ modes[[0, 2, 4, 6]].T == pytest.approx(expected)


def test_products_and_tables_are_calibrated_together(tmp_path, visits):
    # a table has no n_exposures, and a product no star_type: both are filled
    table = read_visits([*visits, table_of(tmp_path, mjd=60800.0 + np.arange(6.0), star_type=["A"] * 6)])
    assert len(usable_visits(table)[0].value) == 16 + 6


def test_units_of_a_table_are_honoured(tmp_path):
    table = Table.read(table_of(tmp_path), format="ascii.ecsv")
    plain = read_visits([tmp_path / "visits.ecsv"])
    for name, unit, factor in (("ratio", "percent", 100), ("ratio_err", "percent", 100), ("spectrum_err", "%", 100)):
        table[name] *= factor
        table[name].unit = unit
    table["count_rate"] /= 1000
    table["count_rate"].unit = "DN / ms"
    table.write(tmp_path / "units.ecsv", format="ascii.ecsv")
    found = read_visits([tmp_path / "units.ecsv"])
    for name in ("ratio", "own", "spectrum_err", "count_rate"):
        assert np.asarray(found[name]) == pytest.approx(np.asarray(plain[name]), rel=1e-12)
    table["count_rate"].unit = "electron / s"
    table.write(tmp_path / "units.ecsv", format="ascii.ecsv", overwrite=True)
    with pytest.raises(ProductError, match="column count_rate must be numbers in DN / s"):
        read_visits([tmp_path / "units.ecsv"])


def test_a_ratio_that_its_own_status_doubts_is_left_out_where_others_are_near_1(tmp_path):
    (told,) = rate_warnings_of(0.7)
    status = [f"measured with warnings: {told}", *["measured"] * 5]
    ratio = np.array([0.7, 1.0, 1.01, 1.0, 0.99, 1.0])
    rows = read_visits([table_of(tmp_path, ratio=ratio, status=status)])
    _, index, reason = usable_visits(rows)
    assert list(index) == [1, 2, 3, 4, 5]
    assert reason[0] == "its status doubts the ratio of 0.7, and other visits' in F200W differ"
    assert len(usable_visits(rows, keep_all=True)[1]) == 6
    # all alike: the throughput is wrong, not the star; nor is a visit left out for 3 % between 1.09 and 1.12
    for ratio, doubts in ((np.full(6, 0.7), 6), (np.array([1.12, 1.09, 1.09, 1.09, 1.09, 1.09]), 1)):
        status = [f"measured with warnings: {told}"] * doubts + ["measured"] * (6 - doubts)
        assert len(usable_visits(read_visits([table_of(tmp_path, ratio=ratio, status=status)]))[1]) == 6


def rate_warnings_of(ratio):
    """What a group's status says of its ratio."""
    radius, rates = np.array([5.0, 10.0]), np.array([90.0, 100.0])
    combined = combine_profiles(["a"], radius, [rates], [np.eye(2)])
    area, rings = np.pi * radius[None] ** 2, [(np.zeros(0), np.zeros(0))]
    total = total_rate(combined, lambda r: rates / 100, np.zeros_like, area=area, rings=rings)
    return rate_warnings(total, ["a"], ratio, 0.01)


def test_rows_with_warnings_of_their_own_are_counted(tmp_path):
    own = "light of 2.4 +- 0.1 % of A's at 4 pix that is no PSF's: a companion"
    counted = "measured with warnings: 2 of 2 exposures have warnings"
    status = [f"{counted}; {own}; another", counted, f"measured with warnings: {own}", *["measured"] * 3]
    (text,) = warned_rows(read_visits([table_of(tmp_path, status=status)]))
    assert text == f"2 of 6 rows used have warnings (status in visits.ecsv): visits.ecsv, F200W: {own}"
    assert warned_rows(read_visits([table_of(tmp_path)])) == []
