"""Entry points for stpipe and asdf; imported at every start of ``strun``, so it imports nothing heavy."""

__all__ = ["get_resource_mappings", "get_steps"]


def get_steps():
    """Name the steps of this package.

    Returns
    -------
    list of (str, str, bool)
        Class, alias and whether the class is a pipeline.
    """
    return [
        ("niriss_eestep.steps.EEPhotometryStep", "ee_photometry", False),
        ("niriss_eestep.steps.SBProfileStep", "sb_profile", False),
        ("niriss_eestep.steps.CombineProfilesStep", "combine_profiles", False),
        ("niriss_eestep.steps.AbsFluxStep", "abs_flux", False),
        ("niriss_eestep.steps.CalibrateVisitsStep", "calibrate_visits", False),
        ("niriss_eestep.steps.FluxCalPipeline", "niriss_fluxcal", True),
    ]


def get_resource_mappings():
    """Serve the packaged ASDF schemas.

    Returns
    -------
    list of asdf.resource.DirectoryResourceMapping
    """
    from importlib.resources import files

    from asdf.resource import DirectoryResourceMapping

    return [
        DirectoryResourceMapping(
            files("niriss_eestep.products") / "schemas",
            "asdf://niriss-eestep.org/schemas/",
            filename_pattern="*.yaml",
            stem_filename=True,
        )
    ]
