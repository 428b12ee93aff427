import asdf
import numpy as np
import pytest
from astropy.table import Table

from niriss_eestep.errors import ParameterError, ReferenceDataError
from niriss_eestep.instrument import FILTERS
from niriss_eestep.psf.build import Sampling, build_psfs, check_filters, provenance, psfee_of
from niriss_eestep.reference import PSFEE, EETable, load_psf_images, load_psfee, write_psf_images, write_psfee

RADIUS = np.arange(0.0, 31.0)
EE = 1 - 1 / (1 + RADIUS) ** 1.5


def table(ee=EE, radius=RADIUS):
    return {"F090W": EETable(radius, ee, np.zeros(radius.size))}


@pytest.fixture(scope="module")
def packaged():
    return load_psfee()


def test_packaged_reference_covers_all_filters_to_60_pix(packaged):
    assert packaged.filters == tuple(FILTERS)
    assert packaged.radius_max >= 60
    for name in packaged.filters:
        ee, error = packaged.ee(name, [0, 2, 5, 10, 25, 60]), packaged.ee_err(name, [2, 5, 10, 25])
        assert ee[0] == 0
        assert np.all(np.diff(ee) > 0)
        assert 0.94 < ee[-1] < 1
        # what the prior's scatters (30, 60, 30 and 20 % of 16, 16.5, 47.9 and 50 nm) move out of the core in first
        # order: sd of (2 pi rms / wavelength)^2
        moved = (2 * np.pi / (1000 * FILTERS[name].pivot)) ** 2 * 1740
        assert np.all((error > 0) & (error < moved))


def test_packaged_reference_says_what_it_is_built_from(packaged):
    assert packaged.meta["wavefront"]["name"] == "inflight"
    assert 56 < packaged.meta["wavefront"]["total_rms"] < 80
    assert packaged.meta["geometry"]["clearp_transmission"] == pytest.approx(0.854, abs=0.001)
    assert {"seed", "throughput", "spectrum", "versions", "sampling"} <= set(packaged.meta)


@pytest.mark.parametrize("name", ["F090W", "F200W", "F480M"])
def test_interpolation_holds_to_1e_4(packaged, name):
    """Leaving out every second radius moves the interpolation by less than 1e-3; PCHIP's error falls eightfold."""
    full = packaged.table(name)
    half = PSFEE({name: EETable(full.radius[::2], full.ee[::2], full.ee_err[::2])}, "half")
    radius = full.radius[(full.radius >= 0.5) & (full.radius <= half.radius_max)]
    assert half.ee(name, radius) == pytest.approx(packaged.ee(name, radius), abs=8e-4)


def test_same_command_makes_the_packaged_reference(packaged):
    psf = build_psfs(["F480M"])["F480M"]
    # single-precision sums in another order
    assert psf.ee == pytest.approx(packaged.table("F480M").ee, abs=2e-6)
    assert psf.ee_err == pytest.approx(packaged.table("F480M").ee_err, abs=2e-6)
    image = load_psf_images()["F480M"]
    assert psf.image.light == pytest.approx(image.light, abs=1e-7)


def test_asdf_round_trip(tmp_path):
    psfs = build_psfs(["F444W"], sampling=Sampling(n_wavelengths=1, n_realisations=2))
    psfee = psfee_of(psfs, provenance("prelaunch"))
    write_psfee(psfee, tmp_path / "a.asdf")
    again = load_psfee(tmp_path / "a.asdf")
    radius = np.linspace(0, 60, 50)
    assert np.array_equal(again.ee("F444W", radius), psfee.ee("F444W", radius))
    assert np.array_equal(again.ee_err("F444W", radius), psfee.ee_err("F444W", radius))
    assert again.meta["wavefront"]["name"] == "prelaunch"
    assert again.name == "a.asdf"


def test_ecsv_with_a_column_per_filter(tmp_path):
    Table({"radius": RADIUS[1:], "F090W": EE[1:], "f444w": 0.9 * EE[1:]}).write(tmp_path / "a.ecsv")
    psfee = load_psfee(tmp_path / "a.ecsv")
    assert psfee.filters == ("F090W", "F444W")
    assert psfee.ee("f090w", [0, 3, 30]) == pytest.approx([0, EE[3], EE[30]])
    assert np.all(psfee.ee_err("F444W", RADIUS) == 0)


def test_interpolation_is_monotone_and_keeps_shape():
    psfee = PSFEE(table(), "t")
    radius = np.linspace(0, 30, 300).reshape(30, 10)
    ee = psfee.ee("F090W", radius)
    assert ee.shape == (30, 10)
    assert np.all(np.diff(ee.ravel()) >= 0)


