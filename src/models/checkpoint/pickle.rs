// [worker] A walk through a pickle (protocols 2 to 5) that builds data and never calls or imports anything.
//!
//! Python's pickles are programs for a stack machine; the opcodes and their meaning are those of PEP 307,
//! PEP 3154 and PEP 574. Here a call becomes an [`Object`](super::Object) that says what would have been
//! called, except for the few that only build data: tensors, parameters, ordered dictionaries, bytes.

use std::{collections::HashMap, sync::Arc};

use super::{calls, limits::Limits, tree, value::Value};

/// Why a pickle is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    #[error("it ends early: {needed} more bytes expected at byte {at} of the pickle")]
    Truncated { at: usize, needed: usize },
    #[error("byte {at} of the pickle is {code:#04x}, which means nothing there")]
    Opcode { at: usize, code: u8 },
    #[error("byte {at} of the pickle makes no sense: {what}")]
    Malformed { at: usize, what: &'static str },
    #[error("it asks for {actual} {what}, at most {limit} are accepted")]
    Limit {
        what: &'static str,
        actual: u64,
        limit: u64,
    },
    #[error("it contains itself")]
    Cyclic,
    #[error("it wants to run {class} when Python opens it; nothing was run")]
    Code { class: String },
    #[error("it holds {what}, which is not supported")]
    Unsupported { what: String },
}

/// Index into [`Machine::nodes`].
pub(super) type Id = u32;

/// What the machine builds: containers refer to others by index, so that sharing and cycles are harmless.
#[derive(Debug)]
pub(super) enum Node {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Arc<str>),
    Bytes(Arc<[u8]>),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Class(Arc<str>),
    Object(Instance),
    Storage(Arc<StorageRef>),
    /// Index into [`Machine::tensors`].
    Tensor(usize),
}

/// An object whose class is only a name.
#[derive(Debug)]
pub(super) struct Instance {
    pub class: Arc<str>,
    pub args: Vec<Id>,
    pub state: Option<Id>,
    pub items: Vec<(Id, Id)>,
    pub elements: Vec<Id>,
}

/// A storage outside the pickle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageRef {
    /// `torch.FloatStorage`, `torch.storage.UntypedStorage` and so on.
    pub class: Arc<str>,
    /// Name of its file below `data/`.
    pub key: Arc<str>,
    /// Elements (bytes if untyped).
    pub elements: usize,
}

/// A view into a storage, in elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawTensor {
    pub storage: Arc<StorageRef>,
    /// `torch.float32` and so on, where the pickle names it apart from the storage's class.
    pub dtype: Option<Arc<str>>,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// What a pickle holds.
#[derive(Debug)]
pub struct Pickle {
    pub root: Value,
    pub tensors: Vec<RawTensor>,
}

/// Walks `bytes`, a whole pickle.
///
/// # Errors
/// If it is truncated, not a pickle, over a limit, cyclic in a way that data never is, or names what no
/// checkpoint needs.
pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Pickle, PickleError> {
    limit("bytes of pickle", bytes.len(), limits.pickle_bytes)?;
    let mut machine = Machine {
        bytes,
        at: 0,
        limits,
        spent: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        nodes: Vec::new(),
        tensors: Vec::new(),
    };
    let root = machine.run()?;
    let root = tree::build(&machine.nodes, root, limits)?;
    Ok(Pickle {
        root,
        tensors: machine.tensors,
    })
}

pub(super) fn limit(what: &'static str, actual: usize, limit: usize) -> Result<(), PickleError> {
    if actual > limit {
        return Err(PickleError::Limit {
            what,
            actual: actual as u64,
            limit: limit as u64,
        });
    }
    Ok(())
}

/// The stack machine.
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    pub limits: &'a Limits,
    /// Nodes, items and memo entries so far.
    spent: usize,
    stack: Vec<Id>,
    marks: Vec<usize>,
    /// Only looked up, never iterated: its order can't matter.
    memo: HashMap<u64, Id>,
    pub nodes: Vec<Node>,
    pub tensors: Vec<RawTensor>,
}

impl<'a> Machine<'a> {
    pub fn malformed(&self, what: &'static str) -> PickleError {
        PickleError::Malformed { at: self.at, what }
    }

