"""A bad exposure is recorded: in its product, its group, the table and the log. The others are measured."""

import hashlib
import logging
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from catalogue import FAULTS, SECTIONS, normal
from lab import BAD, GOOD, Lab

from niriss_eestep import products
from niriss_eestep.errors import AssociationError, ExposureError, NirissEEError

MESSAGES = Path(__file__).with_name("MESSAGES.md")


def checksums(folder):
    """SHA-256 of every file; of the sparse one of 15 GB the length."""
    files = [path for path in folder.iterdir() if path.is_file()]
    small = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.stat().st_size < 2**30}
    return {path.name: path.stat().st_size for path in files} | small


def table_messages():
    """Messages of the table, by the section's title and the fault."""
    messages, title = {}, ""
    for row in MESSAGES.read_text(encoding="utf-8").splitlines():
        if row.startswith("## "):
            title = row.removeprefix("## ")
        elif row.startswith("| "):
            what, message = row.strip("| ").split(" | ", 1)
            messages[title, what] = message
    return messages


def statuses(model):
    return {str(row["exposure"]): str(row["status"]) for row in model.exposures}


def test_every_fault_in_one_association(lab, source, tmp_path):
    """All exposures that fail alone fail here, for the same reason, and change nothing of the good one."""
    alone = lab.calibrate(lab.exposure(GOOD))
    members, reasons, messages = [lab.exposure(GOOD)], {}, table_messages()
    for k, fault in enumerate(f for f in FAULTS if f.of_exposure):
        other = Lab(source, tmp_path / str(k))
        message = messages[SECTIONS[fault.section], fault.what]
        if message.startswith("measured"):
            continue
        path = fault.make(other)
        name = f"jw09999001001_02101_{k:05d}_nis"
        new = lab.folder / path.name.replace(BAD.removesuffix("_rate.fits"), name)
        if path.exists():
            path.rename(new)
        members.append(new)
        reasons[name] = re.sub(r"^\w+: (\S+: )?", "", message)
        if new.is_dir():  # alone, the remedy is another
            reasons[name] = "is a directory, not a file (JWST exposure)"
    before = checksums(lab.folder)
    together = lab.calibrate(lab.association(members, name="all"))
    after = checksums(lab.folder)

    assert after == before | {"asn.json": after["asn.json"]}
    found = statuses(together)
    good = GOOD.removesuffix("_rate.fits")
    assert found.pop(good) == "measured"
    assert set(found) == set(reasons)
    for name, status in found.items():
        assert status.startswith("failed: ")
        assert normal(status, lab.folder).endswith(reasons[name].replace("\\", "")), name
    first, row = alone.table[0], next(row for row in together.table if row["n_measured"])
    assert row["count_rate"] == first["count_rate"]
    assert row["count_rate_err"] == first["count_rate_err"]
    assert row["n_exposures"] > row["n_measured"] == 1
    assert "exposures failed" in row["status"]


def test_the_log_says_once_what_became_of_each(lab, caplog):
    bad = lab.image(lambda arrays: arrays["SCI"].fill(np.nan))
    with caplog.at_level(logging.INFO, "niriss_eestep"):
        lab.calibrate(lab.association([lab.exposure(GOOD), bad, lab.folder / "gone_rate.fits"]))
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("niriss_eestep")]
    assert lines[-1].endswith("1 measured, 0 measured with warnings, 2 failed")
    assert "F200W SUB128: 1 of 3" in lines[-2]
    assert len([line for line in lines if "gone_rate.fits: failed: " in line and "no such file" in line]) == 1
    # by either step
    assert len([line for line in lines if f"{BAD.removesuffix('_rate.fits')}: failed: " in line]) == 2


def test_a_failed_exposure_has_a_product_that_says_so(lab):
    bad = lab.image(lambda arrays: arrays["SCI"].__setitem__(lab.distance() < 1.6, np.nan))
    lab.calibrate(lab.association([lab.exposure(GOOD), bad]))
    product = products.open(lab.out / BAD.replace("_rate.fits", "_eeprofile.asdf"))
    assert product.meta.ee.status.startswith("failed: 8 bad pixel(s) within 5 pix")
    assert np.isnan(product.count_rate).all()


@pytest.mark.parametrize("readable", [True, False])
def test_a_group_whose_members_all_failed_has_a_row_that_says_so(lab, readable):
    def other_filter(hdus):
        hdus[0].header["PUPIL"] = "F115W"
        hdus["SCI"].data[:] = np.nan
        if not readable:
            hdus["SCI"].header["BUNIT"] = "furlong"

    model = lab.calibrate(lab.association([lab.exposure(GOOD), lab.edited(other_filter)]))
    rows = {str(row["filter"]): row for row in model.table}
    assert rows["F200W"]["status"] == "measured"
    assert rows["F115W"]["status"].startswith("failed: ")
    assert (rows["F115W"]["n_exposures"], rows["F115W"]["n_measured"]) == (1, 0)
    assert np.isnan(rows["F115W"]["count_rate"])


def test_on_error_raise(lab):
    asn = lab.association([lab.exposure(GOOD), lab.folder / "gone_rate.fits"])
    with pytest.raises(ExposureError, match="no such file"):
        lab.calibrate(asn, on_error="raise")


