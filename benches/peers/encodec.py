"""EnCodec 32 kHz, full size, random weights: our CPU time and memory as a ratio to PyTorch's, in one interleaved run.

    python3 -m venv VENV && VENV/bin/pip install torch transformers safetensors
    cargo build --release --no-default-features --features ml --example encodec_peer
    VENV/bin/python benches/peers/encodec.py [EXAMPLE] [--rounds 5] [--seconds 10]

EXAMPLE is target/release/examples/encodec_peer if left out. Both run in processes of their own on the same two cores,
take turns, and are warmed up once. Encoding is audio to codes, decoding codes to audio. Medians of CPU seconds
(user and system, all threads), so that other work on the machine matters little; peak resident memory of the whole process.

As on a processor without AVX-512, where this one has it:
    UNCOOK_VECTORS=avx2 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 python …
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CONFIG = dict(
    sampling_rate=32000, audio_channels=1, num_filters=64, hidden_size=128, codebook_dim=128, codebook_size=2048,
    upsampling_ratios=[8, 5, 4, 4], kernel_size=7, last_kernel_size=7, residual_kernel_size=3, num_residual_layers=1,
    dilation_growth_rate=2, num_lstm_layers=2, compress=2, pad_mode="reflect", norm_type="weight_norm",
    trim_right_ratio=1.0, use_causal_conv=False, use_conv_shortcut=False, normalize=False,
    target_bandwidths=[2.2], chunk_length_s=None, overlap=None,
)


def write_model(folder: Path, seconds: float) -> None:
    """Made in a process of its own, so that making it is not in anyone's peak."""
    import torch
    from safetensors.torch import save_file
    from transformers import EncodecConfig, EncodecModel

    torch.manual_seed(0)
    config = EncodecConfig(**CONFIG)
    model = EncodecModel(config).eval()
    with torch.no_grad():
        for layer in model.quantizer.layers:
            layer.codebook.embed.normal_(std=0.05)
    state = {k: v.detach().clone().contiguous() for k, v in model.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(dict(CONFIG, model_type="encodec")))
    samples = int(seconds * 32000)
    t = torch.arange(samples) / 32000
    x = 0.3 * torch.sin(2 * torch.pi * 110 * t) + 0.1 * torch.randn(samples)
    save_file({"x": x.reshape(1, 1, samples)}, folder / "input.safetensors")


def torch_peer(folder: Path) -> None:
    import time

    import torch
    from safetensors.torch import load_file, save_file
    from transformers import EncodecConfig, EncodecModel

    torch.set_num_threads(2)
    model = EncodecModel(EncodecConfig(**CONFIG)).eval()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    x = load_file(folder / "input.safetensors")["x"]

    def cpu() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    print("ready", flush=True)
    latents = codes = None
    with torch.inference_mode():
        for line in sys.stdin:
            before, wall = cpu(), time.perf_counter()
            command = line.strip()
            if command == "encode":
                latents = model.encoder(x)
                codes = model.quantizer.encode(latents, 2.2).transpose(0, 1)
                print(cpu() - before, time.perf_counter() - wall, flush=True)
            elif command == "decode":
                audio = model.decoder(model.quantizer.decode(codes.transpose(0, 1)))
                print(cpu() - before, time.perf_counter() - wall, flush=True)
                out = {"latents": latents, "audio": audio, "codes": codes}
                save_file({k: v.contiguous() for k, v in out.items()}, folder / "torch.safetensors")
            else:
                break
    peak = next(l for l in open("/proc/self/status") if l.startswith("VmHWM:"))
    print(int(peak.split()[1]) / 1024, flush=True)


class Peer:
    def __init__(self, command: list[str]):
        environment = dict(os.environ, OMP_NUM_THREADS="2", MKL_NUM_THREADS="2")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        line = self.process.stdout.readline()
        if line.strip() != "ready":
            raise SystemExit(f"{command[0]} did not start: {line!r}")

    def ask(self, what: str) -> list[float]:
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return [float(v) for v in self.process.stdout.readline().split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parents[2]
    parser.add_argument("example", nargs="?", default=str(root / "target/release/examples/encodec_peer"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--torch", metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--make", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        return write_model(Path(options.make), options.seconds)
    if options.torch:
        return torch_peer(Path(options.torch))

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        own = [sys.executable, __file__, "--seconds", str(options.seconds)]
        subprocess.run(own + ["--make", name], check=True)
        peers = {"uncook": Peer([options.example, name]), "PyTorch": Peer(own + ["--torch", name])}
        times = {(who, what): [] for who in peers for what in ("encode", "decode")}
        for turn in range(options.rounds + 1):
            for what in ("encode", "decode"):
                for who, peer in peers.items():
                    cpu_and_wall = peer.ask(what)
                    if turn > 0:
                        times[who, what].append(cpu_and_wall)
        memory = {who: peer.ask("quit")[0] for who, peer in peers.items()}
        for peer in peers.values():
            peer.process.wait()

        from safetensors.numpy import load_file

        ours, theirs = load_file(folder / "uncook.safetensors"), load_file(folder / "torch.safetensors")
    print(f"{options.seconds:g} s of audio, {options.rounds} rounds, medians")
    for what in ("encode", "decode"):
        median = {who: [statistics.median(v) for v in zip(*times[who, what])] for who in peers}
        ratio = median["uncook"][0] / median["PyTorch"][0]
        print(f"{what}: CPU {median['uncook'][0]:.2f} s, PyTorch {median['PyTorch'][0]:.2f} s, ratio {ratio:.2f} (at most 0.80)"
              f"; wall {median['uncook'][1]:.2f} s, PyTorch {median['PyTorch'][1]:.2f} s")
    ratio = memory["uncook"] / memory["PyTorch"]
    print(f"peak memory: {memory['uncook']:.0f} MB, PyTorch {memory['PyTorch']:.0f} MB, ratio {ratio:.2f} (at most 0.75)")
    for what in ("latents", "audio"):
        error = abs(ours[what] - theirs[what]).max() / abs(theirs[what]).max()
        print(f"{what}: largest difference {error:.1e} of the peak")
    same = (ours["codes"] == theirs["codes"]).mean()
    print(f"codes: {100 * same:.2f} % equal")


if __name__ == "__main__":
    main()
