"""What a user of ``strun`` sees: a slip ends in one line, and the log is not buried under listings."""

import argparse
import logging
import re
import sys
from contextlib import contextmanager
from difflib import get_close_matches
from functools import reduce
from importlib.metadata import entry_points
from pathlib import Path

from configobj import ConfigObj, ConfigObjError

from niriss_eestep.errors import NirissEEError, ParameterError

log = logging.getLogger(__name__)

#: options of strun itself, as stpipe 1.1 has them: switches, and those that take a value
SWITCHES = ("--debug", "--disable-crds-steppars", "--verbose", "-v", "--help", "-h")
VALUED = ("--save-parameters", "--logcfg", "--log-level", "--log-file", "--log-stream")

#: how stpipe's lines begin that are shown at DEBUG only: all parameters are in the products (``meta.provenance``)
LISTINGS = ("Step %s parameters are", "%s instance created", "Step %s running with", "Step %s done")


#: what stpipe's kinds of values are called in a message
WANTED = {
    "boolean": "true or false", "integer": "an integer", "float": "a number", "float_list": "a list of numbers",
    "int_list": "a list of integers",
}  # fmt: skip
LIMITS = {"min": "at least", "max": "at most"}

#: whether this is a process of ``strun``, which shows every exception with a traceback
IN_STRUN = Path(sys.argv[0] if sys.argv else "").name.removesuffix(".exe") == "strun"


@contextmanager
def plain_words(name):
    """Leave stpipe's listings to the level DEBUG, and end ``strun`` with one line where a message explains the error.

    Outside of ``strun``, and with ``--debug``, the exception goes on; an interrupt has no traceback there either.

    Parameters
    ----------
    name : str
        Of the step.
    """
    logger = logging.getLogger("stpipe.step")

    def shown(record):
        return not str(record.msg).startswith(LISTINGS) or logger.isEnabledFor(logging.DEBUG)

    logger.addFilter(shown)
    try:
        yield
    except NirissEEError as error:
        if not IN_STRUN or "--debug" in sys.argv:
            raise
        log.debug("where it was raised:", exc_info=True)
        _end(name, error)
    except KeyboardInterrupt:
        if not IN_STRUN:
            sys.excepthook = _say_interrupted
            raise
        print(f"strun {name}: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        logger.removeFilter(shown)


def _say_interrupted(kind, error, traceback):
    """Stand in for the traceback of an interrupt that nobody has caught."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


def _end(name, text):
    """Exit with status 1; the interpreter prints the line."""
    raise SystemExit(f"strun {name}: {text}") from None


def check_start(own):
    """Look over the first argument and the level of the log, which stpipe needs before it knows the step.

    Parameters
    ----------
    own : list of str
        Aliases of this package's steps.

    Raises
    ------
    SystemExit
        With one line that says what is wrong.
    """
    known, _ = _parser().parse_known_args(sys.argv[1:])
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
        if level not in logging.getLevelNamesMapping() and not level.isdigit():
            _end(name, f"--log-level={known.log_level}: must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL")
    elif name and "." not in name and not Path(name).exists():
        others = [entry for entry in entry_points(group="stpipe.steps") if not entry.value.startswith("niriss_eestep.")]
        if name not in {alias for entry in others for _, alias, _ in entry.load()()}:
            near = get_close_matches(name, own, 1)
            sys.exit(
                f"strun: there is no step {name}; {f'did you mean {near[0]}?' if near else '`stpipe list` lists all'}"
            )


def _parser(options=()):
    """A parser of strun's own options and of a step's."""
    parser = argparse.ArgumentParser(add_help=False)
    for name in SWITCHES:
        parser.add_argument(name, action="store_true")
    for name in (*VALUED, *options):
        parser.add_argument(name)
    parser.add_argument("args", nargs="*")
    return parser


def check_command_line(step):
    """Refuse options that a step does not have, before stpipe answers with the usage of all that it has.

    Parameters
    ----------
    step : type
        Class of the step.

    Raises
    ------
    SystemExit
        With one line that says what is wrong.
    """
    options = [f"--{name}" for name in _option_names(step.load_spec_file())]
    parser = _parser(options)
    parser.error = lambda text: _end(step.class_alias, _did_you_mean(text, options))
    for name, value in vars(parser.parse_args(sys.argv[1:])).items():
        if isinstance(value, str):
            try:
                ConfigObj()._handle_value(value)
            except SyntaxError:
                _end(step.class_alias, f"--{name}={value}: a quotation mark is not closed")


def _option_names(spec, above=""):
    """Options of a specification, those of steps with the steps' names."""
    for name, value in spec.items():
        yield from _option_names(value, f"{above}{name}.") if isinstance(value, dict) else (f"{above}{name}",)


def _did_you_mean(text, options):
    """Turn a message of argparse into one that names the options that may have been meant."""
    found = re.fullmatch("unrecognized arguments: (--[^ =]*).*", text)
    if not found:
        return re.sub("unrecognized arguments: (.*)", r"\1: write the files before the options", text)
    last = found[1].lstrip("-").rpartition(".")[2]
    own = {option.lstrip("-").rpartition(".")[2] for option in options}
    near = [last] if last in own else get_close_matches(last, own, 1)
    meant = [option for option in options if near and option.endswith((f"-{near[0]}", f".{near[0]}"))]
    hint = f"did you mean {' or '.join(meant[:3])}?" if meant else "--help lists all"
    return f"there is no option {found[1]}; {hint}"


def in_words(error, config, spec):
    """Say what a parameter may be, where stpipe says that its value is wrong.

    Parameters
    ----------
    error : stpipe.exceptions.ValidationError
    config, spec : configobj.Section
        What was given, and the specification.

    Returns
    -------
    ParameterError
        Names every parameter with a wrong value.
    """
    said, dashes = [], "--" if IN_STRUN else ""
    for line in str(error).splitlines():
        wrong = re.fullmatch("Config parameter '(.*)': (.*)", line)
        if not wrong:
            extra = re.fullmatch("Extra value '(.*)' in (.*)", line)
            said.append(f"{extra[1]}: there is no such parameter ({extra[2]})" if extra else line)
            continue
        path = wrong[1].split("/")
        try:
            value, check = (reduce(lambda section, key: section[key], path, tree) for tree in (config, spec))
        except KeyError:
            said.append(line)
            continue
        said.append(_wanted(f"{dashes}{'.'.join(path)}", value, str(check)))
    return ParameterError("; ".join(said))


def _wanted(name, value, check):
    """Say what a parameter may be; ``check`` is its line of the specification, as ``integer(min=1, default=1)``."""
    kind, _, arguments = check.partition("(")
    if kind.endswith("list") and not isinstance(value, (list, tuple)):
        if IN_STRUN:
            return f"{name}={value}: a list needs a comma: {name}={value or 5},"
        return f"{name}={value!r}: must be a list: {name}=[{value!r}]"
    if kind == "option":
        wanted = "one of " + ", ".join(re.findall("'([^']*)'", arguments.partition("default=")[0]))
    else:
        wanted = WANTED.get(kind, f"a {kind}")
    limits = dict(re.findall("(min|max)=([^,)]+)", arguments))
    wanted += "".join(f", {LIMITS[key]} {limit}" for key, limit in limits.items())
    return f"{name}={value}: must be {wanted}"
