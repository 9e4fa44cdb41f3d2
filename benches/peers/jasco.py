"""JASCO's velocity field here and in PyTorch, side by side: processor seconds, wall time, memory, difference.

    pip install torch numpy
    cargo build --release --example jasco_peer --no-default-features --features ml
    python benches/peers/jasco.py [--pairs 3] [--threads 2]
    python benches/peers/jasco.py --make FOLDER && target/release/examples/jasco_peer load FOLDER/state_dict.bin

One evaluation with the sizes of the 400M model, two terms of 500 frames, float32. Weights and inputs are a hash
of names and places, the same on both sides. PyTorch runs the network as its paper writes it, both terms in one
batch, with its fused attention. The two take turns, each in a process of its own; loading and the first
evaluation are not counted, memory is each process's peak. On a shared machine look at the processor seconds.

As on a processor without AVX-512, where this one has it:
    UNCOOK_VECTORS=avx2 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 python …
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DIM, HEADS, LAYERS, HIDDEN, FLOW, LOCAL = 1024, 16, 24, 4096, 128, 18
TIME_DIM, TIME_HIDDEN, FRAMES, POSITIONS, RUNS = 128, 512, 500, 16, 2


def hashed(name, *shape):
    """Uniform in -1..1."""
    import numpy as np

    seed = 0x811C9DC5
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x01000193) & 0xFFFFFFFF
    x = np.arange(math.prod(shape), dtype=np.uint32) * np.uint32(0x9E3779B1) + np.uint32(seed)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x85EBCA6B)
    x ^= x >> np.uint32(13)
    x *= np.uint32(0xC2B2AE35)
    x ^= x >> np.uint32(16)
    return ((x >> np.uint32(8)).astype(np.float32) / 8388608 - 1).reshape(shape)


def torch_worker(out, threads):
    import numpy as np
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)

    def weight(name, *shape):
        x = torch.from_numpy(hashed(name, *shape))
        if len(shape) == 2:
            return x.mul_(math.sqrt(3 / shape[1]))
        return x.mul_(0.1).add_(1 if "norm" in name and name.endswith("weight") else 0)

    d = DIM
    norms = lambda name: (weight(f"{name}.weight", d), weight(f"{name}.bias", d))
    affine = lambda name, o, i: (weight(f"{name}.weight", o, i), weight(f"{name}.bias", o))
    emb = weight("emb.weight", d, FLOW + LOCAL)
    layers = []
    for i in range(LAYERS):
        p = f"transformer.layers.{i}."
        layers.append(
            {
                "n1": norms(p + "norm1"),
                "nc": norms(p + "norm_cross"),
                "n2": norms(p + "norm2"),
                "si": weight(p + "self_attn.in_proj_weight", 3 * d, d),
                "so": weight(p + "self_attn.out_proj.weight", d, d),
                "ci": weight(p + "cross_attention.in_proj_weight", 3 * d, d),
                "co": weight(p + "cross_attention.out_proj.weight", d, d),
                "l1": weight(p + "linear1.weight", HIDDEN, d),
                "l2": weight(p + "linear2.weight", d, HIDDEN),
            }
        )
    out_norm, linear = norms("out_norm"), weight("linear.weight", FLOW, d)
    dense0 = affine("temb.dense.0", TIME_HIDDEN, TIME_DIM)
    dense1 = affine("temb.dense.1", TIME_HIDDEN, TIME_HIDDEN)
    project = affine("temb_proj", d, TIME_HIDDEN)
    local = torch.stack([torch.from_numpy(hashed(n, FRAMES, LOCAL)) for n in ("all", "null")])
    text = torch.from_numpy(hashed("text", POSITIONS, d))
    text = torch.stack([text, torch.zeros_like(text)])
    z = torch.from_numpy(hashed("z", FRAMES, FLOW)).expand(2, -1, -1)
    half = d // 2
    angle = torch.arange(FRAMES)[:, None] / 10000 ** (torch.arange(half) / (half - 1))
    place = torch.cat([angle.cos(), angle.sin()], 1)

    def heads(x):
        return x.view(2, -1, HEADS, d // HEADS).transpose(1, 2)

    def joined(x):
        return x.transpose(1, 2).reshape(2, -1, d)

    def velocity(t):
        half = TIME_DIM // 2
        f = torch.exp(torch.arange(half) * (-math.log(10000) / (half - 1)))
        u = torch.cat([(t * f).sin(), (t * f).cos()])
        source = text + F.linear(F.linear(F.silu(F.linear(u, *dense0)), *dense1), *project)
        h = F.linear(torch.cat([z, local], 2), emb) + place
        for w in layers:
            q, k, v = F.linear(F.layer_norm(h, (d,), *w["n1"]), w["si"]).chunk(3, 2)
            a = F.scaled_dot_product_attention(heads(q), heads(k), heads(v))
            h = h + F.linear(joined(a), w["so"])
            q = F.linear(F.layer_norm(h, (d,), *w["nc"]), w["ci"][:d])
            k, v = F.linear(source, w["ci"][d:]).chunk(2, 2)
            a = F.scaled_dot_product_attention(heads(q), heads(k), heads(v))
            h = h + F.linear(joined(a), w["co"])
            h = h + F.linear(F.gelu(F.linear(F.layer_norm(h, (d,), *w["n2"]), w["l1"])), w["l2"])
        return F.linear(F.layer_norm(h, (d,), *out_norm), linear)

    velocity(0.37)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(RUNS):
        v = velocity(0.37)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    v.numpy().astype(np.float32).tofile(out)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"wall_s": wall / RUNS, "cpu_s": cpu / RUNS, "peak_bytes": peak}))


CODEC = "condition_provider.conditioners.self_wav.compression_model.model."
CONFIG = f"""
transformer_lm:
  dim: {DIM}
  num_heads: {HEADS}
  num_layers: {LAYERS}
  hidden_scale: {HIDDEN // DIM}
  skip_connections: false
  time_embedding_dim: {TIME_DIM}
  flow_dim: {FLOW}
  chords_dim: 16
  drums_dim: 2
  melody_dim: 0
compression_model_latent_mean: -0.0074
compression_model_latent_std: 4.0102
compression_model_framerate: 50
sample_rate: 32000
conditioners:
  self_wav:
    drum_latents:
      out_dim: 2
      blurring_factor: 3
  chords:
    chords_emb:
      card: 194
      out_dim: 16
dataset:
  segment_duration: 10
"""


def codec_shapes():
    """Names and shapes of the 32 kHz codec as the model's file holds it."""
    yield "encoder.layers.0.conv", (64, 1, 7)
    yield "decoder.layers.0.conv", (1024, FLOW, 7)
    layer, width = 1, 64
    for kernel in (8, 8, 10, 16):
        yield f"encoder.layers.{layer}.block.1.conv", (width // 2, width, 3)
        yield f"encoder.layers.{layer}.block.3.conv", (width, width // 2, 1)
        yield f"encoder.layers.{layer + 2}.conv", (2 * width, width, kernel)
        layer, width = layer + 3, 2 * width
    yield "encoder.layers.15.conv", (FLOW, 1024, 7)
    layer = 3
    for kernel in (16, 10, 8, 8):
        yield f"decoder.layers.{layer}.conv", (width, width // 2, kernel)
        width //= 2
        yield f"decoder.layers.{layer + 1}.block.1.conv", (width // 2, width, 3)
        yield f"decoder.layers.{layer + 1}.block.3.conv", (width, width // 2, 1)
        layer += 3
    yield "decoder.layers.15.conv", (1, 64, 7)


def make(folder):
    import torch

    torch.manual_seed(4)
    state = {}

    def add(name, *shape, like=0.0):
        deep = math.prod(shape[1:]) if len(shape) > 1 else 100
        state[name] = (like + torch.randn(*shape) / math.sqrt(deep)).half()

    def affine(name, out, inputs):
        add(f"{name}.weight", out, inputs)
        add(f"{name}.bias", out)

    for name, shape in codec_shapes():
        transposed = name.startswith("decoder") and len(name.split(".")) == 4 and shape[2] > 7
        add(f"{CODEC}{name}.bias", shape[1] if transposed else shape[0])
        add(f"{CODEC}{name}.weight_g", shape[0], 1, 1, like=1.0)
        add(f"{CODEC}{name}.weight_v", *shape)
    for half, layer in (("encoder", 13), ("decoder", 1)):
        for level in range(2):
            for what in ("ih", "hh"):
                lstm = f"{CODEC}{half}.layers.{layer}.lstm."
                add(f"{lstm}weight_{what}_l{level}", 4096, 1024)
                add(f"{lstm}bias_{what}_l{level}", 4096)
    for level in range(4):
        add(f"{CODEC}quantizer.layers.{level}.codebook.embed", 2048, FLOW)
    conditioner = "condition_provider.conditioners."
    affine(conditioner + "self_wav.output_proj", 2, FLOW)
    affine(conditioner + "description.output_proj", DIM, 768)
    add(conditioner + "chords.emb.weight", 195, 16)
    add("emb.weight", DIM, FLOW + LOCAL)
    for layer in range(LAYERS):
        prefix = f"transformer.layers.{layer}."
        for norm in ("norm1", "norm_cross", "norm2"):
            add(f"{prefix}{norm}.weight", DIM, like=1.0)
            add(f"{prefix}{norm}.bias", DIM)
        for attention in ("self_attn", "cross_attention"):
            add(f"{prefix}{attention}.in_proj_weight", 3 * DIM, DIM)
            add(f"{prefix}{attention}.out_proj.weight", DIM, DIM)
        add(f"{prefix}linear1.weight", HIDDEN, DIM)
        add(f"{prefix}linear2.weight", DIM, HIDDEN)
    add("out_norm.weight", DIM, like=1.0)
    add("out_norm.bias", DIM)
    add("linear.weight", FLOW, DIM)
    affine("temb.dense.0", TIME_HIDDEN, TIME_DIM)
    affine("temb.dense.1", TIME_HIDDEN, TIME_HIDDEN)
    affine("temb_proj", DIM, TIME_HIDDEN)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"best_state": state, "xp.cfg": CONFIG}, folder / "state_dict.bin")
    print(f"{sum(x.numel() for x in state.values()) / 1e6:.0f} million numbers")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--make", type=Path, metavar="FOLDER", help="only write a model there")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ours", default="target/release/examples/jasco_peer")
    parser.add_argument("--torch-worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make:
        make(args.make)
        return
    if args.torch_worker:
        torch_worker(args.torch_worker, args.threads)
        return
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        outs = {who: str(Path(folder) / who) for who in ("torch", "ours")}
        threads = str(args.threads)
        commands = {
            "torch": [sys.executable, __file__, "--threads", threads, "--torch-worker"],
            "ours": [args.ours, threads],
        }
        runs = {"torch": [], "ours": []}
        for pair in range(args.pairs):
            for who in ("torch", "ours") if pair % 2 == 0 else ("ours", "torch"):
                command = commands[who] + [outs[who]]
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
