// [worker] The calls of a pickle that only build data, and the names that no checkpoint needs.

use std::sync::Arc;

use super::pickle::{Id, Instance, Machine, Node, PickleError, RawTensor, StorageRef, limit};

/// Modules whose functions reach outside the program that opens a pickle. Nothing is ever called here, so
/// this list protects nobody from this reader: it names a file that was made to attack other readers.
const REACHING_MODULES: [&str; 42] = [
    "_pickle",
    "_posixsubprocess",
    "asyncio",
    "bdb",
    "cProfile",
    "code",
    "codeop",
    "commands",
    "ctypes",
    "doctest",
    "ensurepip",
    "ftplib",
    "http",
    "imp",
    "importlib",
    "marshal",
    "multiprocessing",
    "nt",
    "os",
    "pdb",
    "pickle",
    "pip",
    "pkgutil",
    "popen2",
    "posix",
    "posixpath",
    "profile",
    "pty",
    "runpy",
    "shelve",
    "shutil",
    "smtplib",
    "socket",
    "ssl",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "timeit",
    "trace",
    "urllib",
    "webbrowser",
];

/// Longest module and name together, in bytes.
const MAX_NAME: usize = 512;

/// The built-in names that data uses.
const BUILTINS: [&str; 19] = [
    "bool",
    "bytearray",
    "bytes",
    "complex",
    "dict",
    "Ellipsis",
    "float",
    "frozenset",
    "int",
    "list",
    "long",
    "NoneType",
    "object",
    "range",
    "set",
    "slice",
    "str",
    "tuple",
    "unicode",
];

/// `module.name`, Python 2's `__builtin__` being today's `builtins`.
///
/// # Errors
/// If it names what runs code.
pub(super) fn class_name(module: &str, name: &str) -> Result<Arc<str>, PickleError> {
    limit(
        "bytes in a class's name",
        module.len() + name.len(),
        MAX_NAME,
    )?;
    let module = if module == "__builtin__" {
        "builtins"
    } else {
        module
    };
    let class = format!("{module}.{name}");
    let package = module.split('.').next().unwrap_or(module);
    let runs = match package {
        "builtins" => !BUILTINS.contains(&name),
        // `typing.Union[...]` is stored as a call of `getitem`.
        "operator" | "_operator" => name != "getitem",
        "torch" => module == "torch.hub" || name == "_load_from_bytes",
        _ => REACHING_MODULES.contains(&package),
    };
    if runs {
        return Err(PickleError::Code { class });
    }
    Ok(class.into())
}

/// What a call of `class` with `args` gives: data where that is all it can give, else an object that only
/// records the call.
pub(super) fn reduce(
    machine: &mut Machine<'_>,
    class: Arc<str>,
    args: Vec<Id>,
) -> Result<Node, PickleError> {
    let node = match (&*class, args.as_slice()) {
        ("torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor", args) => {
            tensor(machine, args, None)?
        }
        ("torch._utils._rebuild_tensor_v3", args) => {
            let dtype = args.get(6).and_then(|&id| match node(machine, id) {
                Some(Node::Class(name)) => Some(name.clone()),
                _ => None,
            });
            tensor(machine, args, dtype)?
        }
        (
            "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state",
            [data, ..],
        ) => match node(machine, *data) {
            Some(Node::Tensor(index)) => Node::Tensor(*index),
            _ => return Err(machine.malformed("a parameter without a tensor")),
        },
        // A subclass of Tensor: the function that rebuilds it, its type, that function's arguments, a state.
        ("torch._tensor._rebuild_from_type_v2", [function, _, inner, _]) => {
            match (node(machine, *function), node(machine, *inner)) {
                (Some(Node::Class(function)), Some(Node::Tuple(inner)))
                    if function.starts_with("torch._utils._rebuild") =>
                {
                    let (function, inner) = (function.clone(), inner.clone());
                    machine.spend(inner.len())?;
                    return reduce(machine, function, inner);
                }
                _ => return Err(machine.malformed("a tensor of an unknown type")),
            }
        }
        ("collections.OrderedDict" | "builtins.dict", []) | ("collections.defaultdict", _) => {
            Node::Dict(Vec::new())
        }
        ("collections.OrderedDict" | "builtins.dict", [pairs]) => {
            Node::Dict(listed_pairs(machine, *pairs)?)
        }
        ("torch.Size", [sizes]) => match node(machine, *sizes) {
            Some(Node::Tuple(items) | Node::List(items)) => Node::Tuple(items.clone()),
            _ => return Err(machine.malformed("a size that is no tuple")),
        },
        // How protocol 2 writes Python 3's bytes: text of the first 256 characters.
        ("_codecs.encode", [text, ..]) => match node(machine, *text) {
            Some(Node::Str(text)) => {
                // Charged, because one text can be encoded again and again.
                let text = text.clone();
                machine.spend(text.len() / 8)?;
                let bytes: Option<Vec<u8>> = text
                    .chars()
                    .map(|c| u8::try_from(u32::from(c)).ok())
                    .collect();
                match bytes {
                    Some(bytes) => Node::Bytes(bytes.into()),
                    None => return Err(machine.malformed("bytes that are not bytes")),
                }
            }
            _ => return Err(machine.malformed("bytes that are not text")),
        },
        _ => Node::Object(Instance {
            class,
            args,
            state: None,
            items: Vec::new(),
            elements: Vec::new(),
        }),
    };
    match &node {
        Node::Tuple(items) => machine.spend(items.len())?,
        Node::Dict(pairs) => machine.spend(pairs.len())?,
        _ => {}
    }
    Ok(node)
}

