"""Peak memory of `strun niriss_fluxcal` by the number of exposures of its association: what each more of them adds.

    python tests/benchmarks/memory.py [DIR] [--exposures FEW MANY]

Ten small exposures (SUB64), or those that DIR holds already, are linked under as many names as are needed. The run
fails where an exposure adds more than 20 kB.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from running import BIN, load, run, simulate, under_other_names

LIMIT = 20  # kB an exposure


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path, default=Path("benchmark_small"), metavar="DIR")
    parser.add_argument("--exposures", type=int, nargs=2, default=(500, 3000), metavar="N")
    args = parser.parse_args()
    program = args.directory.resolve()
    simulate(program, "--filters", "F090W", "F277W", "F356W", "F444W", "F480M", "--subarrays", "SUB64")
    n_exposures = len(list(program.glob("*_rate.fits")))
    print(load())
    peaks, numbers = [], []
    for number in args.exposures:
        association = under_other_names(program, max(1, number // n_exposures))
        with tempfile.TemporaryDirectory(dir=program) as out:
            cost = run(BIN / "strun", "niriss_fluxcal", association, f"--output_dir={out}", PYSYN_CDBS=str(program))
            n_products = len(list(Path(out).glob("*_eeprofile.asdf")))
        shutil.rmtree(association.parent)
        print(f"{n_products} exposures: {cost}, {1e3 * cost.wall / n_products:.0f} ms each", flush=True)
        peaks.append(cost.memory)
        numbers.append(n_products)
    added = 1e3 * (peaks[1] - peaks[0]) / (numbers[1] - numbers[0])
    print(f"{added:.1f} kB an exposure (limit {LIMIT}); {load()}")
    if added > LIMIT:
        raise SystemExit("the memory grows")


if __name__ == "__main__":
    main()
