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

#: options of strun itself, as stpipe 1.1 has them: switches, and those that take a value
SWITCHES = ("--debug", "--disable-crds-steppars", "--verbose", "-v", "--help", "-h")
VALUED = ("--save-parameters", "--logcfg", "--log-level", "--log-file", "--log-stream")


def get_steps() -> list[tuple[str, str, bool]]:
    """Name the steps of this package.

    Returns
    -------
    list of (str, str, bool)
        Class, alias and whether the class is a pipeline.
    """
    _look_over_strun()
    return _STEPS


def get_resource_mappings():
    """Serve the packaged ASDF schemas.

    Returns
    -------
    list of asdf.resource.DirectoryResourceMapping
    """
    from importlib.resources import files

    _look_over_strun()
    from asdf.resource import DirectoryResourceMapping

    schemas, base = files("niriss_eestep.products") / "schemas", "asdf://niriss-eestep.org/schemas/"
    return [DirectoryResourceMapping(schemas, base, filename_pattern="*.yaml", stem_filename=True)]


def strun_parser(options=()):
    """Make a parser of strun's own options and of a step's.

    Parameters
    ----------
    options : iterable of str
        The step's, each of which takes a value.

    Returns
    -------
    argparse.ArgumentParser
        What is no option is in ``args``.
    """
    from argparse import ArgumentParser

    parser = ArgumentParser(add_help=False)
    for name in SWITCHES:
        parser.add_argument(name, action="store_true")
    for name in (*VALUED, *options):
        parser.add_argument(name)
    parser.add_argument("args", nargs="*")
    return parser


def _look_over_strun() -> None:
    """Let ``strun`` end with one line for a slip that stpipe answers with a traceback before it knows the step.

    It asks for the steps first where a step is named, and for the schemas first where a file of parameters is. Looked
    at are the first argument and the level of the log.
    """
    if not (sys.argv and sys.argv[0].endswith(("/strun", "strun.exe"))):
        return
    from logging import getLevelNamesMapping
    from pathlib import Path

    from configobj import ConfigObj, ConfigObjError

    own = [alias for _, alias, _ in _STEPS]
    known, _ = strun_parser().parse_known_args(sys.argv[1:])
    name, level = next(iter(known.args), ""), str(known.log_level or "INFO").upper()
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
            sys.exit(
                f"strun {name}: --log-level={known.log_level}: must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL"
            )
    elif name and "." not in name and not Path(name).exists():
        from difflib import get_close_matches
        from importlib.metadata import entry_points

        others = [entry for entry in entry_points(group="stpipe.steps") if not entry.value.startswith("niriss_eestep.")]
        if name not in {alias for entry in others for _, alias, _ in entry.load()()}:
            near = get_close_matches(name, own, 1)
            sys.exit(
                f"strun: there is no step {name}; {f'did you mean {near[0]}?' if near else '`stpipe list` lists all'}"
            )
