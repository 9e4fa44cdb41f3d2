// [main] A plugin in which nothing happens but what the test does.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::{
    editor::Backend,
    exchange::meters::Meters,
    worker::{
        session::{Edits, Listening, Regenerate},
        shelf::{Order, ShelfView},
        view::View,
    },
};

#[derive(Default)]
pub struct Still {
    pub meters: Meters,
    pub view: Mutex<Arc<View>>,
    /// Where everything is kept.
    pub folder: Option<PathBuf>,
    /// What was wanted of the models.
    pub orders: Mutex<Vec<Order>>,
    /// Folders that repair files were copied to, and looked for in.
    pub collected: Mutex<Vec<PathBuf>>,
    pub relinked: Mutex<Vec<PathBuf>>,
    /// How often everything was to be forgotten.
    pub cleared: Mutex<usize>,
}

impl Backend for Still {
    fn view(&self) -> Option<Arc<View>> {
        Some(self.view.lock().clone())
    }
    fn meters(&self) -> &Meters {
        &self.meters
    }
    fn sample_rate(&self) -> Option<f64> {
        None
    }
    fn options_changed(&self) {}
    fn analyse(&self) {}
    fn cancel(&self) {}
    fn clear(&self) {
        *self.cleared.lock() += 1;
    }
    fn set_edits(&self, _: &Edits) {}
    fn regenerate(&self, _: Regenerate) {}
    fn listen(&self, _: Listening) {}
    fn accept_terms(&self) {}
    fn presets_folder(&self) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join("presets"))
    }
    fn midi_folder(&self) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join("midi"))
    }
    fn shelf(&self) -> Option<Arc<ShelfView>> {
        None
    }
    fn order(&self, order: Order) {
        self.orders.lock().push(order);
    }
    fn collect(&self, folder: &Path) -> Result<usize, String> {
        self.collected.lock().push(folder.to_owned());
        Ok(2)
    }
    fn relink(&self, folder: &Path) -> Result<usize, String> {
        self.relinked.lock().push(folder.to_owned());
        Err("none of them".to_owned())
    }
}
