"""Associations that name nothing to do, or would write elsewhere."""

import json

from . import fault

SECTION = "associations"


def _file(what, content):
    @fault(SECTION, what)
    def _(lab):
        path = lab.folder / "asn.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return lab.told(lambda: lab.calibrate(path))


_file("empty", "")
_file("not JSON", "{products:")
_file("deeper than any parser goes", "[" * 100_000)
_file("a number", 42)
_file("without products", {"asn_rule": "x"})
_file("products that are no list", {"products": "all"})
_file("a product without members", {"products": [{"name": "x"}]})
_file("a product without science members", {"products": [{"name": "x", "members": []}]})
_file("a member without expname", {"products": [{"name": "x", "members": [{"exptype": "science"}]}]})


@fault(SECTION, "missing")
def _(lab):
    return lab.told(lambda: lab.calibrate(lab.folder / "asn.json"))


@fault(SECTION, "none of its members exists")
def _(lab):
    return lab.told(lambda: lab.calibrate(lab.association(["a_rate.fits", "b_rate.fits"])))


@fault(SECTION, "the same exposure twice")
def _(lab):
    path = lab.exposure()
    return lab.told(lambda: lab.calibrate(lab.association([path, path])))


@fault(SECTION, "two exposures of one name in different directories")
def _(lab):
    (lab.folder / "b").mkdir()
    path = lab.exposure()
    other = path.parent / "b" / path.name
    other.write_bytes(path.read_bytes())
    return lab.told(lambda: lab.calibrate(lab.association([path, other])))


def _named(what, name):
    @fault(SECTION, f"product name {what}")
    def _(lab):
        return lab.told(lambda: lab.calibrate(lab.association([lab.exposure()], name=name)))


_named("climbs out", "../../x")
_named("is an absolute path", "/tmp/x")
_named("is ..", "..")
_named("has a newline", "x\n2022-01-01 INFO all is well")
_named("has a terminal escape", "x\x1b[2J")
_named("is too long for a file", "x" * 300)
_named("is no text", 7)


@fault(SECTION, "a member's name has a terminal escape")
def _(lab):
    lab.exposure().rename(lab.folder / "a\x1b[2Jb_rate.fits")
    asn = lab.association(["a\x1b[2Jb_rate.fits", "\x1b[31mx_rate.fits"])
    return lab.told(lambda: "; ".join(f"{e['exposure']} {e['status']}" for e in lab.calibrate(asn).exposures))
