"""Headers that lack something, or are of something else."""

from . import fault

SECTION = "headers"


def _set(what, **cards):
    @fault(SECTION, what)
    def _(lab):
        return lab.header(**cards)


# what is not here is not read: of the rest, a missing keyword changes nothing
for _key in ("TELESCOP", "INSTRUME", "EXP_TYPE", "FILTER", "PUPIL", "SUBARRAY", "BUNIT", "TARGPROP", "TARGTYPE"):
    _set(f"no {_key}", **{_key: None})
for _key in ("TARG_RA", "CRVAL1", "CRPIX1", "CDELT1", "PC1_1", "CTYPE1"):
    _set(f"no {_key}", **{_key: None})
_set("no DATAMODL", DATAMODL=None)
_set("another instrument", INSTRUME="NIRCAM")
_set("another exposure type", EXP_TYPE="NIS_WFSS")
_set("a moving target", TARGTYPE="MOVING")
_set("an unknown filter", PUPIL="F999W")
_set("both wheels hold a filter", FILTER="F480M")
_set("a grism", FILTER="GR150C", PUPIL="F200W")
_set("the cross-dispersed grism", PUPIL="GR700XD")
_set("the non-redundant mask", FILTER="F480M", PUPIL="NRM")
_set("no light", PUPIL="OPAQUE")
_set("another unit", BUNIT="DN")
_set("surface brightness without PHOTMJSR", BUNIT="MJy/sr")
_set("PHOTMJSR of 0", BUNIT="MJy/sr", PHOTMJSR=0.0)
_set("PHOTMJSR that is no number", BUNIT="MJy/sr", PHOTMJSR="unknown")
_set("the target off the detector", TARG_RA=10.0)
_set("a declination beyond the pole", TARG_DEC=190.0)
_set("a WCS of no area", PC1_1=0.0, PC1_2=0.0)
_set("a pixel scale of 0", CDELT1=0.0)
_set("a projection that does not exist", CTYPE1="RA---XXX", CTYPE2="DEC--XXX")
_set("markup in the target's name", TARGPROP="<script>alert(1)</script>")
_set("a path as the target's name", TARGPROP="../../../../etc/passwd", PROGRAM="../../..")
_set("formatting directives in the target's name", TARGPROP="%s%n{0}%(x)s")


@fault(SECTION, "terminal escapes and newlines in the target's name")
def _(lab):
    path = lab.header(TARGPROP="12345P330E67890")
    path.write_bytes(path.read_bytes().replace(b"12345P330E67890", b"\x1b[31mP330E\nINFO"))
    return path
