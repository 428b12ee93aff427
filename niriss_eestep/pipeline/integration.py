"""Entry points for stpipe and asdf; imported at every start of ``strun``, so it imports nothing heavy."""

import sys


def get_steps():
    """Name the steps of this package.

    Returns
    -------
    list of (str, str, bool)
        Class, alias and whether the class is a pipeline.
    """
    steps = [
        ("niriss_eestep.measure.step.EEPhotometryStep", "ee_photometry", False),
        ("niriss_eestep.measure.step.SBProfileStep", "sb_profile", False),
        ("niriss_eestep.combine.step.CombineProfilesStep", "combine_profiles", False),
        ("niriss_eestep.flux.step.AbsFluxStep", "abs_flux", False),
        ("niriss_eestep.calibration.step.CalibrateVisitsStep", "calibrate_visits", False),
        ("niriss_eestep.pipeline.fluxcal.FluxCalPipeline", "niriss_fluxcal", True),
    ]
    if sys.argv and sys.argv[0].endswith(("/strun", "strun.exe")):
        _check_step_name([alias for _, alias, _ in steps])
    return steps


def _check_step_name(own):
    """End ``strun`` with one line where the name of a step of this package is misspelt; stpipe shows a traceback."""
    from difflib import get_close_matches
    from importlib.metadata import entry_points
    from pathlib import Path

    name = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), "")
    near = get_close_matches(name, own, 1, cutoff=0.8)
    if name in own or not near or Path(name).exists():
        return
    others = [entry for entry in entry_points(group="stpipe.steps") if not entry.value.startswith("niriss_eestep.")]
    if name not in {alias for entry in others for _, alias, _ in entry.load()()}:
        sys.exit(f"strun: there is no step {name}; did you mean {near[0]}?")


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
