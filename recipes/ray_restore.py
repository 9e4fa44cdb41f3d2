#!/usr/bin/env python3
"""Restores every recording of a folder on a Ray cluster, or on this machine; the same command again goes on.

    pip install ray
    recipes/ray_restore.py TAKES RESTORED [--shards N] [--address auto] [-- OPTIONS OF UNCOOK RESTORE...]

Every node needs `uncook` (or UNCOOK) of the same version, and both folders under the same path.
"""

import argparse
import os
import subprocess
import sys

import ray


@ray.remote(num_cpus=1, max_retries=3)
def restore(shard, command):
    """One part of the folder. A node that dies is replaced: its shard runs again and skips what was done."""
    run = subprocess.run([*command, "--jobs", "1", "--shard", shard], capture_output=True, text=True)
    return shard, run.returncode, run.stdout, run.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("takes")
    parser.add_argument("restored")
    parser.add_argument("--shards", type=int, help="parts; by default one for each processor of the cluster")
    parser.add_argument("--address", help="a running cluster, such as auto; by default this machine alone")
    # What stands behind -- is for uncook.
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    args, options = parser.parse_args(words[:end]), words[end + 1:]

    ray.init(address=args.address, log_to_driver=False)
    shards = args.shards or max(1, int(ray.cluster_resources().get("CPU", 1)))
    restored = os.path.abspath(args.restored)
    command = [
        os.environ.get("UNCOOK", "uncook"), "restore", os.path.abspath(args.takes), "-o", restored + "/",
        "--manifest", os.path.join(restored, "manifest.jsonl"), *options,
    ]
    worst = 0
    waiting = [restore.remote(f"{n + 1}/{shards}", command) for n in range(shards)]
    while waiting:
        finished, waiting = ray.wait(waiting)
        shard, code, out, err = ray.get(finished[0])
        sys.stdout.write(out)
        sys.stderr.write(err)
        print(f"shard {shard}: exit code {code}", file=sys.stderr)
        # 2 and a signal mean that nothing, or not all, was tried.
        worst = max(worst, code if code >= 0 else 2)
    return worst


if __name__ == "__main__":
    sys.exit(main())
