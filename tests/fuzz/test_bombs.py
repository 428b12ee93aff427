"""Files that would block the reader, or expand beyond the memory: rejected before anything is unpacked."""

import os
import resource
import socket
import time
from types import SimpleNamespace

import asdf
import numpy as np
import pytest
from astropy.io import fits

from niriss_eestep.calibration.table import read_visits
from niriss_eestep.errors import AssociationError, ExposureError, NirissEEError, ReferenceDataError
from niriss_eestep.exposures.associations import find_exposures
from niriss_eestep.exposures.inputs import Member, gather
from niriss_eestep.psf.stpsf import read_psf_image, read_radtab
from niriss_eestep.reference import load_apcorr, load_psf_images, load_psfee, load_spectrum, load_throughput
from niriss_eestep.reference.region import mean_gain, read_opd
from niriss_eestep.steps import EEPhotometryStep


def peak_memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # [MB]


@pytest.fixture
def measure():
    """Measure a file, which must fail within a second and without memory."""
    step = EEPhotometryStep()

    def measure(path, match):
        before, start = peak_memory(), time.process_time()
        with pytest.raises(ExposureError, match=match) as error:
            step.measure(Member("bomb", path, path.name))
        assert path.name in str(error.value)
        assert peak_memory() - before < 100
        assert time.process_time() - start < 2

    return measure


@pytest.fixture
def exposure(simulate):
    return simulate()[1][0]


