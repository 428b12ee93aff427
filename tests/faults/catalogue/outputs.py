"""Output directories that cannot take the products."""

import resource

from . import fault

SECTION = "outputs"


@fault(SECTION, "its name is that of a file")
def _(lab):
    lab.out.write_text("in the way")
    return lab.told(lambda: lab.calibrate(lab.exposure()))


@fault(SECTION, "within a file")
def _(lab):
    (lab.folder / "file").write_text("in the way")
    lab.out = lab.folder / "file" / "out"
    return lab.told(lambda: lab.calibrate(lab.exposure()))


@fault(SECTION, "full (files may have 1,000 bytes)")
def _(lab):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = lab.exposure()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        return lab.told(lambda: lab.calibrate(path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@fault(SECTION, "a directory has the name of a product")
def _(lab):
    path = lab.exposure()
    (lab.out / path.name.replace("_rate.fits", "_eeprofile.asdf")).mkdir(parents=True)
    return lab.told(lambda: lab.calibrate(path))
