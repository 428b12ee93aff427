"""The command ``niriss-ee``."""

import argparse
import atexit
import gc
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from niriss_eestep.commands.arguments import COMMANDS
from niriss_eestep.errors import NirissEEError


class _Parser(argparse.ArgumentParser):
    """A parser, and those of its commands, that ends in one line, and takes -5e-4 for a number, not an option."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._negative_number_matcher = re.compile(r"-\.?\d")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


class _Version(argparse.Action):
    """Print the version; reading the package's metadata is left until it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, **kwargs: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version and leave")

    def __call__(self, parser: argparse.ArgumentParser, *args: Any) -> None:
        import niriss_eestep

        print(niriss_eestep.__version__)
        parser.exit()


def make_parser() -> argparse.ArgumentParser:
    """Build the parser of ``niriss-ee``.

    Returns
    -------
    argparse.ArgumentParser
    """
    parser = _Parser(
        prog="niriss-ee", description="Absolute flux calibration of JWST NIRISS imaging from standard-star exposures."
    )
    parser.add_argument("--version", action=_Version)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (configure, text) in COMMANDS.items():
        configure(subparsers.add_parser(name, help=text, description=configure.__doc__))
    return parser


def _flush() -> None:
    """Have what is wrong with standard output show now, not at the interpreter's end."""
    if sys.stdout is not None:
        sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``niriss-ee``.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        Exit code: 0 success, 1 an error that the message explains, 130 interrupted.
    """
    parser = make_parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what the word before the cursor may become
        import argcomplete

        argcomplete.autocomplete(parser)
    command = parser.prog
    try:
        try:
            args, unknown = parser.parse_known_args(argv)
        finally:  # after --help
            _flush()
        command = f"{parser.prog} {args.command}"
        if unknown:
            parser.exit(2, f"{command}: there is no argument {' '.join(unknown)}; see {command} --help\n")
        run = import_module(f"niriss_eestep.commands.{args.command}").run
        if argv is None:
            # the garbage collector leaves alone what the packages made at import, and everything at the end, when the
            # system takes the memory back: 0.4 to 1 s of a command. In between it looks less often than by default, as
            # figures make very many objects that stay: 0.4 s of a report
            gc.freeze()
            gc.set_threshold(50_000)
            atexit.register(gc.freeze)
        code = run(args) or 0
        _flush()
        return code
    except NirissEEError as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # e.g. `niriss-ee show x | head`: nothing more can be said there
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = error.filename or "standard output"
        print(f"{command}: {where}: {error.strerror or error}", file=sys.stderr)
        if error.filename is None and sys.stdout is not None:
            sys.stdout = None  # else the interpreter would try once more at its end
        return 1
    except KeyboardInterrupt:
        print(f"{command}: interrupted", file=sys.stderr)
        return 130
