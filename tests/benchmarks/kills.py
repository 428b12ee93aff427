"""Runs with workers, killed at random moments: how many processes are left, and for how long.

    python tests/benchmarks/kills.py [--kills 50] [DIR]

Half of the runs are `strun niriss_fluxcal --workers=2`, half `niriss-ee campaign --workers 2`; a third of either are
ended by SIGKILL, a third by SIGTERM, a third by SIGINT. A process that is left after five seconds is an orphan.
"""

import argparse
import random
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from running import BIN, simulate

PATIENCE = 5.0  # [s]


def alive(mark):
    """Processes whose command line or environment names this run."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and mark in (path / "environ").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found


def kill_one(program, association, number):
    """Start a run, end it, and return how long its processes were seen afterwards [s]; None: beyond the patience."""
    out = Path(tempfile.mkdtemp())
    run = ["strun", "niriss_fluxcal", association, "--workers=2", f"--output_dir={out}"]
    campaign = ["niriss-ee", "campaign", association, "--output-dir", out, "--workers", "2"]
    name, *arguments = (run, campaign)[number % 2]
    mark = f"KILLS_RUN={out}"
    process = subprocess.Popen(
        ["env", mark, BIN / name, *arguments], cwd=program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    time.sleep(random.uniform(0.5, 6.0))
    process.send_signal((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)[number // 2 % 3])
    start = time.monotonic()
    # the pipe ends when nobody holds it any more
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        output = b""
    while alive(mark.encode()):
        if time.monotonic() - start > PATIENCE:
            return None, output
        time.sleep(0.05)
    return time.monotonic() - start, output


def main():
    """Kill as many runs as asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", nargs="?", type=Path, default=Path("benchmark"), metavar="DIR")
    parser.add_argument("--kills", type=int, default=50)
    args = parser.parse_args()
    program = simulate(args.directory)
    association = next(program.glob("*_asn.json")).resolve()
    random.seed(5)
    times = [kill_one(program, association, number) for number in range(args.kills)]
    seen = [found for found, _ in times if found is not None]
    tracebacks = sum(b"Traceback" in output for _, output in times)
    print(
        f"{args.kills} kills: {len(times) - len(seen)} with processes left after {PATIENCE:g} s; "
        f"the longest of the others {max(seen, default=0):.1f} s; {tracebacks} tracebacks"
    )


if __name__ == "__main__":
    main()
