"""Files that are no exposures."""

import gzip

import numpy as np
from astropy.io import fits

from . import fault

SECTION = "files"


@fault(SECTION, "missing")
def _(lab):
    return lab.folder / "jw01094001001_02101_00002_nis_rate.fits"


@fault(SECTION, "a directory")
def _(lab):
    path = lab.folder / "jw01094001001_02101_00002_nis_rate.fits"
    path.mkdir()
    return path


@fault(SECTION, "empty")
def _(lab):
    path = lab.exposure()
    path.write_bytes(b"")
    return path


def _cut(what, bytes_left):
    @fault(SECTION, f"cut off {what}")
    def _(lab):
        path = lab.exposure()
        path.write_bytes(path.read_bytes()[:bytes_left])
        return path


# a primary header of 11 blocks, extensions of 65,536 bytes
_cut("within the first card", 40)
_cut("within the primary header", 2880 * 3)
_cut("within SCI", 2880 * 20)
_cut("within ERR", 120_000)
_cut("within the last array", 345_000)
_cut("within the ASDF extension", 364_000)


@fault(SECTION, "text, not FITS")
def _(lab):
    path = lab.exposure()
    path.write_text("404 Not Found\n" * 300)
    return path


@fault(SECTION, "random bytes")
def _(lab):
    path = lab.exposure()
    path.write_bytes(np.random.default_rng(1).bytes(10_000))
    return path


@fault(SECTION, "without SCI")
def _(lab):
    def edit(hdus):
        del hdus["SCI"]

    return lab.edited(edit)


@fault(SECTION, "a FITS image of another telescope")
def _(lab):
    path = lab.exposure()
    image = fits.ImageHDU(np.ones((64, 64), "f4"), name="SCI")
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(path, overwrite=True)
    return path


def _declares(hdus, *axes):
    """Bytes of a FITS file whose SCI declares more than it has."""
    header = hdus["SCI"].header
    header["NAXIS"] = len(axes)
    for i, length in enumerate(axes, start=1):
        header.set(f"NAXIS{i}", length, after=f"NAXIS{i - 1}" if i > 1 else "NAXIS")
    return hdus[0].header.tostring().encode() + header.tostring().encode() + bytes(2880)


@fault(SECTION, "declares 1,000,000,000 x 1,000,000,000 pixels")
def _(lab):
    path = lab.exposure()
    with fits.open(path) as hdus:
        data = _declares(hdus, 10**9, 10**9)
    path.write_bytes(data)
    return path


@fault(SECTION, "declares 4096 x 4096 pixels and has none")
def _(lab):
    path = lab.exposure()
    with fits.open(path) as hdus:
        data = _declares(hdus, 4096, 4096)
    path.write_bytes(data)
    return path


@fault(SECTION, "sparse: 60,000 x 60,000 pixels of nothing")
def _(lab):
    path = lab.exposure()
    with fits.open(path) as hdus:
        data = _declares(hdus, 60_000, 60_000)
    with path.open("wb") as file:
        file.write(data)
        file.truncate(15 * 1024**3)
    return path


def _packed(lab, pieces):
    path = lab.exposure().with_suffix(".fits.gz")
    with gzip.open(path, "wb", compresslevel=1) as file:
        for piece in pieces:
            file.write(piece)
    return path


@fault(SECTION, "a compressed file that unpacks to 14 GB")
def _(lab):
    with fits.open(lab.exposure()) as hdus:
        return _packed(lab, [_declares(hdus, 60_000, 60_000), bytes(10**7)])


@fault(SECTION, "a compressed header that never ends")
def _(lab):
    return _packed(lab, [b"SIMPLE  =                    T".ljust(80), b" " * 10**7])


@fault(SECTION, "a compressed file that is cut off")
def _(lab):
    path = _packed(lab, [lab.exposure().read_bytes()])
    path.write_bytes(path.read_bytes()[:60_000])
    return path


@fault(SECTION, "metadata that refer to another file")
def _(lab):
    path = lab.exposure()
    data = path.read_bytes()
    start, end = data.rindex(b"#ASDF 1.0.0"), data.rindex(b"\n...")
    text = data[start:end].replace(b"\nhistory:", b'\nother: {"$\\x72ef": "file:///etc/hostname#"}\nhistory:', 1)
    path.write_bytes(data[:start] + text[: end - start] + data[end:])
    return path


@fault(SECTION, "metadata of YAML aliases that expand to 10^12 entries")
def _(lab):
    laughs = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12))
    start = "#ASDF 1.0.0\n#ASDF_STANDARD 1.6.0\n%YAML 1.1\n--- !<tag:stsci.edu:asdf/core/asdf-1.1.0>"
    text = f"{start}\na0: &a0 x\n{laughs}\n...\n"

    def edit(hdus):
        column = fits.Column("ASDF_METADATA", f"{len(text)}B", array=[np.frombuffer(text.encode(), np.uint8)])
        hdus["ASDF"].data = fits.BinTableHDU.from_columns([column]).data

    return lab.edited(edit)
