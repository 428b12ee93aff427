import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from niriss_eestep import CombineProfilesStep, EEPhotometryStep
from niriss_eestep.calibration.table import observed_psfee
from niriss_eestep.cli import main
from niriss_eestep.instrument import PIXEL_SCALE
from niriss_eestep.psf.diffraction import ImageGrid, monochromatic_intensity, position_of_star
from niriss_eestep.psf.pupil import CIRCUMSCRIBED_DIAMETER, INFLIGHT_PUPIL, WEBBPSF_PUPIL
from niriss_eestep.reference import PSFEE, load_psf_images, load_psfee, write_psfee
from niriss_eestep.reference.region import read_opd
from niriss_eestep.simulate.program import Program, simulate_program


def test_build_one_filter(tmp_path, capsys):
    output, images = tmp_path / "psfee.asdf", tmp_path / "images.asdf"
    assert main(["psfee", "build", "--filters", "f480m", "--output", str(output), "--images", str(images)]) == 0
    captured = capsys.readouterr()
    assert "F480M, to 60 pix" in captured.out
    # the progress bar is for people
    assert captured.err == ""
    psfee = load_psfee(output)
    assert psfee.filters == ("F480M",)
    assert psfee.table("F480M").ee == pytest.approx(load_psfee().table("F480M").ee, abs=2e-6)
    assert tuple(load_psf_images(images)) == ("F480M",)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Give the reference of F200W, coarsely sampled, that arguments build."""

    def build(*arguments):
        output = tmp_path_factory.mktemp("built") / "psfee.asdf"
        command = ["psfee", "build", "--coarse", "--filters", "F200W", "--output", str(output)]
        assert main(command + [str(argument) for argument in arguments]) == 0
        return load_psfee(output)

    return build


def map_of_wavefront(path, defocus, unit="micron", scale=1e-3):
    """FITS map over the entrance pupil: defocus [nm rms over the circle]."""
    x = (np.arange(256) + 0.5) / 128 - 1
    r2 = x[None, :] ** 2 + x[:, None] ** 2
    hdu = fits.PrimaryHDU((scale * defocus * np.sqrt(3) * (2 * r2 - 1) * (r2 <= 1)).astype(np.float32))
    hdu.header["BUNIT"] = unit
    hdu.writeto(path)
    return path


def test_build_with_a_measured_wavefront(built, tmp_path):
    small, middle, large = (
        built("--opd", map_of_wavefront(tmp_path / f"{rms}.fits", rms)) for rms in (20.0, 75.0, 150.0)
    )
    in_nm = built("--opd", map_of_wavefront(tmp_path / "nm.fits", 150.0, "nm", 1.0))
    assert in_nm.table("F200W").ee == pytest.approx(large.table("F200W").ee, abs=1e-6)
    # what leaves the core goes as the square of a small wavefront error, and lies within some pixels
    lost = [1 - psfee.ee("F200W", 1.0) / small.ee("F200W", 1.0) for psfee in (middle, large)]
    assert lost[1] > 0.05
    assert lost[1] / lost[0] == pytest.approx((150**2 - 20**2) / (75**2 - 20**2), rel=0.15)
    assert large.ee("F200W", 10.0) == pytest.approx(small.ee("F200W", 10.0), abs=0.01)
    assert small.meta["wavefront"]["name"] == "20.0.fits"


def test_build_for_a_date_and_a_field_position(built):
    after, before = built(), built("--date", "2022-05-01")
    assert before.meta["wavefront"]["c3_rms"] < after.meta["wavefront"]["c3_rms"]
    assert before.ee("F200W", 3.0) > after.ee("F200W", 3.0)
    center = built("--field", "center")
    # 59.6 nm of the instrument's own in the middle, 47.9 at the subarrays
    assert center.meta["wavefront"]["global_rms"] > after.meta["wavefront"]["global_rms"]
    assert center.ee("F200W", 2.0) < after.ee("F200W", 2.0)


def test_the_map_of_a_wavefront_stands_as_the_pupil_does(tmp_path):
    # a wavefront that is late at the right of the pupil sends the light to the right: V2 rightward, V3 upward
    path = map_of_wavefront(tmp_path / "opd.fits", 1.0)
    with fits.open(path, mode="update") as hdus:
        x = (np.arange(256) + 0.5) / 128 - 1
        hdus[0].data[:] = 0.2 * (0.5 * x[None, :] + x[:, None])
    grid = ImageGrid(4, 16)
    pupil = INFLIGHT_PUPIL.sample(256)
    opd = read_opd(path).astype(np.float32)
    light = monochromatic_intensity(pupil, opd, 2e-6, grid)
    x, y = position_of_star(light, grid)
    # the slope in m/m is an angle
    radius = 0.5 * CIRCUMSCRIBED_DIAMETER
    slope = np.degrees(0.2e-6 / radius) * 3600 / PIXEL_SCALE
    assert (x, y) == pytest.approx((0.5 * slope, slope), abs=0.03)


@pytest.fixture(scope="module")
def visit(tmp_path_factory):
    """Combined profiles of three filters, whose star has a PSF one and a half standard deviations off in a mode."""
    directory = tmp_path_factory.mktemp("visit")
    groups = tuple((name, "SUB64") for name in ("F090W", "F200W", "F480M"))
    simulate_program(directory, Program(groups=groups, n_dithers=2, seed=8))
    profiles = [EEPhotometryStep.call(str(p)) for p in sorted(directory.glob("*_rate.fits"))]
    paths, psfee = [], load_psfee()
    for model in CombineProfilesStep.call(profiles):
        name, radius = model.meta.group.filter, model.radius
        factor = 1 + 1.5 * psfee.modes_at(name, radius)[:, 0] / psfee.ee(name, radius)
        model.count_rate, model.exposure_count_rate = model.count_rate * factor, model.exposure_count_rate * factor
        paths.append(str(directory / f"{name}_eecombined.asdf"))
        model.save(paths[-1])
    return paths


def test_fit_finds_the_psf_of_a_visit(visit, tmp_path, capsys):
    output, images, plot = (tmp_path / name for name in ("fit.asdf", "images.asdf", "fit.png"))
    command = ["psfee", "fit", *visit, "--output", output, "--images", images, "--plot", plot]
    assert main([str(word) for word in command]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["F090W", "F200W", "F480M"]
    for line in lines[1:4]:
        before, after = (float(word) for word in line.split()[-2:])
        assert after < 0.5 * before
    fitted, packaged, radius = load_psfee(output), load_psfee(), np.array([3.0, 5.0, 10.0])
    assert fitted.filters == packaged.filters
    for name in ("F090W", "F150W", "F356W"):  # two of them not observed
        off = fitted.ee(name, radius) - packaged.ee(name, radius) - 1.5 * packaged.modes_at(name, radius)[:, 0]
        assert np.all(np.abs(off) < 3 * fitted.ee_err(name, radius))
        assert np.all(fitted.ee_err(name, radius) < 0.6 * packaged.ee_err(name, radius))
        assert fitted.ee_err(name, radius) == pytest.approx(
            np.sqrt(np.sum(fitted.modes_at(name, radius) ** 2, axis=1)), rel=1e-3
        )
    image = load_psf_images(images)["F200W"]
    assert image.ee == pytest.approx(fitted.ee("F200W", image.radius), abs=1e-6)
    assert plot.stat().st_size > 5000


def test_observed_ee_ends_in_the_fitted_psf(visit, tmp_path):
    observed, packaged = observed_psfee(None, visit[:2], None, tmp_path), load_psfee()
    beyond = np.array([20.0, 30.0])
    for name in ("F090W", "F200W"):
        true = packaged.ee(name, beyond) + 1.5 * packaged.modes_at(name, beyond)[:, 0]
        assert np.all(np.abs(observed.ee(name, beyond) - true) < 3 * observed.ee_err(name, beyond))
        # what was observed, and what the mode lets expect beyond it, are known better than the prior
        assert np.all(observed.ee_err(name, [5.0, 20.0]) < 0.7 * packaged.ee_err(name, [5.0, 20.0]))
        assert np.abs(observed.modes_at(name, beyond)).max() < 0.7 * np.abs(packaged.modes_at(name, beyond)).max()


def test_what_cannot_be_fitted_is_refused(visit, tmp_path, capsys):
    no_modes = tmp_path / "old.asdf"
    write_psfee(PSFEE(load_psfee().tables, "old", {}), no_modes)
    for arguments, message in (
        ([visit[0], "--psfee", str(no_modes)], "has no modes of the PSF"),
        ([visit[0], "--radii", "9", "2"], "give the smaller, then the larger radius"),
        ([str(no_modes)], "not a product"),
    ):
        assert main(["psfee", "fit", *arguments, "--output", str(tmp_path / "a.asdf")]) == 1
        assert message in capsys.readouterr().err


def test_build_from_tables(tmp_path, capsys):
    directory = tmp_path / "old"
    directory.mkdir()
    (directory / "f090w_psf.radtab").write_text("1 0.5\n5 0.85\n30 0.97")
    assert main(["psfee", "build", "--from", str(directory), "--output", str(tmp_path / "a.asdf")]) == 0
    assert load_psfee(tmp_path / "a.asdf").ee("F090W", 5) == pytest.approx(0.85)
    # a filter that the directory lacks
    command = ["psfee", "build", "--from", str(directory), "--filters", "F115W", "--output", str(tmp_path / "a.asdf")]
    assert main(command) == 1
    assert "no encircled energy of F115W; it has F090W" in capsys.readouterr().err


def test_compare_prints_percent_and_plots(tmp_path, capsys):
    radius = np.arange(1.0, 31.0)
    packaged = load_psfee()
    columns = {name: 0.99 * packaged.ee(name, radius) for name in ("F090W", "F480M")}
    Table({"radius": radius} | columns).write(tmp_path / "b.ecsv")
    plot = tmp_path / "difference.png"
    assert main(["psfee", "compare", "packaged", str(tmp_path / "b.ecsv"), "--plot", str(plot)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["filter", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "12", "15", "20", "25"]
    assert [line.split()[0] for line in lines[2:]] == ["F090W", "F480M"]
    # 1 / 0.99 - 1
    assert {value for line in lines[2:] for value in line.split()[1:]} == {"1.01"}
    assert plot.stat().st_size > 5000


def test_compare_with_the_transmission_in_b(tmp_path, capsys):
    radius = np.arange(1.0, 31.0)
    transmission = WEBBPSF_PUPIL.clearp_transmission()
    Table({"radius": radius, "F480M": transmission * load_psfee().ee("F480M", radius)}).write(tmp_path / "b.ecsv")
    assert main(["psfee", "compare", "packaged", str(tmp_path / "b.ecsv"), "--clearp-in-b", "--radii", "5", "10"]) == 0
    last = capsys.readouterr().out.splitlines()[-1].split()
    assert [float(value) for value in last[1:]] == pytest.approx([0, 0], abs=0.011)


def test_compare_with_the_starlight_of_a_sky_annulus_in_b(tmp_path, capsys):
    radius, packaged = np.arange(1.0, 16.0), load_psfee()
    sky = float(np.diff(packaged.ee("F480M", [20, 25]))[0]) / (25**2 - 20**2)
    Table({"radius": radius, "F480M": packaged.ee("F480M", radius) - sky * radius**2}).write(tmp_path / "b.ecsv")
    command = ["psfee", "compare", "packaged", str(tmp_path / "b.ecsv"), "--radii", "5", "10"]
    found = []
    for option in ([], ["--sky-in-b", "20", "25"]):
        assert main(command + option) == 0
        found.append([float(value) for value in capsys.readouterr().out.splitlines()[-1].split()[1:]])
    # worth 0.4 to 1.4 % in F480M
    assert np.all(np.array(found[0]) > 0.3)
    assert found[1] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "--filters", "NRM", "--output", "a.asdf"], "non-redundant mask"),
        (["build", "--filters", "F100X", "--output", "a.asdf"], "no NIRISS imaging filter"),
        (["build", "--output", "nowhere/a.asdf"], "there is no directory"),
        (["build", "--output", "a.fits"], "written as ASDF"),
        (["build", "--from", ".", "--images", "i.asdf", "--output", "a.asdf"], "--images"),
        (["build", "--from", ".", "--output", "a.asdf"], "neither FITS images"),
        (["compare", "packaged", "missing.asdf"], "no such file"),
        (["compare", "packaged", "packaged", "--radii", "70"], "no radius is in both"),
        (["compare", "packaged", "packaged", "--sky-in-b", "25", "20"], "the inner, then the outer radius"),
    ],
)
def test_wrong_arguments_end_with_a_message(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["psfee", *arguments]) == 1
    assert message in capsys.readouterr().err