def test_radius_beyond_the_table_is_refused():
    psfee = PSFEE(table(), "short.ecsv")
    with pytest.raises(ReferenceDataError, match=r"short.ecsv: .*F090W reaches 30 pix, but 32.5 pix is needed"):
        psfee.ee("F090W", [5, 32.5])


@pytest.mark.parametrize("radius", [-1.0, np.nan])
def test_radius_that_is_none_is_refused(radius):
    with pytest.raises(ParameterError, match="radius of the encircled energy of F090W"):
        PSFEE(table(), "t").ee("F090W", radius)


def test_filter_that_it_lacks_is_refused():
    with pytest.raises(ReferenceDataError, match="t: no encircled energy of F480M; it has F090W"):
        PSFEE(table(), "t").ee("F480M", 3)


@pytest.mark.parametrize(
    ("ee", "message"),
    [
        (EE * 1.2, "exceeds 1"),
        (np.where(RADIUS == 8, EE - 0.1, EE), "falls from .* at 7 pix to .* at 8 pix"),
        (EE + 0.1, "starts at 0"),
        (np.where(RADIUS == 3, np.nan, EE), "not finite"),
        (EE[:-1], "radii"),
    ],
)
def test_values_that_are_no_ee_are_refused(ee, message):
    with pytest.raises(ReferenceDataError, match=message):
        PSFEE({"F090W": EETable(RADIUS, ee, np.zeros(RADIUS.size))}, "t")


def test_radii_out_of_order_are_refused():
    with pytest.raises(ReferenceDataError, match="must be finite, not negative, and rise"):
        PSFEE(table(radius=RADIUS[::-1]), "t")


def test_numerical_noise_is_let_pass():
    """Resampled images exceed 1, or fall, by a little."""
    ee = np.minimum(EE * 1.0002 / EE[-1], 1.0002)
    assert PSFEE(table(ee=ee), "t").ee("F090W", 30) == pytest.approx(1, abs=1e-12)


def test_nothing_and_unknown_filters_are_refused():
    with pytest.raises(ReferenceDataError, match="no encircled energy in it"):
        PSFEE({}, "t")
    with pytest.raises(ReferenceDataError, match="F999W: no NIRISS imaging filter"):
        PSFEE({"F999W": EETable(RADIUS, EE, EE)}, "t")


@pytest.mark.parametrize(("n_modes", "radius"), [(3, []), (3, [0.0]), (0, [0.0, 1.0])])
def test_modes_of_nothing_are_refused(n_modes, radius):
    modes = {"F090W": np.zeros((n_modes, len(radius)), np.float32)}
    with pytest.raises(ReferenceDataError, match=r"star\.asdf: modes of shape"):
        PSFEE(table(), "star.asdf", modes=modes, mode_radius=np.array(radius))


def test_files_that_are_no_psfee_are_refused(tmp_path):
    with pytest.raises(ReferenceDataError, match="no such file"):
        load_psfee(tmp_path / "nothing.asdf")
    (tmp_path / "text.asdf").write_text("not asdf")
    with pytest.raises(ReferenceDataError, match=r"text\.asdf: not a psfee reference"):
        load_psfee(tmp_path / "text.asdf")
    asdf.AsdfFile({"meta": {"reftype": "gain"}}).write_to(tmp_path / "gain.asdf")
    with pytest.raises(ReferenceDataError, match=r"gain\.asdf: not a psfee reference"):
        load_psfee(tmp_path / "gain.asdf")
    Table({"r": RADIUS}).write(tmp_path / "r.ecsv")
    with pytest.raises(ReferenceDataError, match="no column 'radius'"):
        load_psfee(tmp_path / "r.ecsv")
    Table({"radius": RADIUS, "F090W": EE}, units={"radius": "arcsec"}).write(tmp_path / "arcsec.ecsv")
    with pytest.raises(ReferenceDataError, match="must be in detector pixels"):
        load_psfee(tmp_path / "arcsec.ecsv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReferenceDataError, match="neither FITS images"):
        load_psfee(tmp_path / "empty")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"values": np.zeros((2, 1, 3), np.float32)}, r"modes of shape \(2, 1, 3\) for 1 filters"),
        ({"values": np.zeros((1, 1, 4), np.float32)}, r"modes of shape \(1, 1, 4\) for 3 radii"),
        ({"values": np.full((1, 1, 3), 0.1 + 0.1j)}, "modes of the PSF: not numbers"),
        ({"values": np.full((1, 1, 3), np.nan, np.float32)}, "not finite"),
        ({"filters": ["F480M"]}, "not those of F090W"),
        ({"radius": np.array([1.0, 2.0, 3.0])}, "radii not rising from 0"),
        ({"radius": np.array([0.0, 2.0, 2.0])}, "radii not rising from 0"),
        ({"flatter": -1.0}, "meta.flatter must be a number from 0 to 1000"),
        ({"flatter": float("nan")}, "meta.flatter must be a number from 0 to 1000"),
        ({"flatter": "16"}, "'16' is not of type 'number'"),
    ],
)
def test_modes_that_do_not_belong_to_the_tables_are_refused(tmp_path, wrong, message):
    modes = {"filters": ["F090W"], "radius": np.arange(3.0), "values": np.full((1, 1, 3), 0.1, np.float32)}
    path, entry = tmp_path / "modes.asdf", {"radius": RADIUS, "ee": EE, "ee_err": np.zeros(RADIUS.size)}
    tree = {"meta": {"reftype": "psfee", "instrument": "NIRISS", "radius_unit": "pixel"}, "psfee": {"F090W": entry}}
    asdf.AsdfFile(tree | {"modes": modes}).write_to(path)
    # beyond their last radius, 2 pix, they fall as 1/r
    assert load_psfee(path).modes_at("F090W", [1.0, 4.0])[:, 0] == pytest.approx([0.1, 0.05])
    tree["meta"] |= {key: value for key, value in wrong.items() if key == "flatter"}
    asdf.AsdfFile(tree | {"modes": modes | wrong}).write_to(path)
    with pytest.raises(ReferenceDataError, match=message):
        load_psfee(path)