def test_nothing_measured_is_an_error(lab):
    with pytest.raises(NirissEEError, match="none of 2 exposures could be measured"):
        lab.calibrate(lab.association(["a_rate.fits", "b_rate.fits"]))
    assert not list(lab.out.glob("*_absflux.asdf"))


def test_one_product_of_an_association_may_fail(lab):
    import json

    path = lab.association([lab.exposure(GOOD)])
    association = json.loads(path.read_text())
    association["products"].append({"name": "lost", "members": [{"expname": "gone_rate.fits", "exptype": "science"}]})
    path.write_text(json.dumps(association))
    model = lab.calibrate(path)
    assert model.table["status"] == ["measured"]


def test_two_runs_are_the_same_to_the_last_bit(lab):
    first = lab.calibrate(lab.exposure(GOOD), steps={"ee_photometry": {"bad_pixel_method": "psf"}})
    again = lab.calibrate(lab.exposure(GOOD), steps={"ee_photometry": {"bad_pixel_method": "psf"}})
    for name in ("total_count_rate", "total_count_rate_err", "ee_effective"):
        np.testing.assert_array_equal(first[name], again[name])
    # NaN is the same as NaN, and 0.0 is not -0.0
    assert first.table.tobytes() == again.table.tobytes()


def test_nothing_is_written_outside_the_output_directory(lab, tmp_path):
    """A header, a link and a member that lead elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = lab.header(TARGPROP="../../../elsewhere/x", PROGRAM="../..")
    moved = path.rename(elsewhere / path.name)
    lab.out.mkdir()
    victim = elsewhere / "victim.asdf"
    victim.write_text("mine")
    link = lab.out / GOOD.replace("_rate.fits", "_eeprofile.asdf")
    link.symlink_to(victim)
    members = ["../elsewhere/" + moved.name, str(lab.exposure(GOOD))]
    lab.calibrate(lab.association(members, name="x"))
    lab.calibrate([str(moved)])
    assert {p.name for p in elsewhere.iterdir()} == {"victim.asdf", moved.name}
    assert victim.read_text() == "mine"
    assert not link.is_symlink()
    written = [p for p in tmp_path.rglob("*.asdf") if p != victim]
    assert written
    for product in written:
        assert product.parent == lab.out
        assert re.fullmatch(r"[A-Za-z0-9_.+-]+", product.name), product.name


def test_a_target_in_memory_with_escapes_is_harmless(lab, caplog):
    """FITS allows printable text only; a model in memory allows anything."""
    from stdatamodels.jwst.datamodels import ImageModel

    with ImageModel(lab.exposure(GOOD)) as model, caplog.at_level(logging.DEBUG):
        model.meta.target.proposer_name = "\x1b[31mP330E\n2022-01-01 INFO all is well <script>"
        result = lab.calibrate([model])
        assert model.meta.target.proposer_name.startswith("\x1b")
    assert all(
        record.getMessage().replace("\n  ", "").isprintable()
        for record in caplog.records
        if record.name.startswith("niriss_eestep")
    )
    assert result.table["target"][0] == r"\x1b[31mP330E\n2022-01-01 INFO all is well <script>"
    assert all(re.fullmatch(r"[A-Za-z0-9_.+-]+", path.name) for path in lab.out.iterdir())


def test_the_whole_of_a_decompression_bomb_is_never_unpacked(lab):
    """15 MB that would unpack to 14 GB end at the first header, whoever looks at them."""
    import gzip
    import resource

    path = lab.exposure().with_suffix(".fits.gz")
    with fits.open(lab.exposure()) as hdus, gzip.open(path, "wb", compresslevel=1) as file:
        file.write(hdus[0].header.tostring().encode())
        file.write(bytes(300 * 2**20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "no SCI extension" in lab.measure(path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100 * 1024  # [kB]; the file has 300 MB


def test_an_association_cannot_name_what_is_no_file_name(lab):
    with pytest.raises(AssociationError, match="not a plain file name"):
        lab.calibrate(lab.association([lab.exposure(GOOD)], name="a/b"))
    assert not list(lab.folder.rglob("*.asdf"))


@pytest.mark.parametrize(("members", "code"), [((GOOD, "gone_rate.fits"), 0), (("gone_rate.fits",), 1)])
def test_the_exit_status_of_strun(lab, members, code):
    """0 where anything was measured; the message is the last line otherwise."""
    lab.exposure(GOOD)
    asn = lab.association(members)
    run = subprocess.run(
        [Path(sys.executable).with_name("strun"), "niriss_fluxcal", asn, "--output_dir", lab.out],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == code, run.stderr
    assert "gone_rate.fits: no such file" in run.stderr
    if code:
        assert "none of 1 exposures could be measured" in run.stderr.splitlines()[-1]


def test_markup_in_a_header_is_text_in_the_report(lab):
    lab.calibrate(lab.header(TARGPROP="<script>alert(1)</script>"), save_report=True)
    page = next(lab.out.glob("*.html")).read_text(encoding="utf-8").lower()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
