"""Runs the scenes in Ardour without its editor: sessions made by its Lua, exported by its own tool."""

import base64
import json
import os
import re
import shutil
import struct
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from time import sleep

import numpy as np

from common import Job, close

job = Job()
HOME = Path(job.folder, "home").resolve()
NAME = "song"
# Frames in a block of its dummy engine.
PERIOD = 1024
# Units of Ardour's session times in a second.
SUPERCLOCK = 282_240_000
LIBRARIES = "/usr/lib/ardour7"
# Not for automation, and so not shown by Ardour. Capturing changes nothing in one pass: the analysis comes after it.
HIDDEN = {"Capture"}
SCANNER = f"{LIBRARIES}/ardour-vst3-scanner"

environment = dict(os.environ, HOME=str(HOME), XDG_CONFIG_HOME=str(HOME / ".config"))
environment["XDG_CACHE_HOME"] = str(HOME / ".cache")
environment["LD_LIBRARY_PATH"] = LIBRARIES

PRELUDE = """
assert(AudioEngine:set_backend("None (Dummy)", "", ""))
local function say(...) print("SAY", ...) end
local function index(insert, name)
    local plugin = insert:to_insert():plugin(0)
    for i = 0, plugin:parameter_count() - 1 do
        if plugin:parameter_is_input(i) and plugin:parameter_label(i) == name then return i end
    end
    error("no parameter " .. name)
end
"""

MAKE = """
local s = assert(create_session("{folder}", "song", {rate}))
s:new_audio_track(2, 2, nil, 1, "song", ARDOUR.PresentationInfo.max_order, ARDOUR.TrackMode.Normal, true)
local uid
for p in ARDOUR.LuaAPI.list_plugins():iter() do
    if p.type == ARDOUR.PluginType.VST3 and p.name == "Uncook" then uid = p.unique_id end
end
assert(uid, "Uncook was not scanned")
local insert = ARDOUR.LuaAPI.new_plugin(s, uid, ARDOUR.PluginType.VST3, "")
assert(not insert:isnil(), "Uncook can't be made")
assert(s:route_by_name("song"):add_processor_by_index(insert, 0, nil, true) == 0)
"""

# What is set reaches the plugin with its next block.
SAVE = """
sleep(1)
s:save_state("")
close_session()
quit()
"""


