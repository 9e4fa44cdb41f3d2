"""HTDemucs here and in PyTorch, side by side: processor seconds, wall time, memory, and the difference.

    pip install demucs==4.1.0 torch==2.11.0 omegaconf
    cargo build --release --example htdemucs_peer --no-default-features --features ml
    python benches/peers/htdemucs.py [--kind htdemucs|hdemucs_mmi] [--seconds 20] [--pairs 5] [--threads 2]
        [--model FILE.th]

Without --model, a network of the released size with random weights is made and saved by demucs' own
function. The two take turns, each in a process of its own; loading is not counted, memory is each
process's peak. Medians of the pairs are printed. On a shared machine look at the processor seconds.

As on a processor without AVX-512, where this one has it:
    UNCOOK_VECTORS=avx2 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 python …
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

RATE = 44100


def make_model(folder, kind):
    """A random network with the released hyper-parameters, whose branches all matter."""
    import torch
    from demucs import states
    from demucs.hdemucs import HDemucs
    from demucs.htdemucs import HTDemucs
    from omegaconf import OmegaConf

    torch.manual_seed(3)
    sources = ["drums", "bass", "other", "vocals"]
    if kind == "hdemucs_mmi":
        # What is not named is the class's own default.
        model = HDemucs(sources=sources, channels=48, hybrid_old=False, segment=44)
    else:
        model = HTDemucs(
            sources=sources,
            segment=Fraction(39, 5),
            channels=48,
            dconv_mode=3,
            bottom_channels=512,
            t_dropout=0.02,
        )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".scale"):
                # At 1e-4, as they start, the residual branches would not show in the result.
                parameter.copy_(torch.rand_like(parameter) * 0.6 + 0.2)
    states.save_with_checksum(
        states.serialize_model(model.eval(), OmegaConf.create({})), folder / "random.th"
    )


def make_song(path, seconds):
    """Two channels of chords, hits and noise from fixed formulas."""
    import numpy as np

    t = np.arange(int(RATE * seconds)) / RATE
    rng = np.random.default_rng(1)
    chord = sum(np.sin(2 * np.pi * f * t + k) for k, f in enumerate((55, 220, 277.2, 329.6, 1320)))
    hits = rng.standard_normal(t.size) * np.exp(-((t * 2) % 1) * 12)
    left = 0.08 * chord + 0.25 * hits
    right = 0.07 * np.roll(chord, 40) + 0.2 * hits + 0.01 * rng.standard_normal(t.size)
    np.stack([left, right]).astype(np.float32).tofile(path)


def torch_worker(model, song, out, threads):
    import numpy as np
    import torch
    from demucs import states
    from demucs.apply import apply_model

    torch.set_num_threads(threads)
    net = states.load_model(model).eval()
    wav = torch.from_numpy(np.fromfile(song, np.float32).reshape(2, -1))
    wall, cpu = time.perf_counter(), time.process_time()
    ref = wav.mean(0)
    mean, deviation = ref.mean(), ref.std() + 1e-8
    stems = apply_model(net, ((wav - mean) / deviation)[None], shifts=0)[0] * deviation + mean
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    stems.numpy().astype(np.float32).tofile(out)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"wall_s": wall, "cpu_s": cpu, "peak_bytes": peak}))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--kind", choices=("htdemucs", "hdemucs_mmi"), default="htdemucs")
    parser.add_argument("--ours", default="target/release/examples/htdemucs_peer")
    parser.add_argument("--torch-worker", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--make-model", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make_model:
        make_model(args.make_model, args.kind)
        return
    if args.torch_worker:
        torch_worker(*args.torch_worker, args.threads)
        return
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        model = args.model
        if not model:
            # In a process of its own: a process begins with the peak of the one that started it.
            command = [sys.executable, __file__, "--make-model", str(folder), "--kind", args.kind]
            subprocess.run(command, check=True)
            model = next(folder.glob("random-*.th"))
        song = folder / "song.f32"
        make_song(song, args.seconds)
        outs = {"torch": folder / "torch.f32", "ours": folder / "ours.f32"}
        threads = str(args.threads)
        commands = {
            "torch": [sys.executable, __file__, "--threads", threads, "--torch-worker"],
            "ours": [args.ours],
        }
        runs = {"torch": [], "ours": []}
        for pair in range(args.pairs):
            for who in ("torch", "ours") if pair % 2 == 0 else ("ours", "torch"):
                command = commands[who] + [str(model), str(song), str(outs[who])]
                command += [threads] if who == "ours" else []
                line = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                runs[who].append(json.loads(line.strip().splitlines()[-1]))
                print(pair, who, runs[who][-1], flush=True)
        a, b = (np.fromfile(outs[who], np.float32) for who in ("torch", "ours"))
        print(f"largest difference: {np.abs(a - b).max() / np.abs(a).max():.2e} of the peak")
        for what in ("cpu_s", "wall_s", "peak_bytes"):
            ratios = [o[what] / t[what] for o, t in zip(runs["ours"], runs["torch"])]
            ours, torch_ = (statistics.median(r[what] for r in runs[w]) for w in ("ours", "torch"))
            print(f"{what}: ours {ours:.4g}, torch {torch_:.4g}, median ratio {statistics.median(ratios):.3f}")


main()
