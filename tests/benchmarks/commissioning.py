"""The commissioning program, 66 exposures: what the pipeline takes, beside reading them, and beside plain scripts.

    python tests/benchmarks/commissioning.py [DIR] [--per-file N] [--large]

Simulates the program in DIR (by default benchmark; 1 GB) if it is not there. Then measures in one run: the floor (a
process that opens the files with stdatamodels and touches their arrays), `strun niriss_fluxcal` with all products
saved, a plain astropy and photutils script on the same files, one process for each and one for all, and the start-up
of the commands. With --large also 660 exposures (the same files under ten sets of names) with one worker and with two.
"""

import argparse
import shutil
from pathlib import Path

from running import BIN, HERE, load, run, simulate, under_other_names, warm

BARE = """
from jwst.stpipe import Step
class BareStep(Step):
    class_alias = "bare"
    def process(self, *args):
        return None
"""


def pipeline(program, association, *options):
    """Run the pipeline with all products saved; the products of earlier runs are removed."""
    out = program / "products"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    command = [BIN / "strun", "niriss_fluxcal", association, f"--output_dir={out}", *options]
    cost = run(*command, cwd=program, PYSYN_CDBS=str(program))
    sizes = [path.stat().st_size for path in out.iterdir()]
    return cost, len(sizes), sum(sizes)


def scripts(program, files, n_single):
    """The plain script: one process for each of some files, scaled to all; one for all."""
    out = program / "plain"
    out.mkdir(exist_ok=True)
    # spread over the sizes
    some = files[:: max(1, len(files) // n_single)][:n_single]
    single = [run("python", HERE / "plain_photometry.py", out, path, cwd=program) for path in some]
    together = run("python", HERE / "plain_photometry.py", out, *files, cwd=program)
    scale = len(files) / len(some)
    return scale * sum(cost.wall for cost in single), scale * sum(cost.cpu for cost in single), together


def start_up(program, n=5):
    """Least wall time of the commands' help, beside that of a step of stpipe and of jwst that has nothing in it."""
    (program / "bare_jwst.py").write_text(BARE)
    (program / "bare_stpipe.py").write_text(BARE.replace("jwst.stpipe", "stpipe"))
    commands = {
        "a bare Step of stpipe": ("strun", "bare_stpipe.BareStep", "--help"),
        "a bare Step of jwst": ("strun", "bare_jwst.BareStep", "--help"),
        "strun niriss_fluxcal": ("strun", "niriss_fluxcal", "--help"),
        "niriss-ee": ("niriss-ee", "--help"),
    }
    return {
        name: min(run(*command, cwd=program, PYTHONPATH=str(program)).wall for _ in range(n))
        for name, command in commands.items()
    }


def report_66(program, per_file):
    """The table of 66 exposures."""
    files = sorted(program.glob("*_rate.fits"))
    association = under_other_names(program, 1)
    floor = min((run("python", HERE / "floor.py", *files, cwd=program) for _ in range(3)), key=lambda cost: cost.wall)
    ours, n_products, size = min((pipeline(program, association) for _ in range(3)), key=lambda found: found[0].wall)
    single_wall, single_cpu, together = scripts(program, files, per_file)
    print(f"{len(files)} exposures, {sum(path.stat().st_size for path in files) / 1e6:.0f} MB")
    print(f"floor: stdatamodels           {floor}")
    print(f"strun niriss_fluxcal          {ours}   {n_products} products, {size / 1e6:.1f} MB")
    print(f"script, one process per file  {single_wall:8.2f} s wall {single_cpu:8.2f} s CPU (from {per_file} of them)")
    print(f"script, one process           {together}")
    print(f"wall time / floor:            {ours.wall / floor.wall:6.2f}   (at most 2.5)")
    print(f"one process per file / ours:  {single_wall / ours.wall:6.1f}   (at least 15)")
    print(f"one process for all / ours:   {together.wall / ours.wall:6.2f}")
    print(f"peak memory:                  {ours.memory:6.0f} MB   (less than 600)")
    return ours


def report_start_up(program):
    """The table of start-up times."""
    times = start_up(program)
    bare = times["a bare Step of stpipe"]
    for name, wall in times.items():
        print(f"--help of {name:<22} {wall:6.2f} s   {wall / bare:5.2f} of the bare Step")


def report_660(program, ours):
    """The table of 660 exposures."""
    association = under_other_names(program, 10)
    one, n_products, size = pipeline(program, association)
    two, *_ = pipeline(program, association, "--workers=2")
    print(f"660 exposures, one worker     {one}   {n_products} products, {size / 1e6:.1f} MB")
    print(f"660 exposures, two workers    {two}")
    print(f"memory of 660 / of 66:        {one.memory / ours.memory:6.2f}   (at most 1.10)")
    print(f"CPU for each exposure:        {(one.cpu - ours.cpu) / 594 * 1e3:6.1f} ms   beyond the first 66")
    print(f"speed-up by two workers:      {one.wall / two.wall:6.2f}   (at least 1.7)")


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path, default=Path("benchmark"), metavar="DIR")
    parser.add_argument("--per-file", type=int, default=66, metavar="N", help="run the script on N single files (66)")
    parser.add_argument("--large", action="store_true", help="660 exposures too: some minutes")
    args = parser.parse_args()
    program = args.directory.resolve()
    simulate(program, "--commissioning")
    warm(program)
    print(load())
    ours = report_66(program, args.per_file)
    report_start_up(program)
    if args.large:
        report_660(program, ours)
    print(load())


if __name__ == "__main__":
    main()
