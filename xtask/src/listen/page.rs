// [any] The page: plain HTML beside its sounds and pictures, nothing fetched from anywhere.

use std::fmt::Write;

use super::Item;

const STYLE: &str = "
:root { color-scheme: dark; }
body { background: #121218; color: #cdd0d8; font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem; }
h2 { margin-top: 3rem; }
.buttons { display: flex; flex-wrap: wrap; gap: .5rem; margin: .5rem 0; }
button { background: #2a2c38; color: inherit; border: 1px solid #464854; border-radius: .4rem; padding: .5rem .9rem; font: inherit; cursor: pointer; }
button[aria-pressed=true] { background: #4ac9b0; color: #08110f; border-color: #4ac9b0; }
button:focus-visible { outline: 2px solid #fadd5a; outline-offset: 2px; }
img { width: 100%; display: block; cursor: pointer; }
.stage { position: relative; }
.playhead { position: absolute; top: 0; bottom: 0; width: 1px; background: #fff; pointer-events: none; }
table { border-collapse: collapse; margin: .5rem 0; }
td, th { padding: .15rem .9rem .15rem 0; text-align: right; font-variant-numeric: tabular-nums; }
td:first-child, th:first-child { text-align: left; }
";

/// Keeps all versions of a song in step, so that switching is heard as a cut within the music.
const SCRIPT: &str = r#"
const left = +document.body.dataset.left, width = +document.body.dataset.width, whole = +document.body.dataset.whole;
const songs = [...document.querySelectorAll("section")].map(section => {
  const sounds = [...section.querySelectorAll("audio")];
  const buttons = [...section.querySelectorAll("button.version")];
  const pictures = [...section.querySelectorAll("img")];
  const playhead = section.querySelector(".playhead");
  const song = { section, sounds, now: 0, playing: false };
  sounds.forEach(sound => { sound.volume = Math.pow(10, +sound.dataset.gain / 20); });
  song.show = () => {
    buttons.forEach((b, i) => b.setAttribute("aria-pressed", i === song.now));
    pictures.forEach((p, i) => p.hidden = i !== song.now);
  };
  song.pick = i => {
    if (i >= sounds.length) return;
    const old = sounds[song.now];
    const at = old.currentTime;
    old.pause();
    song.now = i;
    sounds[i].currentTime = at;
    if (song.playing) sounds[i].play();
    song.show();
  };
  song.play = on => {
    songs.forEach(other => { if (on && other !== song) other.play(false); });
    song.playing = on;
    const sound = sounds[song.now];
    if (on) sound.play(); else sound.pause();
    section.querySelector("button.play").textContent = on ? "Pause" : "Play";
  };
  buttons.forEach((b, i) => b.addEventListener("click", () => { current = song; song.pick(i); }));
  section.querySelector("button.play").addEventListener("click", () => { current = song; song.play(!song.playing); });
  pictures.forEach(p => p.addEventListener("click", e => {
    const x = e.offsetX / p.clientWidth * whole;
    const sound = sounds[song.now];
    sound.currentTime = Math.max(0, (x - left) / width) * sound.duration;
  }));
  sounds.forEach((sound, i) => sound.addEventListener("ended", () => { if (i === song.now) song.play(false); }));
  const draw = () => {
    const sound = sounds[song.now];
    const share = sound.duration ? sound.currentTime / sound.duration : 0;
    playhead.style.left = 100 * (left + share * width) / whole + "%";
    requestAnimationFrame(draw);
  };
  song.show();
  draw();
  return song;
});
let current = songs[0];
document.addEventListener("keydown", e => {
  if (e.key >= "1" && e.key <= "9") current.pick(e.key - 1);
  else if (e.key === " " && e.target.tagName !== "BUTTON") { e.preventDefault(); current.play(!current.playing); }
});
"#;

/// The whole page.
pub fn html(items: &[Item]) -> String {
    let (left, width, whole) = crate::picture::PANEL_PLACE;
    let mut out = String::new();
    // Writing to a string can't fail.
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Uncook: listen</title>\n<style>{STYLE}</style>\n\
         <body data-left=\"{left}\" data-width=\"{width}\" data-whole=\"{whole}\">\n<h1>Listen</h1>\n\
         <p>All versions of a recording play at the same loudness. Keys 1 to 5 switch within the music, space plays and \
         pauses, a click on the picture jumps.</p>\n"
    );
    for item in items {
        section(&mut out, item);
    }
    let _ = write!(out, "<script>{SCRIPT}</script>\n</body>\n</html>\n");
    out
}

fn section(out: &mut String, item: &Item) {
    let _ = write!(
        out,
        "<section>\n<h2>{}</h2>\n<div class=\"buttons\">\n<button class=\"play\">Play</button>\n",
        escape(&item.title)
    );
    for (i, version) in item.versions.iter().enumerate() {
        let _ = writeln!(
            out,
            "<button class=\"version\" aria-pressed=\"{}\">{} {}</button>",
            i == 0,
            i + 1,
            escape(version.name)
        );
    }
    out.push_str("</div>\n<div class=\"stage\">\n");
    for version in &item.versions {
        let _ = writeln!(
            out,
            "<img src=\"{}\" alt=\"Waveform and spectrogram: {}\"><audio preload=\"auto\" data-gain=\"{:.3}\" src=\"{}\"></audio>",
            escape(&version.picture),
            escape(version.name),
            version.gain_db,
            escape(&version.audio),
        );
    }
    out.push_str("<div class=\"playhead\"></div>\n</div>\n");
    if item.versions.iter().any(|v| v.distances.is_some()) {
        out.push_str(
            "<table>\n<tr><th>distance to the clean original, less is nearer</th><th>spectrum</th><th>timbre, dB</th><th>movement, dB</th></tr>\n",
        );
        for version in &item.versions {
            if let Some(d) = version.distances {
                let movement = d.movement_db.map_or("–".to_owned(), |m| format!("{m:.2}"));
                let _ = writeln!(
                    out,
                    "<tr><td>{}</td><td>{:.3}</td><td>{:.2}</td><td>{movement}</td></tr>",
                    escape(version.name),
                    d.spectrum,
                    d.timbre_db
                );
            }
        }
        out.push_str("</table>\n");
    }
    out.push_str("</section>\n");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Distances, Version},
        *,
    };

    #[test]
    fn names_can_t_break_the_page() {
        let item = Item {
            title: "<script>\"Rock & Roll\"".to_owned(),
            versions: vec![Version {
                name: "damaged",
                audio: "a.wav".to_owned(),
                picture: "a.png".to_owned(),
                gain_db: -3.0,
                distances: Some(Distances {
                    spectrum: 1.5,
                    timbre_db: 2.0,
                    movement_db: None,
                }),
            }],
        };
        let html = html(&[item]);
        assert!(html.contains("&lt;script&gt;&quot;Rock &amp; Roll&quot;"));
        assert_eq!(html.matches("<script>").count(), 1);
        assert!(html.contains("data-gain=\"-3.000\""));
        assert!(!html.contains("http"), "nothing is fetched");
    }
}
