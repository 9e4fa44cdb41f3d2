"""Writes fuzz/corpus: files to start from, taken from the tests' files and made here.

    python fuzz/seeds.py

A fuzzer that starts from nothing never gets past a zip's directory or the first brace of a header.
"""

import json
import pickle
import zipfile
from collections import OrderedDict, defaultdict
from fractions import Fraction
from pathlib import Path

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "tests" / "golden"
# Larger files only slow the fuzzer down.
MOST_BYTES = 64 << 10


def write(target, name, content):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def main():
    for path in sorted(GOLDEN.rglob("*")):
        if path.suffix not in (".th", ".bin", ".pt", ".safetensors"):
            continue
        content = path.read_bytes()
        name = "-".join(path.relative_to(GOLDEN).parts)
        if len(content) <= MOST_BYTES:
            write("checkpoint", name, content)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as file:
                for entry in file.namelist():
                    data = file.read(entry)
                    if entry.endswith("data.pkl") and len(data) <= MOST_BYTES:
                        write("pickle", name, data)
        elif content[8:9] == b"{":
            length = int.from_bytes(content[:8], "little")
            rest = content[8 + length :]
            if length + len(rest) <= MOST_BYTES:
                write("header", name, content[8 : 8 + length] + b"\n" + rest)

    headers = {
        "empty": {},
        "notes": {"__metadata__": {"klass": '"HTDemucs"', "kwargs": '{"a": [1, 2.5, null]}'}},
        "types": {
            f"t{i}": tensor(dtype, [1], at, at + size)
            for i, (dtype, size, at) in enumerate(
                [("F64", 8, 0), ("I64", 8, 8), ("F32", 4, 16), ("I32", 4, 20), ("F16", 2, 24)]
                + [("BF16", 2, 26), ("I16", 2, 28), ("U8", 1, 30), ("I8", 1, 31), ("BOOL", 1, 32)]
            )
        },
        "axes": {"w": tensor("F32", [1, 1, 1, 1, 2, 1, 1, 1], 0, 8)},
        "none": {"w": tensor("F32", [0, 7], 0, 0), "v": tensor("F32", [], 0, 4)},
    }
    for name, header in headers.items():
        ends = [t["data_offsets"][1] for t in header.values() if "data_offsets" in t]
        data = bytes(range(max(ends, default=0)))
        write("header", name, json.dumps(header).encode() + b"\n" + data)

    nested = []
    for _ in range(50):
        nested = [nested]
    cycle = {}
    cycle["self"] = cycle
    values = {
        "nested": nested,
        "cycle": cycle,
        "plain": {"a": [1, -1, 1 << 40, 2.5, None, True, b"bytes", "text", (1, 2), {3}]},
        "classes": {"f": Fraction(39, 5), "o": OrderedDict(a=1), "d": defaultdict(list, a=[1])},
        "shared": [[1, 2]] * 20,
    }
    for name, value in values.items():
        for protocol in range(6):
            write("pickle", f"{name}-{protocol}", pickle.dumps(value, protocol))
    for folder in sorted((HERE / "corpus").iterdir()):
        print(folder.name, len(list(folder.iterdir())))


main()