def _with_sci(exposure, path, header, size):
    """Copy an exposure with another SCI header, whose data are a hole in the file."""
    with fits.open(exposure) as hdus, path.open("wb") as file:
        file.write(hdus[0].header.tostring().encode())
        file.write(header.tostring().encode())
        file.truncate(file.tell() + -(-size // 2880) * 2880)


def test_image_compressed_by_tiles(exposure, tmp_path, measure):
    side, tiles = 20_000, 20_000
    header = fits.Header([("XTENSION", "BINTABLE"), ("BITPIX", 8), ("NAXIS", 2), ("NAXIS1", 8), ("NAXIS2", tiles)])
    header.extend(
        [("PCOUNT", 0), ("GCOUNT", 1), ("TFIELDS", 1), ("TTYPE1", "COMPRESSED_DATA"), ("TFORM1", "1PB(60)")],
        strip=False,
    )
    header.extend(
        [("ZIMAGE", True), ("ZBITPIX", -32), ("ZNAXIS", 2), ("ZNAXIS1", side), ("ZNAXIS2", side)], strip=False
    )
    header.extend([("ZCMPTYPE", "GZIP_1"), ("EXTNAME", "SCI")], strip=False)
    path = tmp_path / "tiles_rate.fits"
    _with_sci(exposure, path, header, 8 * tiles)
    measure(path, r"extension SCI it has 1600 MB when unpacked; the limit is max_size=600 \[MB\]")


def test_scaled_image_with_holes(exposure, tmp_path, measure):
    side = 30_000
    header = fits.Header([("XTENSION", "IMAGE"), ("BITPIX", 16), ("NAXIS", 2), ("NAXIS1", side), ("NAXIS2", side)])
    header.extend([("PCOUNT", 0), ("GCOUNT", 1), ("BZERO", 32768), ("BSCALE", 1), ("EXTNAME", "SCI")], strip=False)
    path = tmp_path / "holes_rate.fits"
    _with_sci(exposure, path, header, 2 * side * side)
    measure(path, "it has 7200 MB when unpacked")


def test_array_in_the_metadata(exposure, tmp_path, measure):
    bomb = tmp_path / "bomb.asdf"
    asdf.AsdfFile({"meta": {"wcs": np.zeros(200_000_000, np.uint8)}}).write_to(bomb, all_array_compression="zlib")
    path = tmp_path / "metadata_rate.fits"
    with fits.open(exposure) as hdus:
        text = np.frombuffer(bomb.read_bytes(), np.uint8)
        column = fits.Column("ASDF_METADATA", f"{text.size}B", array=text[None])
        hdus["ASDF"] = fits.BinTableHDU.from_columns([column], name="ASDF")
        hdus.writeto(path)
    assert path.stat().st_size < 2e6
    measure(path, "its arrays expand to 200000000 bytes")


def test_array_whose_strides_repeat_a_value(tmp_path):
    path = tmp_path / "strides.asdf"
    path.write_bytes(
        b"#ASDF 1.0.0\n#ASDF_STANDARD 1.6.0\n%YAML 1.1\n%TAG ! tag:stsci.edu:asdf/\n--- !core/asdf-1.1.0\n"
        b"meta: {}\npsfee: {F200W: {ee: !core/ndarray-1.1.0 {source: 0, datatype: float64, byteorder: little, "
        b"shape: [100000, 100000], strides: [0, 0]}}}\n...\n"
    )
    with pytest.raises(ReferenceDataError, match="an array of 100000 x 100000 values is larger"):
        load_psfee(path)


@pytest.mark.parametrize("tree", [b"&top {meta: *top}", b"meta: {}\npsfee: &list [1, [2, *list]]"])
def test_a_tree_that_holds_itself(tmp_path, tree):
    path = tmp_path / "endless.asdf"
    path.write_bytes(b"#ASDF 1.0.0\n#ASDF_STANDARD 1.6.0\n%YAML 1.1\n---\n" + tree + b"\n...\n")
    with pytest.raises(ReferenceDataError, match=r"endless\.asdf: its metadata hold themselves: (top|list)"):
        load_psfee(path)


@pytest.mark.parametrize("load", [load_psfee, load_throughput, load_psf_images])
@pytest.mark.parametrize("source", [b"source: other.asdf", b"source: http://127.0.0.1:9/x.asdf"])
def test_references_do_not_follow_others(tmp_path, load, source):
    path = tmp_path / "follows.asdf"
    key = {load_psfee: "psfee", load_throughput: "throughput"}.get(load, "images")
    asdf.AsdfFile({"meta": {}, key: {"F200W": {"x": np.zeros(3)}}, "radius": np.zeros(3)}).write_to(path)
    path.write_bytes(path.read_bytes().replace(b"source: 0", source, 1))
    with pytest.raises(ReferenceDataError, match=r"follows\.asdf: refers to another file"):
        load(path)


@pytest.mark.parametrize("load", [load_psfee, load_throughput, load_psf_images, load_spectrum])
@pytest.mark.parametrize("suffix", ["asdf", "ecsv", "fits"])
def test_what_is_no_regular_file_is_not_opened(tmp_path, monkeypatch, load, suffix):
    monkeypatch.chdir(tmp_path)
    os.mkfifo(f"pipe.{suffix}")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"socket.{suffix}")
        for kind in ("pipe", "socket"):
            with pytest.raises(ReferenceDataError, match=rf"{kind}\.{suffix}: is a device, pipe or socket"):
                load(f"{kind}.{suffix}")


@pytest.mark.parametrize("suffix", ["fits", "fits.gz", "asdf"])
def test_a_pipe_is_no_exposure(tmp_path, suffix):
    path = tmp_path / f"pipe_rate.{suffix}"
    os.mkfifo(path)
    with pytest.raises(NirissEEError, match="is a device, pipe or socket"):
        EEPhotometryStep().measure(Member("pipe", path, path.name))


READERS = {
    "pipe_asn.json": lambda path: gather([path]),
    "visits.ecsv": lambda path: read_visits([path]),
    "f200w_psf.radtab": read_radtab,
    "pipe_psf.fits": lambda path: read_psf_image(path, load_psfee()),
    "opd.fits": read_opd,
    "gain.fits": lambda path: mean_gain(path, SimpleNamespace(xstart=1, ystart=1, xsize=64, ysize=64)),
    "apcorr.fits": load_apcorr,
    "x_absflux.asdf": lambda path: read_visits([path]),
}


@pytest.mark.parametrize("name", READERS)
def test_no_reader_opens_a_pipe(tmp_path, name):
    path = tmp_path / name
    os.mkfifo(path)
    with pytest.raises(NirissEEError, match=f"{name}: is a device, pipe or socket"):
        READERS[name](path)


def test_a_pipe_among_exposures_is_told(tmp_path):
    os.mkfifo(tmp_path / "jw01094001001_02101_00001_nis_rate.fits")
    with pytest.raises(AssociationError, match=r"00001_nis_rate\.fits: is a device, pipe or socket"):
        find_exposures(tmp_path)


@pytest.mark.parametrize("read", [read_opd, lambda path: read_psf_image(path, load_psfee())])
def test_a_small_file_that_unpacks_to_gigabytes_is_no_image(tmp_path, read):
    path = tmp_path / "large.fits"
    with path.open("wb") as file:
        hdu = fits.ImageHDU(np.zeros((2, 2), "f8"), fits.Header({"NAXIS": 2}))
        header = hdu.header
        header["NAXIS1"], header["NAXIS2"] = 20_000, 20_000
        file.write(fits.PrimaryHDU().header.tostring().encode() + header.tostring().encode())
        file.truncate(8 * 20_000**2 + 2880 * 4)
    with pytest.raises(ReferenceDataError, match=r"3200 MB when unpacked; the limit is max_size=600"):
        read(path)


@pytest.mark.parametrize("read", [load_psfee, load_psf_images, load_throughput])
def test_a_tree_whose_root_is_a_list(tmp_path, read):
    path = tmp_path / "list.asdf"
    path.write_bytes(b"#ASDF 1.0.0\n#ASDF_STANDARD 1.5.0\n%YAML 1.1\n---\n- 1\n- {meta: 2}\n...\n")
    with pytest.raises(ReferenceDataError, match=r"list\.asdf: not a .*: its root is no mapping of entries"):
        read(path)
