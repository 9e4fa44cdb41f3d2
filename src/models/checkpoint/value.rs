// [worker] What a checkpoint holds besides tensors: plain data, and objects of which only the names are known.

use std::sync::Arc;

/// One value of a checkpoint's tree. Classes are names: nothing was imported or run.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Arc<str>),
    Bytes(Arc<[u8]>),
    List(Vec<Value>),
    Tuple(Vec<Value>),
    /// `dict`, `OrderedDict` and `defaultdict`, in the order of insertion, each key once.
    Dict(Dict),
    /// A class or function that is named but not called, such as `demucs.htdemucs.HTDemucs`.
    Class(Arc<str>),
    Object(Box<Object>),
    /// Index into the checkpoint's tensors; its path is one of [`Checkpoint::names`](super::Checkpoint::names).
    Tensor(usize),
    /// A reference to a container that encloses this place (an OmegaConf node's `_parent`).
    Cycle,
}

/// A key of a [`Dict`].
#[derive(Clone, Debug, PartialEq)]
pub enum Key {
    Int(i64),
    Str(Arc<str>),
    /// Anything else that Python hashes. Not reachable by path.
    Other(Value),
}

/// Pairs in the order of insertion.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dict(pub Vec<(Key, Value)>);

/// An instance of a class, or the result of a call that was not made.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Module and name joined by a dot, such as `fractions.Fraction`.
    pub class: Arc<str>,
    /// What the class would be called with.
    pub args: Vec<Value>,
    /// What would be restored into it, usually a [`Value::Dict`] of its attributes.
    pub state: Option<Value>,
    /// Pairs that would be set on it, if it is a kind of dictionary.
    pub items: Dict,
    /// Elements that would be appended to it, if it is a kind of list or set.
    pub elements: Vec<Value>,
}

impl Dict {
    /// The value under a text key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find_map(|(k, v)| match k {
            Key::Str(s) if **s == *key => Some(v),
            _ => None,
        })
    }

    /// The value under an integer key.
    pub fn get_int(&self, key: i64) -> Option<&Value> {
        self.0.iter().find_map(|(k, v)| match k {
            Key::Int(i) if *i == key => Some(v),
            _ => None,
        })
    }
}