def ardour(program, *arguments):
    """Runs one of Ardour's programs; returns what it said."""
    run = subprocess.run(
        [program, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=300,
        check=False,
    )
    if run.returncode != 0:
        # The last line is what is shown of a log.
        raise SystemExit(f"{run.stdout}\n{program} ended with status {run.returncode}")
    return run.stdout


def lua(text):
    """Runs a script in Ardour's interpreter; returns the lines that it said."""
    path = HOME / "script.lua"
    path.write_text(PRELUDE + text, encoding="utf-8")
    output = ardour("ardour7-lua", path)
    if "Error:" in output:
        raise SystemExit(output)
    return [line.split(" ", 2)[1:] for line in output.splitlines() if line.startswith("SAY ")]


def wav(path, samples):
    data = samples.astype("<f4").tobytes()
    head = struct.pack("<IHHIIHH", 16, 3, 1, job.rate, job.rate * 4, 4, 32)
    path.write_bytes(
        b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + head
        + b"data" + struct.pack("<I", len(data)) + data
    )


def time(frames):
    return f"a{frames * (SUPERCLOCK // job.rate)}"


def put_on_track(folder):
    """Writes the input into a session's file, since only the editor imports: a region, its sources, the range."""
    path = folder / f"{NAME}.ardour"
    tree = ET.parse(path)
    session = tree.getroot()
    files = folder / "interchange" / folder.name / "audiofiles"
    frames = job.input.shape[1]
    region = {
        "name": NAME, "id": "9010", "type": "audio", "channels": "2",
        "start": "a0", "length": f"{time(frames)}@a0", "position": "a0",
        "fade-in-active": "0", "fade-out-active": "0", "scale-amplitude": "1",
    }
    for channel, samples in enumerate(job.input):
        wav(files / f"{NAME}-{channel}.wav", samples)
        source = {"name": f"{NAME}-{channel}.wav", "id": str(9001 + channel), "type": "audio",
                  "flags": "", "channel": "0", "gain": "1"}
        ET.SubElement(session.find("Sources"), "Source", source)
        region[f"source-{channel}"] = region[f"master-source-{channel}"] = source["id"]
    ET.SubElement(session.find(f"Playlists/Playlist[@name='{NAME}']"), "Region", region)
    ET.SubElement(session.find("Locations"), "Location", {
        "id": "9020", "name": "session", "start": "a0", "end": time(frames), "flags": "IsSessionRange",
        "locked": "0",
    })
    route = session.find(f"Routes/Route[@name='{NAME}']")
    for number, port in enumerate(route.findall("IO[@direction='Output']/Port"), 1):
        ET.SubElement(port, "Connection", {"other": f"Master/audio_in {number}"})
    for panner in route.iter("PannerShell"):
        panner.set("bypassed", "1")
    session.set("id-counter", "10000")
    tree.write(path, encoding="UTF-8", xml_declaration=True)


def make(name, text):
    """A session with Uncook on a track with the input; returns its folder and what the script said."""
    folder = HOME / name
    said = lua(MAKE.format(folder=folder, rate=job.rate) + text + SAVE)
    put_on_track(folder)
    return folder, said


def export(folder, name):
    path = HOME / f"{name}.wav"
    ardour("ardour7-export", "-b", "float", "-o", path, folder, NAME)
    data = path.read_bytes()
    # Past the chunk that is named so.
    start = data.index(b"data") + 8
    samples = np.frombuffer(data[start:], "<f4", count=(len(data) - start) // 8 * 2)
    audio = samples.reshape(-1, 2).T[:, : job.input.shape[1]]
    job.write(name, audio)
    return audio


def set_values(values):
    return "".join(
        f'assert(ARDOUR.LuaAPI.set_processor_param(insert, index(insert, "{name}"), {value}))\n'
        for name, value in values
        if name not in HIDDEN
    )


def automate(name, first, changes):
    """Steps at the changes' frames."""
    points = [(0, first), *changes]
    lines = "".join(
        f"list:add(Temporal.timepos_t({frame}), {value}, false, false)\n" for frame, value in points
    )
    return f"""
do
    local at = index(insert, "{name}")
    local automation, list = ARDOUR.LuaAPI.plugin_automation(insert, at)
    list:set_interpolation(Evoral.InterpolationStyle.Discrete)
    {lines}
    local parameter = Evoral.Parameter(ARDOUR.AutomationType.PluginAutomation, 0, at)
    insert:to_automatable():automation_control(parameter, false):set_automation_state(ARDOUR.AutoState.Play)
end
"""


def saved_state(folder):
    """The plugin's state in a saved session, as JSON."""
    text = (folder / f"{NAME}.ardour").read_text(encoding="utf-8")
    chunk = re.search(r"<chunk[^>]*>([^<]*)</chunk>", text).group(1)
    data = base64.b64decode(chunk)
    start = data.index(b'{"')
    return json.JSONDecoder().raw_decode(data[start:].decode("utf-8", "replace"))[0]


def commits(folder):
    """The hashes of what was rebuilt, in a saved session."""
    session = json.loads(saved_state(folder)["fields"]["session"])
    return [commit["hash"] for commit in session["commits"]]


HOME.mkdir(parents=True)
(HOME / ".vst3").mkdir()
(HOME / ".vst3" / Path(job.bundle).name).symlink_to(Path(job.bundle).resolve())
ardour(SCANNER, "-f", HOME / ".vst3" / Path(job.bundle).name)
job.report["version"] = re.search(r"[0-9.]+", ardour("ardour7-lua", "--version")).group(0)

# What the plugin tells the host.
_, said = make("told", """
local plugin = insert:to_insert():plugin(0)
for i = 0, plugin:parameter_count() - 1 do
    if plugin:parameter_is_input(i) then say("parameter", plugin:parameter_label(i)) end
end
say("latency", insert:to_insert():signal_latency())
""")
job.report["parameters"] = sorted(line[1] for line in said if line[0] == "parameter")
job.report["reported_latency"] = next(int(line[1]) for line in said if line[0] == "latency")
# It rolls for whole periods before the start, until the latency has passed: so many more frames of silence come first.
job.report["lead"] = -job.report["reported_latency"] % PERIOD
# Ardour takes the latency off; that it takes off the right one is seen by the transparent scene.
job.report["latency"] = job.report["reported_latency"]
# The place that it gives the plugin, and applies automation of, is that of what comes out: what goes in is ahead of it.
job.report["late"] = job.report["reported_latency"]

for scene in job.scenes:
    text = set_values(scene["set"])
    for changed in {name for _, name, _ in scene["changes"]}:
        steps = [(frame, value) for frame, name, value in scene["changes"] if name == changed]
        text += automate(changed, dict(scene["set"])[changed], steps)
    folder, _ = make(scene["name"], text)
    export(folder, scene["name"])

# State: what is set comes back with the session.
values = [("Repair", 0.37), ("Denoise", 0.62), ("Blend", 0.25)]
folder, _ = make("state", set_values(values))
asked = "".join(
    f'say(ARDOUR.LuaAPI.get_processor_param(insert, index(insert, "{name}")), "{name}")\n'
    for name, _ in values
)
said = lua(f"""
local s = assert(load_session("{folder}", "song"))
local insert = s:route_by_name("song"):nth_plugin(0)
{asked}
close_session()
quit()
""")
back = {name: float(value) for value, name in said}
job.report["state"] = all(close(back[name], value) for name, value in values)

# A project with rebuilt takes, as a preset: opened, saved, exported from the saved session. Ardour reports the
# positions of what comes out, not of what goes in: what was rebuilt in another host lies elsewhere, and is not played.
presets = HOME / ".vst3" / "presets" / "Uncook" / "Uncook"
presets.mkdir(parents=True)
shutil.copy(job.preset(), presets / "project.vstpreset")
LOAD = """
local plugin = insert:to_insert():plugin(0)
local preset = plugin:preset_by_label("project")
assert(preset and preset.valid, "the preset is not found")
assert(plugin:load_preset(preset))
"""
folder, _ = make("patched", LOAD)
job.report["commits"] = len(commits(folder))
live = export(folder, "patched")

# Played in real time: captured, and rebuilt while the transport rests. Lua saves until what was rebuilt is seen.
folder, _ = make("played", LOAD)
before = commits(folder)
seconds = int(np.ceil(job.input.shape[1] / job.rate))
enough = HOME / "enough"
script = HOME / "played.lua"
script.write_text(PRELUDE + f"""
local s = assert(load_session("{folder}", "song"))
s:goto_start()
s:request_roll(ARDOUR.TransportRequestSource.TRS_UI)
sleep({seconds + 2})
s:request_stop(false, false, ARDOUR.TransportRequestSource.TRS_UI)
for _ = 1, 60 do
    sleep(2)
    s:save_state("")
    local file = io.open("{enough}")
    if file then
        file:close()
        break
    end
end
close_session()
quit()
""", encoding="utf-8")
with open(HOME / "played.txt", "wb") as log:
    playing = subprocess.Popen(["ardour7-lua", script], env=environment, stdout=log, stderr=log)
    while playing.poll() is None and commits(folder) == before:
        sleep(0.5)
    enough.touch()
    playing.wait(timeout=60)
job.report["captured"] = len(set(commits(folder)) - set(before))
# Exported twice, in processes of their own: the same, and what was rebuilt is heard.
first, second = export(folder, "played"), export(folder, "played_again")
job.report["bounce"] = bool(np.array_equal(first, second))
job.report["heard"] = float(np.max(np.abs(first - live)))
job.done()
