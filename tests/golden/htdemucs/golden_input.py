"""What the goldens of this folder have in common: the input and how a whole signal is separated."""

import numpy as np
import torch
from demucs.apply import apply_model


def signal(samples):
    """Two channels of noise (a linear congruential generator) and triangles, exact in float32."""
    state, out = 12345, np.zeros((2, samples), np.int64)
    for n in range(samples):
        for c, period in enumerate((97, 211)):
            state = (state * 1664525 + 1013904223) % 2**32
            noise = (state >> 16) - 32768
            phase = n % period
            triangle = 2 * min(phase, period - phase) * 65536 // period - 32768
            out[c, n] = noise + 3 * triangle
    return torch.from_numpy((out / 2.0**19).astype(np.float32))


def separate(model, wav, **options):
    """As `demucs.api.Separator.separate_tensor` does."""
    ref = wav.mean(0)
    mean, std = ref.mean(), ref.std() + 1e-8
    out = apply_model(model, ((wav - mean) / std)[None], **options)[0]
    return out * std + mean