def test_nrm_and_unknown_filters_are_not_built():
    with pytest.raises(ParameterError, match="NRM is the non-redundant mask"):
        check_filters(["nrm"])
    with pytest.raises(ParameterError, match="F100X: no NIRISS imaging filter"):
        check_filters(["F090W", "F100X"])
    with pytest.raises(ParameterError, match="wavefront 'best' is unknown"):
        build_psfs(["F090W"], wavefront="best")
    assert check_filters(["f480m", "F090W"]) == ("F090W", "F480M")


def test_images_are_read_filter_by_filter(tmp_path):
    images = load_psf_images()
    assert tuple(images) == tuple(FILTERS)
    assert images["F090W"] is images["F090W"]
    with pytest.raises(KeyError):
        images["F100X"]
    asdf.AsdfFile({"meta": {}}).write_to(tmp_path / "other.asdf")
    with pytest.raises(ReferenceDataError, match="not a file of PSF images"):
        load_psf_images(tmp_path / "other.asdf")
    image = {"light": np.full((8, 8), 0.01), "oversample": 2, "ee": np.array([0.1, 0.2])}
    for wrong in (None, 3, "x", [], *(image | {key: value} for key in image for value in (None, "x", [1, "a"], 1j))):
        tree = {"meta": {}, "radius": np.array([0.5, 1.0]), "images": {"F480M": wrong}}
        asdf.AsdfFile(tree).write_to(tmp_path / "other.asdf")
        with pytest.raises(ReferenceDataError, match="PSF image"):
            load_psf_images(tmp_path / "other.asdf")
    with pytest.raises(ReferenceDataError, match="no such file"):
        load_psf_images(tmp_path / "nothing.asdf")


def test_one_psf_image_of_a_file(tmp_path):
    (name, image), *more = load_psf_images(None, "F380M").items()
    assert (name, more) == ("F380M", [])
    whole = load_psf_images()["F380M"]
    np.testing.assert_array_equal(image.light, whole.light)
    np.testing.assert_array_equal(image.ee, whole.ee)
    write_psf_images({"F380M": image}, tmp_path / "one.asdf")
    with pytest.raises(ReferenceDataError, match=r"one\.asdf: no PSF image of F200W; it has F380M"):
        load_psf_images(tmp_path / "one.asdf", "F200W")
    # what is wrong with another filter's is said when it is read
    data = {"light": image.light, "oversample": image.oversample, "ee": image.ee}
    tree = {"meta": {}, "radius": image.radius, "images": {"F380M": data, "F430M": data | {"ee": 1j * image.ee}}}
    asdf.AsdfFile(tree).write_to(tmp_path / "odd.asdf")
    assert load_psf_images(tmp_path / "odd.asdf", "F380M")["F380M"].oversample == image.oversample
    for filters in ((), ("F430M",)):
        with pytest.raises(ReferenceDataError, match=r"odd\.asdf: PSF image of F430M: not numbers"):
            load_psf_images(tmp_path / "odd.asdf", *filters)
