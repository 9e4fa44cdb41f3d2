// [worker] Counts what the header of a safetensors file holds, and keeps nothing of it.
//!
//! The header is JSON: a name and its tensor's type, shape and place, for each tensor, and `__metadata__` with pairs
//! of texts. What reads it keeps all of it; a header of a few megabytes can hold hundreds of thousands of entries.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::limits::Limits;

/// The name of the pairs of texts.
const NOTES: &str = "__metadata__";

/// Why a header can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CensusError {
    /// It is not JSON of this form.
    Form(String),
    /// It holds more than any model's.
    Limit(String),
}

/// Reads `header` to its end, or to the first entry too many.
///
/// # Errors
/// If it is no JSON object of objects, or holds more tensors, notes or axes, or longer names, than `limits` allow.
pub fn census(header: &[u8], limits: &Limits) -> Result<(), CensusError> {
    let mut passed = None;
    let mut json = serde_json::Deserializer::from_slice(header);
    let all = Entries {
        limits,
        passed: &mut passed,
    };
    let read = all.deserialize(&mut json).and_then(|()| json.end());
    match (read, passed) {
        (_, Some(what)) => Err(CensusError::Limit(what)),
        (Err(error), None) => Err(CensusError::Form(format!("its header is no JSON: {error}"))),
        (Ok(()), None) => Ok(()),
    }
}

/// The whole header.
struct Entries<'l> {
    limits: &'l Limits,
    /// Which limit was passed.
    passed: &'l mut Option<String>,
}

/// One tensor's entry.
struct Entry<'l> {
    axes: usize,
    passed: &'l mut Option<String>,
}

/// A list or a map of at most so many things.
struct AtMost<'l> {
    limit: usize,
    what: &'static str,
    passed: &'l mut Option<String>,
}

fn stop<E: Error>(passed: &mut Option<String>, what: String) -> E {
    *passed = Some(what);
    E::custom("over a limit")
}

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tensors by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let limits = self.limits;
        let mut tensors = 0;
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            // The notes may come again and again too.
            tensors += 1;
            if name == NOTES {
                map.next_value_seed(AtMost {
                    limit: limits.notes,
                    what: "notes",
                    passed: &mut *self.passed,
                })?;
                continue;
            }
            if tensors > limits.tensors + 1 {
                let what = format!("it holds more than {} tensors", limits.tensors);
                return Err(stop(self.passed, what));
            }
            if name.len() > limits.name_bytes {
                let what = format!(
                    "a tensor's name has {} bytes, at most {} are accepted",
                    name.len(),
                    limits.name_bytes
                );
                return Err(stop(self.passed, what));
            }
            map.next_value_seed(Entry {
                axes: limits.axes,
                passed: &mut *self.passed,
            })?;
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Entry<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entry<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tensor's type, shape and place")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key == "shape" {
                map.next_value_seed(AtMost {
                    limit: self.axes,
                    what: "axes in one tensor",
                    passed: &mut *self.passed,
                })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for AtMost<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl AtMost<'_> {
    fn count<E: Error>(&mut self, count: &mut usize) -> Result<(), E> {
        *count += 1;
        if *count <= self.limit {
            return Ok(());
        }
        let what = format!("it holds more than {} {}", self.limit, self.what);
        Err(stop(self.passed, what))
    }
}

impl<'de> Visitor<'de> for AtMost<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut count = 0;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            self.count(&mut count)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let mut count = 0;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            self.count(&mut count)?;
        }
        Ok(())
    }

    /// What is neither is the next reader's matter.
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}