fn node<'m>(machine: &'m Machine<'_>, id: Id) -> Option<&'m Node> {
    machine.nodes.get(id as usize)
}

/// The pairs of a list of pairs.
fn listed_pairs(machine: &Machine<'_>, id: Id) -> Result<Vec<(Id, Id)>, PickleError> {
    let wrong = || machine.malformed("a dictionary of what are no pairs");
    match node(machine, id) {
        Some(Node::Dict(pairs)) => Ok(pairs.clone()),
        Some(Node::List(items) | Node::Tuple(items)) => items
            .iter()
            .map(|&item| match node(machine, item) {
                Some(Node::Tuple(pair) | Node::List(pair)) => match pair.as_slice() {
                    [key, value] => Ok((*key, *value)),
                    _ => Err(wrong()),
                },
                _ => Err(wrong()),
            })
            .collect(),
        _ => Err(wrong()),
    }
}

/// A persistent id of torch: `("storage", class, key, device, elements)`.
pub(super) fn storage(machine: &Machine<'_>, id: Id) -> Result<Node, PickleError> {
    let wrong = || machine.malformed("a storage that is not described");
    let Some(Node::Tuple(parts)) = node(machine, id) else {
        return Err(wrong());
    };
    let &[kind, class, key, _, elements] = parts.as_slice() else {
        return Err(wrong());
    };
    let (Some(kind), Some(key)) = (machine.name(kind), machine.name(key)) else {
        return Err(wrong());
    };
    let (Some(Node::Class(class)), Some(&Node::Int(elements))) =
        (node(machine, class), node(machine, elements))
    else {
        return Err(wrong());
    };
    if &*kind != "storage" {
        return Err(wrong());
    }
    Ok(Node::Storage(Arc::new(StorageRef {
        class: class.clone(),
        key,
        elements: size(machine, elements)?,
    })))
}

fn size(machine: &Machine<'_>, value: i64) -> Result<usize, PickleError> {
    usize::try_from(value).map_err(|_| machine.malformed("a negative size, offset or stride"))
}

fn sizes(machine: &Machine<'_>, id: Id) -> Result<Vec<usize>, PickleError> {
    let Some(Node::Tuple(items) | Node::List(items)) = node(machine, id) else {
        return Err(machine.malformed("a shape that is no tuple"));
    };
    limit("axes of a tensor", items.len(), machine.limits.axes)?;
    items
        .iter()
        .map(|&item| match node(machine, item) {
            Some(&Node::Int(value)) => size(machine, value),
            _ => Err(machine.malformed("a shape that is no integers")),
        })
        .collect()
}

/// `(storage, offset, shape, strides, …)` as a tensor. Whether it lies inside its storage is checked
/// where the storage's file is known.
fn tensor(
    machine: &mut Machine<'_>,
    args: &[Id],
    dtype: Option<Arc<str>>,
) -> Result<Node, PickleError> {
    let &[storage, offset, shape, strides, ..] = args else {
        return Err(machine.malformed("a tensor that is not described"));
    };
    let (Some(Node::Storage(storage)), Some(&Node::Int(offset))) =
        (node(machine, storage), node(machine, offset))
    else {
        return Err(machine.malformed("a tensor without a storage"));
    };
    let tensor = RawTensor {
        storage: storage.clone(),
        dtype,
        offset: size(machine, offset)?,
        shape: sizes(machine, shape)?,
        strides: sizes(machine, strides)?,
    };
    if tensor.shape.len() != tensor.strides.len() {
        return Err(machine.malformed("as many strides as axes expected"));
    }
    limit("tensors", machine.tensors.len() + 1, machine.limits.tensors)?;
    machine.tensors.push(tensor);
    Ok(Node::Tensor(machine.tensors.len() - 1))
}
