"""Runs the scenes in DawDreamer: a graph of a player and the plugin, automation as arrays."""

import time
from importlib.metadata import version

import dawdreamer
import numpy as np

from common import BLOCK, Job, close, commits

job = Job()
job.report["version"] = version("dawdreamer")


def make():
    engine = dawdreamer.RenderEngine(job.rate, BLOCK)
    return engine, engine.make_plugin_processor("uncook", job.bundle)


def index(instance, name):
    return next(p["index"] for p in instance.get_parameters_description() if p["name"] == name)


def render(engine, instance, audio):
    player = engine.make_playback_processor("player", audio)
    engine.load_graph([(player, []), (instance, ["player"])])
    engine.render(audio.shape[1] / job.rate)
    return np.asarray(engine.get_audio(), np.float32)


def measure_latency():
    engine, instance = make()
    instance.set_parameter(index(instance, "Repair"), 0.0)
    instance.set_parameter(index(instance, "Capture"), 0.0)
    audio = np.zeros((2, 1 << 16), np.float32)
    audio[:, 0] = 0.5
    return int(np.argmax(np.abs(render(engine, instance, audio)[0])))


engine, instance = make()
job.report["parameters"] = sorted(p["name"] for p in instance.get_parameters_description())
job.report["latency"] = measure_latency()
job.report["reported_latency"] = int(instance.get_latency_samples())

for scene in job.scenes:
    engine, instance = make()
    for name, value in scene["set"]:
        instance.set_parameter(index(instance, name), value)
    audio = job.padded(job.report["latency"])
    for name in {name for _, name, _ in scene["changes"]}:
        curve = np.full(audio.shape[1], dict(scene["set"])[name], np.float32)
        for frame, changed, value in scene["changes"]:
            if changed == name:
                curve[frame:] = value
        instance.set_automation(index(instance, name), curve)
    out = render(engine, instance, audio)
    job.write(scene["name"], out[:, job.report["latency"] :][:, : job.input.shape[1]])

first, second = make(), make()
values = [("Repair", 0.37), ("Denoise", 0.62), ("Blend", 0.25), ("Capture", 0.0)]
for name, value in values:
    first[1].set_parameter(index(first[1], name), value)
render(*first, job.input[:, :BLOCK])
first[1].save_state(f"{job.folder}/dawdreamer.state")
second[1].load_state(f"{job.folder}/dawdreamer.state")
job.report["state"] = all(close(second[1].get_parameter(index(second[1], n)), v) for n, v in values)


def saved_commits(instance):
    path = f"{job.folder}/dawdreamer.project"
    instance.save_state(path)
    with open(path, "rb") as file:
        return commits(file.read())


if job.rebuilt:
    # A project with rebuilt takes: opened, played, and there when it is saved again.
    engine, opened = make()
    opened.load_vst3_preset(job.preset())
    out = render(engine, opened, job.padded(job.report["latency"]))
    job.write("patched", out[:, job.report["latency"] :][:, : job.input.shape[1]])
    job.report["commits"] = saved_commits(opened)

    # Played once, captured, and rebuilt in the background.
    engine, player = make()
    render(engine, player, job.padded(0))
    deadline = time.monotonic() + 300
    while saved_commits(player) == 0 and time.monotonic() < deadline:
        time.sleep(0.2)
    job.report["captured"] = saved_commits(player)
job.done()
