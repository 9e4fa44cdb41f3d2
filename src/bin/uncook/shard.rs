// [cli] What `--shard` says: which part of the work this process does.

/// Part `index` (from 0) of `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl Shard {
    /// Keeps this part of `items`. The parts of the same items in any order are disjoint and make up the whole.
    pub fn of<T, K: Ord>(self, mut items: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
        items.sort_by_key(key);
        items
            .into_iter()
            .skip(self.index)
            .step_by(self.count)
            .collect()
    }
}

/// Reads `2/3`.
///
/// # Errors
/// Words for the user if it is something else.
pub fn parse(text: &str) -> Result<Shard, String> {
    let wrong = || "expected a part and how many there are, such as 2/3".to_owned();
    let (part, count) = text.split_once('/').ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<usize>().ok();
    match (number(part), number(count)) {
        (Some(part), Some(count)) if (1..=count).contains(&part) => Ok(Shard {
            index: part - 1,
            count,
        }),
        _ => Err(wrong()),
    }
}
