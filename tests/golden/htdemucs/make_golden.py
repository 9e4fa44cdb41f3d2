"""Makes, from tinyA.weights.safetensors (a small random network, seed 7):

apply.safetensors   what demucs 4.1.0 gives for it on whole signals (chunks, shift, overlap)
tinyA.th            the same network as demucs' own function saves it

The other files hold what flows between the layers of tinyA (4 sources) and tinyB (6 sources, no bottom
channels) for one segment, from the same package.

    pip install demucs==4.1.0 torch==2.11.0 safetensors omegaconf
    python make_golden.py

The input is made of whole numbers, so that a test makes the same one: see `golden_input.signal`.
"""

import json
import random
from pathlib import Path

import torch
from demucs import states
from demucs.htdemucs import HTDemucs
from fractions import Fraction
from safetensors import safe_open
from safetensors.torch import save_file

from golden_input import separate, signal


def main():
    with safe_open("tinyA.weights.safetensors", "pt") as file:
        kwargs = json.loads(file.metadata()["kwargs"])
        state = {name: file.get_tensor(name).float() for name in file.keys()}
    segment = kwargs["segment"]
    kwargs["segment"] = Fraction(segment["numerator"], segment["denominator"])
    model = HTDemucs(**kwargs)
    model.load_state_dict(state)
    model.eval()
    torch.manual_seed(0)
    wav = signal(30_000)
    random.randint = lambda low, high: 11025
    whole = {
        "shifts0": dict(shifts=0, overlap=0.25),
        "shifts1": dict(shifts=1, overlap=0.25),
        "overlap10": dict(shifts=0, overlap=0.1, transition_power=2.0),
    }
    out = {"input": wav[:, :64].clone()}
    for name, options in whole.items():
        out[name] = separate(model, wav, **options)[..., ::4].contiguous()
    for samples in (1777, 5000):
        out[f"len{samples}"] = separate(model, wav[:, :samples], shifts=0).contiguous()
    save_file(out, "apply.safetensors")
    from omegaconf import OmegaConf

    states.save_with_checksum(states.serialize_model(model, OmegaConf.create({})), Path("tinyA.th"))
    next(Path(".").glob("tinyA-*.th")).rename("tinyA.th")
    print({k: (tuple(v.shape), float(v.abs().max())) for k, v in out.items()})


main()
