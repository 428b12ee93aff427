"""Calibrate many associations, or all the exposures of directories, with several processes or on a Dask cluster.

Every exposure's outcome is logged. At the end the table of products is printed, and campaign.ecsv (one row for each
target, filter and subarray) and campaign_exposures.ecsv are written beside the products. A run that was stopped goes on
with --skip-existing.
"""

from pathlib import Path

from niriss_eestep.commands.arguments import positive_count

HELP = "calibrate many associations, on several processes or a Dask cluster"


def configure(parser):
    """Add the arguments of `niriss-ee campaign`.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of this command.
    """
    parser.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="association (*_asn.json), or directory of exposures, which are grouped by program and target",
    )
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="where the products go")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--workers", type=positive_count, default=1, metavar="N", help="processes of this machine (1)")
    where.add_argument("--scheduler", metavar="ADDRESS", help="of a running Dask cluster, such as tcp://host:8786")
    parser.add_argument(
        "--skip-existing",
        action="store_true",
        help="keep products of an earlier run made from the same input, parameters and references",
    )


def run(args):
    """Run the campaign and show its summary.

    Parameters
    ----------
    args : argparse.Namespace
        Arguments of the command.

    Returns
    -------
    int
        0 if every product was calibrated.
    """
    from functools import partial

    from niriss_eestep.errors import ParameterError
    from niriss_eestep.pipeline.campaign import EXPOSURES_FILE, GROUPS_FILE, run_campaign

    if args.workers < 1:
        raise ParameterError(f"--workers {args.workers}: at least 1")
    with _shown_log():
        if args.scheduler is None:
            summary = run_campaign(args.paths, args.output_dir, workers=args.workers, skip_existing=args.skip_existing)
        else:
            from niriss_eestep.pipeline.cluster import DaskWorkers, connect

            with connect(args.scheduler) as client:
                workers = partial(DaskWorkers, client=client)
                summary = run_campaign(
                    args.paths, args.output_dir, make_executor=workers, skip_existing=args.skip_existing
                )
    print(summary.as_text())
    print(f"groups: {args.output_dir / GROUPS_FILE}")
    print(f"exposures: {args.output_dir / EXPOSURES_FILE}")
    if summary.failed:
        print(f"{len(summary.failed)} of {len(summary.products)} products failed")
        return 1
    return 0


def _shown_log():
    """Show the package's log on stderr while the campaign runs."""
    import logging
    from contextlib import contextmanager

    @contextmanager
    def shown():
        logger = logging.getLogger("niriss_eestep")
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)

    return shown()