impl Value {
    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(s) => Some(s),
            _ => None,
        }
    }

    /// The integer, if it is one (booleans are not).
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(i) => Some(*i),
            _ => None,
        }
    }

    /// The integer as a size, if it is one and not negative.
    pub fn as_usize(&self) -> Option<usize> {
        self.as_i64().and_then(|i| usize::try_from(i).ok())
    }

    /// The number, integer, float or fraction.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Float(x) => Some(*x),
            Self::Int(i) => Some(*i as f64),
            _ => self.as_fraction().map(|(n, d)| n as f64 / d as f64),
        }
    }

    /// The truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// The pairs, if it is a dictionary.
    pub fn as_dict(&self) -> Option<&Dict> {
        match self {
            Self::Dict(dict) => Some(dict),
            _ => None,
        }
    }

    /// The items of a list or a tuple.
    pub fn as_slice(&self) -> Option<&[Value]> {
        match self {
            Self::List(items) | Self::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// Whether it is Python's `None`.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Numerator and positive denominator of a `fractions.Fraction` (pickled as two integers or as text
    /// such as `39/5`), or of an integer.
    pub fn as_fraction(&self) -> Option<(i64, i64)> {
        match self {
            Self::Int(i) => Some((*i, 1)),
            Self::Object(object) if &*object.class == "fractions.Fraction" => {
                let (n, d) = match object.args.as_slice() {
                    [Self::Int(n)] => (*n, 1),
                    [Self::Int(n), Self::Int(d)] => (*n, *d),
                    [Self::Str(text)] => match text.split_once('/') {
                        Some((n, d)) => (n.trim().parse().ok()?, d.trim().parse().ok()?),
                        None => (text.trim().parse().ok()?, 1),
                    },
                    _ => return None,
                };
                (d > 0).then_some((n, d))
            }
            _ => None,
        }
    }

    /// The name of the class that this is or is an instance of.
    pub fn class(&self) -> Option<&str> {
        match self {
            Self::Class(name) => Some(name),
            Self::Object(object) => Some(&object.class),
            _ => None,
        }
    }

    /// The value at a dotted path: keys of dictionaries (text keys may hold dots themselves, integer keys
    /// are written as numbers), indices of lists and tuples, attributes of objects. An empty path is this.
    pub fn at(&self, path: &str) -> Option<&Value> {
        if path.is_empty() {
            return Some(self);
        }
        match self {
            Self::Dict(dict) => dict.at(path),
            Self::List(items) | Self::Tuple(items) => {
                let (index, rest) = path.split_once('.').unwrap_or((path, ""));
                items.get(index.parse::<usize>().ok()?)?.at(rest)
            }
            Self::Object(object) => object
                .state
                .as_ref()
                .and_then(|state| state.at(path))
                .or_else(|| object.items.at(path)),
            _ => None,
        }
    }

    /// An OmegaConf tree (`DictConfig`, `ListConfig`, nodes) as plain dictionaries, lists and values;
    /// anything else is copied as it is. Interpolations such as `${a.b}` stay text.
    pub fn plain(&self) -> Value {
        match self {
            Self::Object(object) if object.class.starts_with("omegaconf.") => {
                let state = object.state.as_ref().and_then(Self::as_dict);
                let inner = state.and_then(|s| s.get("_content").or_else(|| s.get("_val")));
                inner.map_or_else(|| self.clone(), Self::plain)
            }
            Self::Dict(dict) => Self::Dict(dict.plain()),
            Self::List(items) => Self::List(items.iter().map(Self::plain).collect()),
            Self::Tuple(items) => Self::Tuple(items.iter().map(Self::plain).collect()),
            other => other.clone(),
        }
    }

    /// JSON text as a value, as the safetensors files of Demucs keep `args` and `kwargs`: an object with
    /// `"_type": "fraction"` is a `fractions.Fraction`. `None` if it is not JSON.
    pub fn from_json(text: &str) -> Option<Value> {
        serde_json::from_str(text).ok().map(Self::of_json)
    }

    fn of_json(json: serde_json::Value) -> Value {
        use serde_json::Value as Json;
        match json {
            Json::Null => Self::None,
            Json::Bool(b) => Self::Bool(b),
            Json::Number(n) => match n.as_i64() {
                Some(i) => Self::Int(i),
                None => Self::Float(n.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(s) => Self::Str(s.into()),
            Json::Array(items) => Self::List(items.into_iter().map(Self::of_json).collect()),
            Json::Object(map) => {
                let number = |key: &str| map.get(key).and_then(Json::as_i64);
                let is_fraction = map.get("_type").and_then(Json::as_str) == Some("fraction");
                if let (true, Some(n), Some(d)) =
                    (is_fraction, number("numerator"), number("denominator"))
                {
                    return Self::Object(Box::new(Object {
                        class: "fractions.Fraction".into(),
                        args: vec![Self::Int(n), Self::Int(d)],
                        state: None,
                        items: Dict::default(),
                        elements: Vec::new(),
                    }));
                }
                Self::Dict(Dict(
                    map.into_iter()
                        .map(|(k, v)| (Key::Str(k.into()), Self::of_json(v)))
                        .collect(),
                ))
            }
        }
    }
}

impl Dict {
    fn at(&self, path: &str) -> Option<&Value> {
        self.0.iter().find_map(|(key, value)| {
            let rest = match key {
                Key::Str(s) => path.strip_prefix(&**s)?,
                Key::Int(i) => path.strip_prefix(i.to_string().as_str())?,
                Key::Other(_) => return None,
            };
            if rest.is_empty() {
                Some(value)
            } else {
                value.at(rest.strip_prefix('.').filter(|rest| !rest.is_empty())?)
            }
        })
    }

    fn plain(&self) -> Dict {
        Dict(
            self.0
                .iter()
                .map(|(key, value)| (key.clone(), value.plain()))
                .collect(),
        )
    }
}
