"""What the Python hosts share: audio as raw floats, the scenes, the report."""

import json
import re
import struct
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
        self.class_id = job["class"]
        # Whether there is a project with rebuilt takes to be opened.
        self.rebuilt = job["rebuilt"]
        self.input = np.fromfile(f"{self.folder}/input.f32", np.float32).reshape(2, -1)
        self.report = {}

    def padded(self, latency):
        """The input and, behind it, whole blocks of silence that let the latency out."""
        frames = self.input.shape[1] + latency
        frames += -frames % BLOCK
        padded = np.zeros((2, frames), np.float32)
        padded[:, : self.input.shape[1]] = self.input
        return padded

    def preset(self):
        """The project as a preset file, which every VST3 host reads; returns its path."""
        with open(f"{self.folder}/project.json", "rb") as file:
            state = file.read()
        head = b"VST3" + struct.pack("<i", 1) + self.class_id.encode()
        start = len(head) + 8
        head += struct.pack("<q", start + len(state))
        listing = b"List" + struct.pack("<i", 1) + b"Comp" + struct.pack("<qq", start, len(state))
        path = f"{self.folder}/project.vstpreset"
        with open(path, "wb") as file:
            file.write(head + state + listing)
        return path

    def write(self, name, audio):
        np.ascontiguousarray(audio, np.float32).tofile(f"{self.folder}/{name}.f32")

    def done(self):
        print("\nREPORT " + json.dumps(self.report))


def close(a, b):
    return abs(a - b) < 1e-4


# JUCE's own base 64.
ALPHABET = ".ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+"


def commits(host_state):
    """How many rebuilt takes are in a plugin's state, inside the XML that JUCE's hosts save."""
    text = bytes(host_state)[8:].split(b"\0")[0].decode()
    size, code = re.search(r"<IComponent>([0-9]+)\.([^<]*)</IComponent>", text).groups()
    value = 0
    # Least significant bits first.
    for place, letter in enumerate(code.strip()):
        value |= ALPHABET.index(letter) << (6 * place)
    state = json.loads(value.to_bytes(len(code) * 6 // 8 + 1, "little")[: int(size)])
    return len(json.loads(state["fields"]["session"])["commits"])
