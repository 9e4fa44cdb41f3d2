#!/bin/sh
# Restores every recording of a folder with GNU parallel; the same command again goes on where it was stopped.
#
#   recipes/parallel.sh TAKES RESTORED [JOBS] [OPTIONS OF UNCOOK RESTORE...]
#
# Over several machines that see both folders: PARALLEL="--sshlogin host1,host2 --workdir ." recipes/parallel.sh ...
set -eu
if [ $# -lt 2 ]; then
    echo "usage: $0 TAKES RESTORED [JOBS] [OPTIONS OF UNCOOK RESTORE...]" >&2
    exit 2
fi
takes=$1 restored=$2 jobs=${3:-2}
shift 2
[ $# -eq 0 ] || shift
# A shard a job, so that every process sees the whole folder and names results alike. GNU parallel's exit code is the
# number of shards in which something failed; the manifest says what.
exec parallel --jobs "$jobs" --line-buffer --quote \
    "${UNCOOK:-uncook}" restore "$takes" -o "$restored/" --manifest "$restored/manifest.jsonl" \
    --jobs 1 --shard "{}/$jobs" "$@" ::: $(seq "$jobs")
