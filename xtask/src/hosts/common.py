"""What the Python hosts share: audio as raw floats, the scenes, the report."""

import json
import sys

import numpy as np

BLOCK = 512


class Job:
    """The folder that the task prepared: job.json, input.f32, and room for what comes out."""

    def __init__(self):
        self.bundle, self.folder = sys.argv[1], sys.argv[2]
        with open(f"{self.folder}/job.json", encoding="utf-8") as file:
            job = json.load(file)
        self.rate = job["rate"]
        self.scenes = job["scenes"]
        self.input = np.fromfile(f"{self.folder}/input.f32", np.float32).reshape(2, -1)
        self.report = {}

    def padded(self, latency):
        """The input and, behind it, whole blocks of silence that let the latency out."""
        frames = self.input.shape[1] + latency
        frames += -frames % BLOCK
        padded = np.zeros((2, frames), np.float32)
        padded[:, : self.input.shape[1]] = self.input
        return padded

    def write(self, name, audio):
        np.ascontiguousarray(audio, np.float32).tofile(f"{self.folder}/{name}.f32")

    def done(self):
        print("\nREPORT " + json.dumps(self.report))


def close(a, b):
    return abs(a - b) < 1e-4
