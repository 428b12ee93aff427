"""Entry points for stpipe and asdf; imported at every start of ``strun``, so it imports nothing heavy."""

import sys
from typing import Any

#: class, alias, and whether the class is a pipeline
STEPS = [
    ("niriss_eestep.measure.step.EEPhotometryStep", "ee_photometry", False),
    ("niriss_eestep.measure.step.SBProfileStep", "sb_profile", False),
    ("niriss_eestep.combine.step.CombineProfilesStep", "combine_profiles", False),
    ("niriss_eestep.flux.step.AbsFluxStep", "abs_flux", False),
    ("niriss_eestep.calibration.step.CalibrateVisitsStep", "calibrate_visits", False),
    ("niriss_eestep.pipeline.fluxcal.FluxCalPipeline", "niriss_fluxcal", True),
]


def get_steps() -> list[tuple[str, str, bool]]:
    """Name the steps of this package; in ``strun``, a slip that stpipe answers with a traceback ends in one line.

    Looked at are the first argument, a step or a file of its parameters, and the level of the log.

    Returns
    -------
    list of (str, str, bool)
        Class, alias and whether the class is a pipeline.
    """
    if not (sys.argv and sys.argv[0].endswith(("/strun", "strun.exe"))):
        return STEPS
    from logging import getLevelNamesMapping
    from pathlib import Path

    from configobj import ConfigObj, ConfigObjError

    try:
        from stpipe._cmdline import _build_parent_arg_parser as options_of_strun
    except ImportError:  # private to stpipe, whose own words then stand
        return STEPS
    own = [alias for _, alias, _ in STEPS]
    known, _ = options_of_strun().parse_known_args([*sys.argv[1:], ""])  # which stands for a step where none is named
    name, level = known.cfg_file_or_class[0], str(known.log_level or "INFO").upper()
    if Path(name).is_file():
        try:
            if not Path(name).read_bytes().startswith(b"#ASDF"):
                ConfigObj(name, raise_errors=True)
        except (ConfigObjError, UnicodeDecodeError) as error:
            sys.exit(
                f"strun: {name}: the first argument names a step, or a file of its parameters; not such a file: {error}"
            )
    elif name in own:
        if level not in getLevelNamesMapping() and not level.isdigit():
            sys.exit(f"strun {name}: --log-level={known.log_level}: must be DEBUG, INFO, WARNING, ERROR or CRITICAL")
    elif name and "." not in name and not Path(name).exists():
        from difflib import get_close_matches
        from importlib.metadata import entry_points

        others = [entry for entry in entry_points(group="stpipe.steps") if not entry.value.startswith("niriss_eestep.")]
        if name not in {alias for entry in others for _, alias, _ in entry.load()()}:
            near = get_close_matches(name, own, 1)
            sys.exit(
                f"strun: there is no step {name}; {f'did you mean {near[0]}?' if near else '`stpipe list` lists all'}"
            )
    return STEPS


def get_resource_mappings() -> list[Any]:
    """Serve the packaged ASDF schemas.

    Returns
    -------
    list of asdf.resource.DirectoryResourceMapping
    """
    from importlib.resources import files

    get_steps()  # which strun asks for later than for these, where its first argument is a file of parameters
    from asdf.resource import DirectoryResourceMapping

    schemas, base = files("niriss_eestep.products") / "schemas", "asdf://niriss-eestep.org/schemas/"
    return [DirectoryResourceMapping(schemas, base, filename_pattern="*.yaml", stem_filename=True)]
