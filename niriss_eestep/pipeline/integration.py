"""Entry points for stpipe and asdf; imported at every start of ``strun``, so it imports nothing heavy."""

import sys

#: class, alias, and whether the class is a pipeline
_STEPS = [
    ("niriss_eestep.measure.step.EEPhotometryStep", "ee_photometry", False),
    ("niriss_eestep.measure.step.SBProfileStep", "sb_profile", False),
    ("niriss_eestep.combine.step.CombineProfilesStep", "combine_profiles", False),
    ("niriss_eestep.flux.step.AbsFluxStep", "abs_flux", False),
    ("niriss_eestep.calibration.step.CalibrateVisitsStep", "calibrate_visits", False),
    ("niriss_eestep.pipeline.fluxcal.FluxCalPipeline", "niriss_fluxcal", True),
]


def get_steps():
    """Name the steps of this package.

    Returns
    -------
    list of (str, str, bool)
        Class, alias and whether the class is a pipeline.
    """
    _look_over_strun()
    return _STEPS


def _look_over_strun():
    """Let ``strun`` end with one line for a slip that stpipe answers with a traceback before it knows the step.

    It asks for the steps first where a step is named, and for the schemas first where a file of parameters is.
    """
    if sys.argv and sys.argv[0].endswith(("/strun", "strun.exe")):
        from niriss_eestep.pipeline.strun import check_start

        check_start([alias for _, alias, _ in _STEPS])


def get_resource_mappings():
    """Serve the packaged ASDF schemas.

    Returns
    -------
    list of asdf.resource.DirectoryResourceMapping
    """
    from importlib.resources import files

    _look_over_strun()
    from asdf.resource import DirectoryResourceMapping

    return [
        DirectoryResourceMapping(
            files("niriss_eestep.products") / "schemas",
            "asdf://niriss-eestep.org/schemas/",
            filename_pattern="*.yaml",
            stem_filename=True,
        )
    ]
