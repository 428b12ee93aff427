import numpy as np
import pytest
from astropy.table import Table

from niriss_eestep.cli import main
from niriss_eestep.psf.pupil import WEBBPSF_PUPIL
from niriss_eestep.reference import load_psf_images, load_psfee


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
        (["compare", "packaged", "missing.asdf"], "no such file or directory"),
        (["compare", "packaged", "packaged", "--radii", "70"], "none of the radii"),
        (["compare", "packaged", "packaged", "--sky-in-b", "25", "20"], "the inner, then the outer radius"),
    ],
)
def test_wrong_arguments_end_with_a_message(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["psfee", *arguments]) == 1
    assert message in capsys.readouterr().err
