// [worker] What a checkpoint may ask for before it counts as hostile or broken.

/// Bounds that hold before anything is allocated. The defaults are several times what the largest model
/// that Uncook loads needs (MultiBand Diffusion: 4.6 GB, about 1,300 tensors, a pickle of 300 kB).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Length of the pickle inside a `.th`, `.pt` or `.bin` file, in bytes.
    pub pickle_bytes: usize,
    /// Length of the header of a `.safetensors` file, in bytes.
    pub header_bytes: usize,
    /// Notes (pairs of texts) in the header of a `.safetensors` file.
    pub notes: usize,
    /// Files inside the zip.
    pub entries: usize,
    /// Values in the pickle: nodes, items of containers and remembered places together.
    pub values: usize,
    /// Containers inside containers.
    pub depth: usize,
    /// Values that wait on the pickle machine's stack.
    pub stack: usize,
    /// Length of one text or byte string, in bytes.
    pub string_bytes: usize,
    /// Tensors.
    pub tensors: usize,
    /// Axes of one tensor.
    pub axes: usize,
    /// Elements of one tensor.
    pub elements: usize,
    /// Length of a tensor's whole dotted name, in bytes.
    pub name_bytes: usize,
    /// All tensors together may be at most this many times the file's length: strides of 0 and shared
    /// storages make a small file describe a large one.
    pub expansion: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pickle_bytes: 8 << 20,
            header_bytes: 2 << 20,
            notes: 1_000,
            entries: 20_000,
            values: 300_000,
            depth: 128,
            stack: 1 << 16,
            string_bytes: 4 << 20,
            tensors: 20_000,
            axes: 8,
            elements: 1 << 31,
            name_bytes: 1024,
            expansion: 8,
        }
    }
}
