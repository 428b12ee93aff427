"""A thousand exposures on a Dask cluster of this machine: time, and the memory of every worker while it runs.

    python tests/benchmarks/thousand.py [DIR] [--exposures N] [--workers N]

Simulates ten small exposures (SUB64) in DIR (by default benchmark_small), links them under as many sets of names as are
needed, starts `dask scheduler` and workers on the loopback, and runs `niriss-ee campaign` on them. The memory of each
process is read every half second; the run fails if a worker's grows by more than a tenth over the second half.
"""

import argparse
import shutil
import socket
import subprocess
import time
from pathlib import Path

from running import BIN, environment, load, simulate, under_other_names

INTERVAL = 0.5  # [s]
GROWTH = 1.10  # of a worker's memory, from the middle of the run to its end


def resident(process):
    """Memory of a process [MB]."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def start(*command, cwd):
    """Start a process of the cluster."""
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def free_port():
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def watch(campaign, workers):
    """Memory of the campaign and of each worker while the campaign runs: rows of (time, MB, MB, ...)."""
    started, rows = time.perf_counter(), []
    while campaign.poll() is None:
        rows.append((time.perf_counter() - started, *(resident(process) for process in (campaign, *workers))))
        time.sleep(INTERVAL)
    if campaign.returncode:
        raise SystemExit(f"the campaign failed with exit code {campaign.returncode}")
    return rows


def on_cluster(program, association, n_workers):
    """Run a campaign on a cluster of its own."""
    out = program / "products"
    shutil.rmtree(out, ignore_errors=True)
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    options = ("--nthreads", 1, "--no-nanny", "--no-dashboard", "--local-directory", program / "dask")
    cluster = [start(BIN / "dask", "scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard", cwd=program)]
    cluster += [start(BIN / "dask", "worker", address, *options, cwd=program) for _ in range(n_workers)]
    try:
        campaign = start(
            BIN / "niriss-ee", "campaign", association, "--output-dir", out, "--scheduler", address, cwd=program
        )
        return watch(campaign, cluster[1:])
    finally:
        for process in cluster:
            process.kill()
            process.wait()


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path, default=Path("benchmark_small"), metavar="DIR")
    parser.add_argument("--exposures", type=int, default=1000, metavar="N")
    parser.add_argument("--workers", type=int, default=2, metavar="N")
    args = parser.parse_args()
    program = args.directory.resolve()
    simulate(program, "--filters", "F090W", "F277W", "F356W", "F444W", "F480M", "--subarrays", "SUB64")
    association = under_other_names(program, max(1, args.exposures // 10))
    print(load())
    rows = on_cluster(program, association, args.workers)
    n_products = len(list((program / "products").glob("*_eeprofile.asdf")))
    wall = rows[-1][0]
    print(f"{n_products} exposures, {args.workers} Dask workers: {wall:.0f} s, {wall / n_products * 1e3:.0f} ms each")
    names = ["campaign", *(f"worker {k}" for k in range(1, args.workers + 1))]
    middle, last = rows[len(rows) // 2], rows[-1]
    grown = []
    for k, name in enumerate(names, start=1):
        peak = max(row[k] for row in rows)
        print(f"{name:<10} {middle[k]:6.0f} MB in the middle {last[k]:6.0f} MB at the end {peak:6.0f} MB peak")
        if k > 1 and last[k] > GROWTH * middle[k]:
            grown.append(name)
    print(load())
    if grown:
        raise SystemExit(f"the memory grows: {', '.join(grown)}")


if __name__ == "__main__":
    main()
