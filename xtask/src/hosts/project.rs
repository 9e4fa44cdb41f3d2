// [cli] A project with rebuilt audio, made in clack, for the other hosts to open.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use uncook::audio::AudioBuffer;

use super::BLOCK;
use crate::{
    host::{HostedPlugin, RenderMode},
    render::{Blocks, Pace, Pass, play, rest, wait_for_worker},
};

/// The worker may take this long for the test song.
const WORKER_LIMIT: Duration = Duration::from_secs(300);

/// What was captured, rebuilt and saved.
pub(super) struct Project {
    /// The state as JSON, without CLAP's length in front.
    pub state: Vec<u8>,
    /// Rebuilt takes in it.
    pub commits: usize,
    /// What it plays, latency taken off.
    pub playback: AudioBuffer,
    /// Whether a bounce after saving, closing and opening is the playback.
    pub reopened: Result<String, String>,
}

/// Plays `input` as in real time, waits for the analysis, plays it with what was rebuilt, saves, opens again.
///
/// # Errors
/// If the plugin fails or nothing is rebuilt.
pub(super) fn make(bundle: &Path, input: &AudioBuffer) -> Result<Project> {
    let blocks = Blocks::Fixed(BLOCK);
    let pass = |pace| Pass {
        blocks,
        pace,
        start: 0,
        changes: &[],
    };
    let end = input.frames() as i64;
    let mut plugin = HostedPlugin::load(bundle)?;
    plugin.select_channels(2)?;
    plugin.rebuild_everywhere()?;
    plugin.activate(input.sample_rate, BLOCK)?;
    let live = play(&mut plugin, input, &pass(Pace::Draining))?.audio;
    rest(&mut plugin, end, 0.2, blocks, Pace::Draining)?;
    let commits = wait_for_worker(&mut plugin, end, WORKER_LIMIT, RenderMode::Offline)?;
    ensure!(commits > 0, "nothing was rebuilt");
    let playback = play(&mut plugin, input, &pass(Pace::Free))?.audio;
    ensure!(
        crate::render::first_difference(&playback, &live).is_some(),
        "what was rebuilt is not heard"
    );
    plugin.deactivate();
    let state = plugin.state_save()?;
    drop(plugin);

    let mut reopened = HostedPlugin::load(bundle)?;
    reopened.select_channels(2)?;
    reopened.state_load(&state)?;
    reopened.set_render_mode(RenderMode::Offline)?;
    reopened.activate(input.sample_rate, BLOCK)?;
    let again = play(&mut reopened, input, &pass(Pace::Free))?.audio;
    reopened.deactivate();
    let same_state = reopened.state_save()? == state;
    let reopened = match crate::render::first_difference(&again, &playback) {
        Some((_, frame)) => Err(format!("another bounce from sample {frame} on")),
        None if !same_state => Err("saved again, the state has other bytes".into()),
        None => Ok(format!("{commits} reloaded, same bounce")),
    };
    Ok(Project {
        state: state.get(8..).context("the state is too short")?.to_vec(),
        commits,
        playback,
        reopened,
    })
}

impl Project {
    /// What a host that opened the project reports, and the render it wrote where its positions are the project's.
    pub(super) fn judge(
        &self,
        report: &Value,
        render: Option<Result<AudioBuffer, String>>,
    ) -> Result<String, String> {
        let kept = report["commits"].as_u64().unwrap_or(0) as usize;
        if kept != self.commits {
            return Err(format!("{kept} of {} were kept", self.commits));
        }
        match render {
            None => Ok(format!("{kept} reloaded; other positions, so none plays")),
            Some(render) => {
                let difference = super::alike(&render?, &self.playback)?;
                Ok(format!("{kept} reloaded, differs by {difference:.0e}"))
            }
        }
    }
}
