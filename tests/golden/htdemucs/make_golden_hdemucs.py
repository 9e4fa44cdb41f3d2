"""Makes, from demucs 4.1.0:

hdemucs.weights.safetensors   a small random HDemucs (seed 11), the class of the released hdemucs_mmi
hdemucs.golden.safetensors    what flows between its layers for one segment
hdemucs.apply.safetensors     what it gives for whole signals

    pip install demucs==4.1.0 torch safetensors
    python make_golden_hdemucs.py

The input is that of `golden_input.py`.
"""

import json

import torch
from demucs.hdemucs import HDemucs
from safetensors.torch import save_file

from golden_input import separate, signal

# A hop of 64 samples: 281 frames, so that the recurrent layers work in overlapping frames of 200 steps.
KWARGS = dict(
    sources=["drums", "bass", "other", "vocals"], channels=8, nfft=256, depth=4, norm_starts=2, dconv_attn=2,
    dconv_lstm=2, segment=0.408, samplerate=44100,
)


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
        apply = {"whole": separate(model, wav, shifts=0)[..., ::8].contiguous()}
        apply["len3001"] = separate(model, wav[:, :3001], shifts=0)[..., ::2].contiguous()
    save_file(golden, "hdemucs.golden.safetensors")
    save_file(apply, "hdemucs.apply.safetensors")
    golden.update(apply)
    print({k: (tuple(v.shape), float(v.abs().max())) for k, v in golden.items()})


main()
