"""Calibrate many associations, on several processes or a Dask cluster."""

import logging
from argparse import Namespace
from functools import partial

from niriss_eestep.pipeline.campaign import EXPOSURES_FILE, GROUPS_FILE, run_campaign


def run(args: Namespace) -> int:
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
    calibrate = partial(run_campaign, args.paths, args.output_dir, skip_existing=args.skip_existing)
    logger, handler = logging.getLogger("niriss_eestep"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        if args.scheduler is None:
            summary = calibrate(workers=args.workers)
        else:
            from niriss_eestep.pipeline.cluster import DaskWorkers, connect  # where Dask is installed

            with connect(args.scheduler) as client:
                summary = calibrate(make_executor=partial(DaskWorkers, client=client))
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    print(summary.as_text())
    print(f"groups: {args.output_dir / GROUPS_FILE}")
    print(f"exposures: {args.output_dir / EXPOSURES_FILE}")
    if summary.failed:
        print(f"{len(summary.failed)} of {len(summary.products)} products failed")
        return 1
    return 0
