// [worker] From the pickle machine's graph to a tree, bounded in size and depth.

use std::collections::{HashMap, HashSet};

use super::{
    limits::Limits,
    pickle::{Id, Node, PickleError, limit},
    value::{Dict, Key, Object, Value},
};

/// The tree below `root`. What is shared is written out at each place, what refers back to a container
/// around it becomes [`Value::Cycle`].
///
/// # Errors
/// If the tree is larger or deeper than the limits (few shared containers can describe a tree of any
/// size), or if a dictionary's key contains itself.
pub(super) fn build(nodes: &[Node], root: Id, limits: &Limits) -> Result<Value, PickleError> {
    Builder {
        nodes,
        limits,
        open: HashSet::new(),
        spent: 0,
    }
    .value(root)
}

struct Builder<'a> {
    nodes: &'a [Node],
    limits: &'a Limits,
    /// The containers around the current place.
    open: HashSet<Id>,
    spent: usize,
}

impl Builder<'_> {
    fn value(&mut self, id: Id) -> Result<Value, PickleError> {
        self.spent += 1;
        limit("values", self.spent, self.limits.values)?;
        let nodes = self.nodes;
        let Some(node) = nodes.get(id as usize) else {
            return Err(PickleError::Cyclic);
        };
        Ok(match node {
            Node::None => Value::None,
            Node::Bool(b) => Value::Bool(*b),
            Node::Int(i) => Value::Int(*i),
            Node::Float(x) => Value::Float(*x),
            Node::Str(s) => Value::Str(s.clone()),
            Node::Bytes(b) => Value::Bytes(b.clone()),
            Node::Class(name) => Value::Class(name.clone()),
            Node::Tensor(index) => Value::Tensor(*index),
            // A storage that is not part of a tensor carries nothing that is read.
            Node::Storage(storage) => Value::Class(storage.class.clone()),
            Node::List(_) | Node::Tuple(_) | Node::Dict(_) | Node::Object(_) => {
                if !self.open.insert(id) {
                    return Ok(Value::Cycle);
                }
                limit("levels", self.open.len(), self.limits.depth)?;
                let value = self.container(node)?;
                self.open.remove(&id);
                value
            }
        })
    }

    fn container(&mut self, node: &Node) -> Result<Value, PickleError> {
        Ok(match node {
            Node::List(items) => Value::List(self.values(items)?),
            Node::Tuple(items) => Value::Tuple(self.values(items)?),
            Node::Dict(pairs) => Value::Dict(self.dict(pairs)?),
            Node::Object(instance) => Value::Object(Box::new(Object {
                class: instance.class.clone(),
                args: self.values(&instance.args)?,
                state: instance.state.map(|state| self.value(state)).transpose()?,
                items: self.dict(&instance.items)?,
                elements: self.values(&instance.elements)?,
            })),
            _ => return Err(PickleError::Cyclic),
        })
    }

    fn values(&mut self, ids: &[Id]) -> Result<Vec<Value>, PickleError> {
        let mut values = Vec::new();
        for &id in ids {
            values.push(self.value(id)?);
        }
        Ok(values)
    }

    /// Each key once, at its first place with its last value, as Python keeps it.
    fn dict(&mut self, pairs: &[(Id, Id)]) -> Result<Dict, PickleError> {
        let mut dict: Vec<(Key, Value)> = Vec::new();
        let mut places: HashMap<Lookup, usize> = HashMap::new();
        for &(key, value) in pairs {
            let key = match self.value(key)? {
                // Longer ones are no names of anything; hashing one text many times could take for ever.
                Value::Str(s) if s.len() <= self.limits.name_bytes => Key::Str(s),
                Value::Int(i) => Key::Int(i),
                Value::Cycle => return Err(PickleError::Cyclic),
                other => Key::Other(other),
            };
            let value = self.value(value)?;
            let lookup = match &key {
                Key::Str(s) => Lookup::Str(s.clone()),
                Key::Int(i) => Lookup::Int(*i),
                Key::Other(_) => {
                    dict.push((key, value));
                    continue;
                }
            };
            match places.get(&lookup) {
                Some(&place) => dict[place].1 = value,
                None => {
                    places.insert(lookup, dict.len());
                    dict.push((key, value));
                }
            }
        }
        Ok(Dict(dict))
    }
}

#[derive(PartialEq, Eq, Hash)]
enum Lookup {
    Str(std::sync::Arc<str>),
    Int(i64),
}
