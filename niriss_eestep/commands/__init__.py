"""The subcommands of ``niriss-ee``, one module each.

A module has ``HELP`` (one line), ``configure(parser)`` (adds its arguments) and ``run(args)`` (does the work and
returns the exit code, or None for success). Heavy imports stand inside ``run``: every module here is imported for
``niriss-ee --help``.
"""
