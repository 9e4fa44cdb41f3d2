"""Runs the scenes in pedalboard: blocks pushed one by one, parameters set between them."""

from importlib.metadata import version

import numpy as np
import pedalboard

from common import BLOCK, Job, close, commits

job = Job()
job.report["version"] = version("pedalboard")


def plugin():
    return pedalboard.load_plugin(job.bundle)


def parameter(instance, name):
    return next(p for p in instance.parameters.values() if p.name == name)


def play(instance, changes):
    """Every block in turn; `changes` are (frame, name, value) at starts of blocks."""
    audio = job.padded(job.report["latency"])
    out = []
    for at in range(0, audio.shape[1], BLOCK):
        for frame, name, value in changes:
            if frame == at:
                parameter(instance, name).raw_value = value
        out.append(instance.process(audio[:, at : at + BLOCK], job.rate, BLOCK, reset=False))
    out = np.concatenate(out, axis=1)
    # What the host has taken off by itself, if it does so while streaming.
    owed = audio.shape[1] - out.shape[1]
    return out[:, job.report["latency"] - owed :][:, : job.input.shape[1]]


def measure_latency():
    """The offset at which an impulse comes out of the transparent plugin, host's share included."""
    instance = plugin()
    parameter(instance, "Repair").raw_value = 0.0
    parameter(instance, "Capture").raw_value = 0.0
    audio = np.zeros((2, 1 << 16), np.float32)
    audio[:, 0] = 0.5
    out = [
        instance.process(audio[:, at : at + BLOCK], job.rate, BLOCK, reset=False)
        for at in range(0, audio.shape[1], BLOCK)
    ]
    out = np.concatenate(out, axis=1)
    # Only now: before it plays, the host asks at a rate of its own.
    job.report["reported_latency"] = int(instance.reported_latency_samples)
    return int(np.argmax(np.abs(out[0]))) + audio.shape[1] - out.shape[1]


instance = plugin()
job.report["parameters"] = sorted(p.name for p in instance.parameters.values())
job.report["latency"] = measure_latency()

for scene in job.scenes:
    instance = plugin()
    for name, value in scene["set"]:
        parameter(instance, name).raw_value = value
    job.write(scene["name"], play(instance, scene["changes"]))

# The whole file in one call, as a user of pedalboard does it: the host takes the latency off.
instance = plugin()
for name, value in job.scenes[0]["set"]:
    parameter(instance, name).raw_value = value
whole = instance.process(job.input, job.rate, BLOCK, reset=True)
job.write("whole", whole)

# State: what is set comes back in another instance.
first, second = plugin(), plugin()
values = [("Repair", 0.37), ("Denoise", 0.62), ("Blend", 0.25), ("Capture", 0.0)]
for name, value in values:
    parameter(first, name).raw_value = value
first.process(job.input[:, :BLOCK], job.rate, BLOCK, reset=False)
second.raw_state = first.raw_state
job.report["state"] = all(close(parameter(second, n).raw_value, v) for n, v in values)

# A project with rebuilt takes: opened, played, and there when it is saved again.
if job.rebuilt:
    opened = plugin()
    opened.load_preset(job.preset())
    opened.process(job.input, job.rate, BLOCK, reset=False)
    job.report["commits"] = commits(opened.raw_state)
job.done()
