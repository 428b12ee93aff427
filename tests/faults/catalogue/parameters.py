"""Parameters that cannot be used."""

from niriss_eestep.steps import SBProfileStep

from . import fault

SECTION = "parameters"


def _set(what, **parameters):
    @fault(SECTION, what)
    def _(lab):
        return lab.measure(lab.exposure(), **parameters)


_set("radii unsorted", radii=[5, 3, 8])
_set("radii negative", radii=[-1, 3])
_set("radii with a duplicate", radii=[3, 3, 5])
_set("radii that are NaN", radii=[float("nan"), 3])
_set("no radii", radii=[])
_set("radii beyond the image", radii=[5, 500])
_set("radii of which the largest leaves no sky annulus", radii=[5, 70])
_set("source_x off the image", source_x=[1000], source_y=[64])
_set("source_x negative", source_x=[-40], source_y=[64])
_set("source_x that is no number", source_x=["left"], source_y=[64])
_set("source_x that is NaN", source_x=["nan"], source_y=[64])
_set("source_x without source_y", source_x=[64])
_set("two positions without names", source_x=[60, 61], source_y=[60, 61])
_set("source_x 20 pix beside the star", source_x=[40], source_y=[40])
_set("bad_dq unknown", bad_dq=["DO_NOT_USE", "UGLY"])
_set("gain negative", gain=-1.6)
_set("gain zero", gain=0)
_set("gain NaN", gain=float("nan"))
_set("background_skip negative", background_skip=-3)
_set("background_width zero", background_width=0)
_set("background_width infinite", background_width=float("inf"))
_set("background_value NaN", background_method="constant", background_value=float("nan"))
_set("background_value_err negative", background_method="constant", background_value_err=-1)
_set("low_sigma zero", low_sigma=0, repair_low=True)
_set("core_radius negative", core_radius=-5)
_set("centroid_box even", centroid_box=6)
_set("centroid_box zero", centroid_box=0)
_set("centroid_box larger than the image", centroid_box=301)
_set("search_radius zero", search_radius=0)
_set("search_radius infinite", search_radius=float("inf"))
_set("max_shift negative", max_shift=-1)


def _command_line(what, step, *options):
    """What stpipe itself refuses, told as it tells it."""

    @fault(SECTION, what)
    def _(lab):
        return lab.command_line(step, lab.exposure(), *options)


_command_line("radii that are no numbers", "ee_photometry", "--radii=small,large")
_command_line("unknown bad_pixel_method", "ee_photometry", "--bad_pixel_method=magic")
_command_line("workers=0", "niriss_fluxcal", "--workers=0")


@fault(SECTION, "SB radii smaller than half_width")
def _(lab):
    return lab.told(lambda: SBProfileStep.call(str(lab.exposure()), radii=[1, 5]))


@fault(SECTION, "radius_min above radius_max")
def _(lab):
    return lab.absflux_status(steps={"abs_flux": {"radius_min": 9, "radius_max": 6}})


@fault(SECTION, "no radius between radius_min and radius_max")
def _(lab):
    return lab.absflux_status(steps={"abs_flux": {"radius_min": 10.2, "radius_max": 11}})


@fault(SECTION, "both measurements skipped")
def _(lab):
    skipped = {name: {"skip": True} for name in ("ee_photometry", "sb_profile")}
    return lab.told(lambda: lab.calibrate(lab.exposure(), steps=skipped))


@fault(SECTION, "a report without the calibration that it shows")
def _(lab):
    return lab.told(lambda: lab.calibrate(lab.exposure(), save_report=True, steps={"abs_flux": {"skip": True}}))
