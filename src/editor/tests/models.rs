// [main] The models' panel: every button by its name, and what then is ordered.

use std::path::PathBuf;

use egui::{Event, accesskit::Role, vec2};

use super::stage::Stage;
use crate::{
    editor::{model::Command, state::Tab},
    worker::{
        shelf::{ModelRow, ModelState, Order, Secret, ShelfView, Told, Work},
        view::View,
    },
};

/// Three models: one installed, one fetched half-way, one whose terms nobody accepted.
pub fn shelf() -> ShelfView {
    let row = |name: &str, state: ModelState, accepted: bool| ModelRow {
        name: name.to_owned(),
        purpose: "separation",
        what: "Splits a mix into drums, bass, other and vocals".to_owned(),
        licence: "The authors say that the weights are for scientific purposes only".to_owned(),
        page: "https://example.org/model".to_owned(),
        bytes: Some(84_141_911),
        accepted,
        gated: !accepted,
        needs: Vec::new(),
        state,
        place: (state != ModelState::Absent).then(|| PathBuf::from("models").join(name)),
    };
    ShelfView {
        folder: PathBuf::from("models"),
        rows: vec![
            row("ears", ModelState::Installed, true),
            row("half", ModelState::Incomplete, true),
            row("gated", ModelState::Absent, false),
        ],
        ..ShelfView::default()
    }
}

fn stage() -> Stage {
    let mut stage = Stage::sized(View::default(), vec2(1120.0, 1200.0), 1.0);
    stage.desk().state.tab = Tab::Models;
    stage.desk().shelf = Some(shelf());
    stage.harness.run_steps(3);
    stage
}

fn order(order: Order) -> Vec<Command> {
    vec![Command::Models(order)]
}

#[test]
fn models_are_accepted_fetched_checked_and_removed() {
    let mut stage = stage();
    for text in [
        "ears",
        "84 MB",
        "installed",
        "scientific purposes only",
        "https://example.org/model",
        "Kept in models",
        "Uncook: MIT or Apache-2.0",
    ] {
        assert!(stage.shows(text), "{text}");
    }
    let name = |name: &str| name.to_owned();
    assert_eq!(
        stage.button("Verify ears"),
        order(Order::Verify(name("ears")))
    );
    let fetch = |name: &str, token: Option<&str>| {
        order(Order::Fetch {
            name: name.to_owned(),
            token: token.map(|t| Secret(t.to_owned())),
        })
    };
    assert_eq!(stage.button("Fetch half"), fetch("half", None));
    // Nothing comes before its terms were accepted.
    assert!(!stage.has(Role::Button, "Fetch gated"));
    let accept = stage.button("Accept terms gated");
    assert_eq!(accept, order(Order::Accept(name("gated"))));
    stage.desk().shelf.as_mut().unwrap().rows[2].accepted = true;
    stage.harness.run_steps(2);
    stage.click(Role::TextInput, "Model folder");
    stage.event(Event::Text("some/where".to_owned()));
    assert_eq!(
        stage.button("Add folder"),
        order(Order::Add(PathBuf::from("some/where")))
    );
    // A password field has a role of its own.
    stage.click(Role::PasswordInput, "Access token");
    stage.event(Event::Text("hub_secret".to_owned()));
    let asked = stage.button("Fetch gated");
    assert_eq!(asked, fetch("gated", Some("hub_secret")));
    assert!(
        !format!("{asked:?}").contains("hub_secret"),
        "a token is never printed"
    );
    assert!(!stage.shows("hub_secret"));

    // Removing asks once more.
    assert_eq!(stage.button("Remove ears"), []);
    assert_eq!(
        stage.button("Really remove ears"),
        order(Order::Remove(name("ears")))
    );
}

#[test]
fn work_is_shown_and_can_be_stopped() {
    let mut stage = stage();
    stage.desk().shelf.as_mut().unwrap().work = Some(Work {
        name: "half".to_owned(),
        verb: "Fetching",
        file: "half.th".to_owned(),
        done: 12_000_000,
        all: Some(84_141_911),
    });
    assert!(stage.shows("Fetching half: 12 MB of 84 MB"));
    assert_eq!(stage.button("Cancel models"), order(Order::Cancel));
    let shelf = stage.desk().shelf.as_mut().unwrap();
    shelf.work = None;
    shelf.told = Some(Told {
        text: "the disk is full; free some space".to_owned(),
        good: false,
    });
    assert!(stage.shows("the disk is full; free some space"));
    // A build without models says so, and what it comes under.
    stage.desk().shelf = None;
    assert!(stage.shows("This build has no models"));
    assert!(stage.shows("Uncook: MIT or Apache-2.0"));
}
