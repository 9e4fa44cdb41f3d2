// [worker] Named tensors, wherever they come from, and the way from a file to what is made of it.

use std::path::Path;

use super::{
    checkpoint::{Checkpoint, CheckpointError, Limits},
    convert::{ConvertError, Copy, Draft, Form},
};
use crate::dense::{aligned::Lent, gemm::Packed, level::Level};

/// Named tensors, wherever they come from.
pub trait Tensors: Send + Sync {
    /// Dimensions of a tensor, outermost first; `None` if there is none of that name.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;

    /// Its values as f32, row-major.
    ///
    /// # Errors
    /// A plain sentence, if it can't be read or has not the shape `expected`.
    fn tensor_f32(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, String>;

    /// A text that lies beside the tensors.
    fn text(&self, _key: &str) -> Option<String> {
        None
    }

    /// An array that [`Self::keep`] kept at an earlier opening.
    fn kept(&self, _name: &str) -> Option<Lent> {
        None
    }

    /// Keeps what was made of tensors for the next opening, where there is a place for it.
    fn keep(&self, _name: &str, _array: Lent) {}

    /// Where to read tensors that only become an array that is kept; `None` for here.
    fn raw(&self) -> Option<&dyn Tensors> {
        None
    }
}

/// A product's right side of this size that was kept under `name`.
pub fn kept(from: &dyn Tensors, name: &str, depth: usize, columns: usize) -> Option<Packed> {
    let part = |what| from.kept(&format!("packed.{name}.{what}"));
    Packed::lent(depth, columns, [part("w")?, part("b")?])
}

/// Keeps a product's right side under `name`, for [`kept`].
pub fn keep(to: &dyn Tensors, name: &str, packed: &Packed) {
    let [numbers, bias] = packed.lend();
    to.keep(&format!("packed.{name}.w"), numbers);
    to.keep(&format!("packed.{name}.b"), bias);
}

/// What `make` makes of the tensors under `prefix` in a file. `keeping`: the folder where it is kept, and the name of its
/// form (see [`Form::name`]); later openings find it there and don't read the file. Beside it, why it could not be kept.
///
/// # Errors
/// Those of the file and of `make`.
pub fn open<T, E: From<CheckpointError>>(
    path: &Path,
    prefix: &str,
    keeping: Option<(&Path, &'static str)>,
    mut make: impl FnMut(&dyn Tensors) -> Result<T, E>,
) -> Result<(T, Option<ConvertError>), E> {
    let keeping = keeping.map(|(folder, name)| {
        let lanes = Level::best().lanes();
        (folder, Form { name, lanes })
    });
    let found = keeping
        .as_ref()
        .and_then(|(folder, form)| Copy::find(path, folder, form));
    if let Some(copy) = found {
        match make(&copy) {
            Ok(made) => return Ok((made, None)),
            // What is wrong with it doesn't matter: the file itself decides, and a new copy is made.
            Err(_) => copy.discard(),
        }
    }
    let checkpoint = &Checkpoint::open(path, &Limits::default())?;
    let stored = Stored { checkpoint, prefix };
    let Some((folder, form)) = keeping else {
        return Ok((make(&stored)?, None));
    };
    let draft = Draft::new(checkpoint)?;
    let made = make(&Drafted {
        stored,
        draft: &draft,
    })?;
    Ok((made, draft.write(folder, &form).err()))
}

impl Tensors for Checkpoint {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Self::shape(self, name).map(<[usize]>::to_vec)
    }

    fn tensor_f32(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, String> {
        Self::tensor_f32(self, name, expected).map_err(|e| e.to_string())
    }

    fn text(&self, key: &str) -> Option<String> {
        self.value(key)?.as_str().map(str::to_owned)
    }
}

/// Tensors of a checkpoint under a prefix: `name` stands for `prefix + name`.
pub struct Stored<'a> {
    pub checkpoint: &'a Checkpoint,
    pub prefix: &'a str,
}

impl Stored<'_> {
    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

impl Tensors for Stored<'_> {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Tensors::shape(self.checkpoint, &self.full(name))
    }

    fn tensor_f32(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, String> {
        Tensors::tensor_f32(self.checkpoint, &self.full(name), expected)
    }

    fn text(&self, key: &str) -> Option<String> {
        Tensors::text(self.checkpoint, key)
    }
}

/// The same, everything that is asked for noted in a draft of a copy.
struct Drafted<'a> {
    stored: Stored<'a>,
    draft: &'a Draft<'a>,
}

impl Tensors for Drafted<'_> {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let shape = self.stored.shape(name)?;
        self.draft.shape(name, &shape);
        Some(shape)
    }

    fn tensor_f32(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, String> {
        let values = self.stored.tensor_f32(name, expected)?;
        self.draft.tensor(name, &self.stored.full(name));
        Ok(values)
    }

    fn text(&self, key: &str) -> Option<String> {
        let text = self.stored.text(key)?;
        self.draft.text(key, &text);
        Some(text)
    }

    fn keep(&self, name: &str, array: Lent) {
        self.draft.array(name, array);
    }

    fn raw(&self) -> Option<&dyn Tensors> {
        Some(&self.stored)
    }
}

/// A copy instead of the checkpoint that it was made of.
impl Tensors for Copy {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Self::shape(self, name).map(<[usize]>::to_vec)
    }

    fn tensor_f32(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, String> {
        Self::tensor_f32(self, name, expected).map_err(|e| e.to_string())
    }

    fn text(&self, key: &str) -> Option<String> {
        Self::text(self, key).map(str::to_owned)
    }

    fn kept(&self, name: &str) -> Option<Lent> {
        self.array(name)
    }
}