    pub fn spend(&mut self, count: usize) -> Result<(), PickleError> {
        self.spent = self.spent.saturating_add(count);
        limit("values", self.spent, self.limits.values)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], PickleError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some(taken) = rest.get(..len) else {
            return Err(PickleError::Truncated {
                at: self.at,
                needed: len - rest.len(),
            });
        };
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u8(&mut self) -> Result<u8, PickleError> {
        self.array::<1>().map(|b| b[0])
    }

    fn u32(&mut self) -> Result<u32, PickleError> {
        self.array().map(u32::from_le_bytes)
    }

    /// A length field of `N` bytes, refused before anything of that length is touched.
    fn length<const N: usize>(&mut self) -> Result<usize, PickleError> {
        let mut wide = [0u8; 8];
        wide[..N].copy_from_slice(&self.array::<N>()?);
        let len = usize::try_from(u64::from_le_bytes(wide)).unwrap_or(usize::MAX);
        limit("bytes in one string", len, self.limits.string_bytes)?;
        Ok(len)
    }

    /// A line of ASCII, without its end.
    fn line(&mut self) -> Result<&'a str, PickleError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let window = &rest[..rest.len().min(512)];
        let Some(len) = window.iter().position(|&b| b == b'\n') else {
            return Err(self.malformed("a name without end"));
        };
        let text = std::str::from_utf8(&rest[..len])
            .map_err(|_| self.malformed("a name that is not text"))?;
        self.at += len + 1;
        Ok(text)
    }

    pub fn node(&mut self, node: Node) -> Result<Id, PickleError> {
        self.spend(1)?;
        let id = Id::try_from(self.nodes.len()).map_err(|_| self.malformed("too many values"))?;
        self.nodes.push(node);
        Ok(id)
    }

    fn push_id(&mut self, id: Id) -> Result<(), PickleError> {
        limit(
            "values on the stack",
            self.stack.len() + 1,
            self.limits.stack,
        )?;
        self.stack.push(id);
        Ok(())
    }

    fn push(&mut self, node: Node) -> Result<(), PickleError> {
        let id = self.node(node)?;
        self.push_id(id)
    }

    /// The uppermost value above the last mark.
    fn pop(&mut self) -> Result<Id, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.pop() {
            Some(id) if self.stack.len() >= floor => Ok(id),
            _ => Err(self.malformed("nothing on the stack")),
        }
    }

    fn top(&self) -> Result<Id, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(&id) if self.stack.len() > floor => Ok(id),
            _ => Err(self.malformed("nothing on the stack")),
        }
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        let mark = self
            .marks
            .pop()
            .filter(|&mark| mark <= self.stack.len())
            .ok_or_else(|| self.malformed("no mark"))?;
        Ok(self.stack.split_off(mark))
    }

    fn pop_tuple(&mut self) -> Result<Vec<Id>, PickleError> {
        let id = self.pop()?;
        match self.nodes.get(id as usize) {
            Some(Node::Tuple(items)) => {
                let items = items.clone();
                self.spend(items.len())?;
                Ok(items)
            }
            _ => Err(self.malformed("arguments that are not a tuple")),
        }
    }

    fn memoize(&mut self, key: u64) -> Result<(), PickleError> {
        let id = self.top()?;
        self.spend(1)?;
        self.memo.insert(key, id);
        Ok(())
    }

    fn recall(&mut self, key: u64) -> Result<(), PickleError> {
        let Some(&id) = self.memo.get(&key) else {
            return Err(self.malformed("a place that was never remembered"));
        };
        self.push_id(id)
    }

    fn text(&mut self, len: usize) -> Result<(), PickleError> {
        let at = self.at;
        let bytes = self.take(len)?;
        let text = std::str::from_utf8(bytes).map_err(|_| PickleError::Malformed {
            at,
            what: "text that is not UTF-8",
        })?;
        self.push(Node::Str(text.into()))
    }

    fn byte_string(&mut self, len: usize) -> Result<(), PickleError> {
        let bytes = self.take(len)?;
        self.push(Node::Bytes(bytes.into()))
    }

    /// Python 2's `str`: text if it is ASCII, else bytes.
    fn old_string(&mut self, len: usize) -> Result<(), PickleError> {
        let bytes = self.take(len)?;
        match std::str::from_utf8(bytes) {
            Ok(text) if text.is_ascii() => self.push(Node::Str(text.into())),
            _ => self.push(Node::Bytes(bytes.into())),
        }
    }

    /// A two's complement integer of `len` bytes, least significant first.
    fn long(&mut self, len: usize) -> Result<(), PickleError> {
        let bytes = self.take(len)?;
        let mut wide = match bytes.last() {
            Some(b) if b & 0x80 != 0 => [0xff; 8],
            _ => [0; 8],
        };
        let Some(low) = wide.get_mut(..len) else {
            return Err(PickleError::Unsupported {
                what: format!("an integer of {len} bytes"),
            });
        };
        low.copy_from_slice(bytes);
        self.push(Node::Int(i64::from_le_bytes(wide)))
    }

    pub fn name(&self, id: Id) -> Option<Arc<str>> {
        match self.nodes.get(id as usize) {
            Some(Node::Str(text)) => Some(text.clone()),
            _ => None,
        }
    }

    fn class(&mut self, module: &str, name: &str) -> Result<(), PickleError> {
        let class = calls::class_name(module, name)?;
        self.push(Node::Class(class))
    }

    /// Appends to the list (or the object that is a kind of list) on top.
    fn append(&mut self, items: Vec<Id>) -> Result<(), PickleError> {
        self.spend(items.len())?;
        let target = self.top()? as usize;
        match self.nodes.get_mut(target) {
            Some(Node::List(list)) => list.extend(items),
            Some(Node::Object(instance)) => instance.elements.extend(items),
            _ => return Err(self.malformed("elements for what is not a list")),
        }
        Ok(())
    }

    fn pairs(&mut self, flat: &[Id]) -> Result<Vec<(Id, Id)>, PickleError> {
        let (pairs, rest) = flat.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.malformed("a key without a value"));
        }
        self.spend(pairs.len())?;
        Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
    }

    fn set_items(&mut self, flat: &[Id]) -> Result<(), PickleError> {
        let pairs = self.pairs(flat)?;
        let target = self.top()? as usize;
        match self.nodes.get_mut(target) {
            Some(Node::Dict(dict)) => dict.extend(pairs),
            Some(Node::Object(instance)) => instance.items.extend(pairs),
            _ => return Err(self.malformed("pairs for what is not a dictionary")),
        }
        Ok(())
    }

    /// Restores a state into the object on top.
    fn build(&mut self) -> Result<(), PickleError> {
        let state = self.pop()?;
        let target = self.top()? as usize;
        match self.nodes.get_mut(target) {
            Some(Node::Object(instance)) => instance.state = Some(state),
            // Attributes of dictionaries and tensors, such as a state dict's `_metadata`, carry no weights.
            Some(Node::Dict(_) | Node::Tensor(_)) => {}
            _ => return Err(self.malformed("a state for what is no object")),
        }
        Ok(())
    }

    /// Calls nothing: see [`calls::reduce`].
    fn reduce(&mut self) -> Result<(), PickleError> {
        let args = self.pop_tuple()?;
        let callee = self.pop()?;
        let class = match self.nodes.get(callee as usize) {
            Some(Node::Class(class)) => class.clone(),
            _ => return Err(self.malformed("a call of what is not named")),
        };
        let node = calls::reduce(self, class, args)?;
        self.push(node)
    }

    fn run(&mut self) -> Result<Id, PickleError> {
        loop {
            let at = self.at;
            let code = self.u8()?;
            if code == b'.' {
                let root = self.pop()?;
                if self.at != self.bytes.len() {
                    return Err(self.malformed("bytes behind the end"));
                }
                return Ok(root);
            }
            self.step(at, code)?;
        }
    }

    /// One opcode. The letters are pickle's own.
    fn step(&mut self, at: usize, code: u8) -> Result<(), PickleError> {
        match code {
            // PROTO
            0x80 => match self.u8()? {
                2..=5 => Ok(()),
                _ => Err(self.malformed("not protocol 2 to 5")),
            },
            // FRAME
            0x95 => self.take(8).map(drop),
            b'(' => {
                limit("marks", self.marks.len() + 1, self.limits.stack)?;
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => {
                let floor = self.marks.last().copied().unwrap_or(0);
                if self.stack.len() > floor {
                    self.stack.pop();
                } else {
                    self.pop_mark()?;
                }
                Ok(())
            }
            b'1' => self.pop_mark().map(drop),
            b'2' => {
                let id = self.top()?;
                self.push_id(id)
            }
            b'N' => self.push(Node::None),
            0x88 => self.push(Node::Bool(true)),
            0x89 => self.push(Node::Bool(false)),
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Node::Int(value.into()))
            }
            b'K' => {
                let value = self.u8()?;
                self.push(Node::Int(value.into()))
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Node::Int(value.into()))
            }
            // LONG1, LONG4
            0x8a => {
                let len = self.length::<1>()?;
                self.long(len)
            }
            0x8b => {
                let len = self.length::<4>()?;
                self.long(len)
            }
            b'G' => {
                let value = f64::from_be_bytes(self.array()?);
                self.push(Node::Float(value))
            }
            // SHORT_BINUNICODE, BINUNICODE, BINUNICODE8
            0x8c => self.length::<1>().and_then(|len| self.text(len)),
            b'X' => self.length::<4>().and_then(|len| self.text(len)),
            0x8d => self.length::<8>().and_then(|len| self.text(len)),
            b'U' => self.length::<1>().and_then(|len| self.old_string(len)),
            b'T' => self.length::<4>().and_then(|len| self.old_string(len)),
            // SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8
            b'C' => self.length::<1>().and_then(|len| self.byte_string(len)),
            b'B' => self.length::<4>().and_then(|len| self.byte_string(len)),
            0x8e | 0x96 => self.length::<8>().and_then(|len| self.byte_string(len)),
            b']' => self.push(Node::List(Vec::new())),
            b'}' => self.push(Node::Dict(Vec::new())),
            b')' => self.push(Node::Tuple(Vec::new())),
            // EMPTY_SET, FROZENSET
            0x8f => self.push(set("builtins.set", Vec::new())),
            0x91 => {
                let items = self.pop_mark()?;
                self.spend(items.len())?;
                self.push(set("builtins.frozenset", items))
            }
            b'l' => {
                let items = self.pop_mark()?;
                self.spend(items.len())?;
                self.push(Node::List(items))
            }
            b't' => {
                let items = self.pop_mark()?;
                self.spend(items.len())?;
                self.push(Node::Tuple(items))
            }
            // TUPLE1 to TUPLE3
            0x85..=0x87 => {
                let mut items = Vec::with_capacity(3);
                for _ in 0..=code - 0x85 {
                    items.push(self.pop()?);
                }
                items.reverse();
                self.spend(items.len())?;
                self.push(Node::Tuple(items))
            }
            b'd' => {
                let flat = self.pop_mark()?;
                let pairs = self.pairs(&flat)?;
                self.push(Node::Dict(pairs))
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])
            }
            // APPENDS, ADDITEMS
            b'e' | 0x90 => {
                let items = self.pop_mark()?;
                self.append(items)
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[key, value])
            }
            b'u' => {
                let flat = self.pop_mark()?;
                self.set_items(&flat)
            }
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.class(module, name)
            }
            // STACK_GLOBAL
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.name(module), self.name(name)) {
                    (Some(module), Some(name)) => self.class(&module, &name),
                    _ => Err(self.malformed("a class that is not named")),
                }
            }
            // NEWOBJ is a call of the class as far as data goes, and so is REDUCE.
            b'R' | 0x81 => self.reduce(),
            // NEWOBJ_EX: arguments by name are dropped into the state's place until a state follows.
            0x92 => {
                let named = self.pop()?;
                self.reduce()?;
                let made = self.top()? as usize;
                if let Some(Node::Object(instance)) = self.nodes.get_mut(made) {
                    instance.state = Some(named);
                }
                Ok(())
            }
            b'b' => self.build(),
            b'Q' => {
                let id = self.pop()?;
                let node = calls::storage(self, id)?;
                self.push(node)
            }
            b'q' => self.u8().and_then(|key| self.memoize(key.into())),
            b'r' => self.u32().and_then(|key| self.memoize(key.into())),
            // MEMOIZE
            0x94 => self.memoize(self.memo.len() as u64),
            b'h' => self.u8().and_then(|key| self.recall(key.into())),
            b'j' => self.u32().and_then(|key| self.recall(key.into())),
            _ => Err(PickleError::Opcode { at, code }),
        }
    }
}

fn set(class: &str, elements: Vec<Id>) -> Node {
    Node::Object(Instance {
        class: class.into(),
        args: Vec::new(),
        state: None,
        items: Vec::new(),
        elements,
    })
}
