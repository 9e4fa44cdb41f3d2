"""Makes, from demucs 4.1.0:

hdemucs.weights.safetensors   a small random HDemucs (seed 11), the class of the released hdemucs_mmi
hdemucs.golden.safetensors    what flows between its layers for one segment
hdemucs.apply.safetensors     what it gives for whole signals

    pip install demucs==4.1.0 torch safetensors
    python make_golden_hdemucs.py

The input is that of `make_golden.py`.
"""

import json

import numpy as np
import torch
from demucs.apply import apply_model
from demucs.hdemucs import HDemucs
from safetensors.torch import save_file

# A hop of 64 samples: 281 frames, so that the recurrent layers work in overlapping frames of 200 steps.
KWARGS = dict(
    sources=["drums", "bass", "other", "vocals"], channels=8, nfft=256, depth=4, norm_starts=2, dconv_attn=2,
    dconv_lstm=2, segment=0.408, samplerate=44100,
)


def signal(samples):
    state, out = 12345, np.zeros((2, samples), np.int64)
    for n in range(samples):
        for c, period in enumerate((97, 211)):
            state = (state * 1664525 + 1013904223) % 2**32
            noise = (state >> 16) - 32768
            phase = n % period
            triangle = 2 * min(phase, period - phase) * 65536 // period - 32768
            out[c, n] = noise + 3 * triangle
    return torch.from_numpy((out / 2.0**19).astype(np.float32))


def separate(model, wav):
    """As `demucs.api.Separator.separate_tensor` does."""
    ref = wav.mean(0)
    mean, std = ref.mean(), ref.std() + 1e-8
    return apply_model(model, ((wav - mean) / std)[None], shifts=0)[0] * std + mean


def main():
    torch.manual_seed(11)
    model = HDemucs(**KWARGS).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".scale"):
                # At 1e-4, as they start, the residual branches would not show in the result.
                parameter.copy_(torch.rand_like(parameter) * 0.6 + 0.2)
            elif "norm" in name or ".dconv.layers" in name and parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            if "query_decay.bias" in name:
                parameter.copy_(torch.randn_like(parameter) - 3)
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    metadata = {
        "klass": "demucs.hdemucs.HDemucs",
        "args": "[]",
        "kwargs": json.dumps(KWARGS),
    }
    state = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(state, "hdemucs.weights.safetensors", metadata)
    seen = {}

    def watch(name):
        def hook(_, __, out):
            out = out[0] if isinstance(out, tuple) else out
            seen[f"act.{name}"] = out[0].detach().squeeze(1).clone()

        return hook

    for name in ("encoder", "tencoder", "decoder", "tdecoder"):
        for i, layer in enumerate(getattr(model, name)):
            layer.register_forward_hook(watch(f"{name}.{i}"))
    with torch.no_grad():
        wav = signal(40_000)
        samples = int(KWARGS["segment"] * 44100)
        out = model(wav[None, :, :samples])[0]
        golden = {}
        for name in ("encoder.2", "encoder.3", "decoder.0"):
            golden[f"act.{name}"] = seen[f"act.{name}"].contiguous()
        golden["act.decoder.1.every16"] = seen["act.decoder.1"].flatten(0, -2)[::16].contiguous()
        golden["act.tdecoder.0.every4"] = seen["act.tdecoder.0"][..., ::4].contiguous()
        golden["output.every4"] = out[..., ::4].contiguous()
        apply = {"whole": separate(model, wav)[..., ::8].contiguous()}
        apply["len3001"] = separate(model, wav[:, :3001])[..., ::2].contiguous()
    save_file(golden, "hdemucs.golden.safetensors")
    save_file(apply, "hdemucs.apply.safetensors")
    golden.update(apply)
    print({k: (tuple(v.shape), float(v.abs().max())) for k, v in golden.items()})


main()
