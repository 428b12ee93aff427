"""Products that are not what a step needs."""

import shutil

import asdf

from niriss_eestep import products
from niriss_eestep.steps import AbsFluxStep, CombineProfilesStep, EEPhotometryStep

from . import fault

SECTION = "products"


def _product(lab, suffix="eeprofile"):
    lab.calibrate(lab.exposure())
    return next(lab.out.glob(f"*_{suffix}.asdf"))


def _opened(what):
    """Enter a function that spoils an EE product's file."""

    def enter(spoil):
        @fault(SECTION, what)
        def _(lab):
            path = _product(lab)
            spoil(path)
            return lab.told(lambda: products.open(path))

        return spoil

    return enter


def _rewrite(path, old, new):
    data = path.read_bytes()
    assert old in data, old
    path.write_bytes(data.replace(old, new))


@_opened("missing")
def _(path):
    path.unlink()


@_opened("empty")
def _(path):
    path.write_bytes(b"")


@_opened("cut off within the metadata")
def _(path):
    path.write_bytes(path.read_bytes()[:1000])


@_opened("cut off within an array")
def _(path):
    path.write_bytes(path.read_bytes()[:-4000])


@_opened("one byte of an array changed")
def _(path):
    data = bytearray(path.read_bytes())
    data[data.rindex(b"\xd3BLK") + 80] ^= 1
    path.write_bytes(data)


@_opened("a newer schema")
def _(path):
    _rewrite(path, b"ee_profile-1.0.0", b"ee_profile-9.0.0")


@_opened("an older schema")
def _(path):
    _rewrite(path, b"ee_profile-1.0.0", b"ee_profile-0.9.0")


@_opened("an ASDF file of others")
def _(path):
    asdf.AsdfFile({"meta": {"model_type": "ImageModel"}}).write_to(path)


@_opened("an array in another file")
def _(path):
    with asdf.open(path) as file:
        asdf.AsdfFile(dict(file.tree)).write_to(path.with_name("x.asdf"), all_array_storage="external")
    path.with_name("x.asdf").replace(path)


@_opened("a reference to another file")
def _(path):
    _rewrite(path, b"\nradius:", b"\nother: {$ref: 'file:///etc/hostname'}\nradius:")


@_opened("a foreign object")
def _(path):
    _rewrite(path, b"\nradius:", b"\nother: !<tag:example.org:run/command-1.0.0> {run: reboot}\nradius:")


@_opened("a Python object")
def _(path):
    _rewrite(path, b"\nradius:", b"\nother: !!python/object/apply:os.system ['touch /tmp/owned']\nradius:")


@fault(SECTION, "a profile given to the step that measures exposures")
def _(lab):
    path = _product(lab)
    return lab.told(lambda: EEPhotometryStep.call(str(path)))


@fault(SECTION, "an exposure given to the step that combines profiles")
def _(lab):
    path = lab.exposure()
    return lab.told(lambda: CombineProfilesStep.call(str(path)))


@fault(SECTION, "a single profile given to the absolute flux step")
def _(lab):
    path = _product(lab)
    return lab.told(lambda: AbsFluxStep.call(str(path)))


@fault(SECTION, "only SB given to the absolute flux step")
def _(lab):
    path = _product(lab, "sbcombined")
    return lab.told(lambda: AbsFluxStep.call(str(path)))


@fault(SECTION, "profiles of different radii combined")
def _(lab):
    first = shutil.copy(_product(lab), lab.folder / "first_eeprofile.asdf")
    lab.calibrate(lab.exposure(), steps={"ee_photometry": {"radii": [3, 6, 9]}})
    second = shutil.copy(next(lab.out.glob("*_eeprofile.asdf")), lab.folder / "second_eeprofile.asdf")
    return lab.told(lambda: CombineProfilesStep.call([str(first), str(second)]))


@fault(SECTION, "one profile given twice")
def _(lab):
    path = str(_product(lab))
    return lab.told(lambda: CombineProfilesStep.call([path, path]))
