"""The subcommands of ``niriss-ee``.

`arguments` declares what they take and is all that ``--help`` imports. Each command's module has ``run(args)``, which
does the work and returns the exit code, or None for success.
"""
