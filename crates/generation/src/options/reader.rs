//! Reads typed values out of a JSON object and gathers everything that is wrong with them.

use serde_json::{Map, Value};

use crate::error::{OptionFault, INVALID_OPTION};

/// Longest part of a value that a message quotes, in characters.
const QUOTED: usize = 80;

pub struct Reader<'a> {
    map: &'a Map<String, Value>,
    vocab_size: usize,
    pub faults: Vec<OptionFault>,
}

/// A range of numbers, and how a message says it.
pub struct Range {
    pub says: &'static str,
    pub holds: fn(f64) -> bool,
}

impl<'a> Reader<'a> {
    pub fn new(map: &'a Map<String, Value>, vocab_size: usize) -> Self {
        Self { map, vocab_size, faults: Vec::new() }
    }

    /// The value, unless it is absent or null.
    pub fn value(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// Records that `name` is not what was expected.
    pub fn wrong(&mut self, name: &str, found: &Value, expected: &str) {
        self.invalid(name, format!("{name} is {}, expected {expected}", quote(found)));
    }

    /// Records a fault in words.
    pub fn invalid(&mut self, name: &str, message: String) {
        self.faults.push(OptionFault { code: INVALID_OPTION, option: name.to_owned(), message });
    }

    pub fn boolean(&mut self, name: &str) -> Option<bool> {
        let value = self.value(name)?;
        if value.as_bool().is_none() {
            self.wrong(name, value, "true or false");
        }
        value.as_bool()
    }

    /// A whole number of at least `least`.
    pub fn integer(&mut self, name: &str, least: u64) -> Option<u64> {
        let value = self.value(name)?;
        let number = whole(value).filter(|n| *n >= least);
        if number.is_none() {
            self.wrong(name, value, &format!("a whole number of at least {least}"));
        }
        number
    }

    /// As [`integer`](Self::integer), as a count; numbers too large for this machine are as good as endless.
    pub fn count(&mut self, name: &str, least: u64) -> Option<usize> {
        self.integer(name, least).map(|n| usize::try_from(n).unwrap_or(usize::MAX))
    }

    pub fn number(&mut self, name: &str, range: &Range) -> Option<f64> {
        let value = self.value(name)?;
        let number = value.as_f64().filter(|n| n.is_finite() && (range.holds)(*n));
        if number.is_none() {
            self.wrong(name, value, range.says);
        }
        number
    }

    /// A token id below the vocabulary's size.
    pub fn token(&mut self, name: &str) -> Option<u32> {
        let value = self.value(name)?;
        let id = self.id(value);
        if id.is_none() {
            self.wrong(name, value, &self.id_says("a token id"));
        }
        id
    }

    /// A non-empty list of token ids.
    pub fn tokens(&mut self, name: &str) -> Option<Vec<u32>> {
        let value = self.value(name)?;
        let ids = value.as_array().and_then(|list| self.ids(list));
        if ids.is_none() {
            self.wrong(name, value, &self.id_says("a list of at least one token id"));
        }
        ids
    }

    /// One token id, or a non-empty list of them.
    pub fn token_or_tokens(&mut self, name: &str) -> Option<Vec<u32>> {
        let value = self.value(name)?;
        let ids = match value.as_array() {
            Some(list) => self.ids(list),
            None => self.id(value).map(|id| vec![id]),
        };
        if ids.is_none() {
            self.wrong(name, value, &self.id_says("a token id or a list of at least one"));
        }
        ids
    }

    /// A non-empty list of non-empty lists of token ids.
    pub fn token_lists(&mut self, name: &str) -> Option<Vec<Vec<u32>>> {
        let value = self.value(name)?;
        let lists = value.as_array().filter(|lists| !lists.is_empty()).and_then(|lists| {
            lists.iter().map(|list| list.as_array().and_then(|list| self.ids(list))).collect::<Option<Vec<_>>>()
        });
        if lists.is_none() {
            self.wrong(name, value, &self.id_says("a list of at least one list of at least one token id"));
        }
        lists
    }

    /// The ids of a non-empty JSON list, if they all are ids.
    pub fn ids(&self, list: &[Value]) -> Option<Vec<u32>> {
        list.iter().map(|value| self.id(value)).collect::<Option<Vec<u32>>>().filter(|ids| !ids.is_empty())
    }

    fn id(&self, value: &Value) -> Option<u32> {
        let id = whole(value).filter(|id| usize::try_from(*id).is_ok_and(|id| id < self.vocab_size))?;
        u32::try_from(id).ok()
    }

    pub fn id_says(&self, what: &str) -> String {
        format!("{what}, each from 0 to {} (the vocabulary has {})", self.vocab_size.saturating_sub(1), self.vocab_size)
    }
}

/// A whole number, however JSON writes it.
pub fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        // Above 2^53 a float no longer says which whole number is meant.
        value.as_f64().filter(|n| n.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(n)).map(|n| n as u64)
    })
}

/// The JSON of a value, cut to a readable length.
pub fn quote(value: &Value) -> String {
    // Large values are cut before they are written out, not after.
    let text = match value {
        Value::Array(items) if items.len() > QUOTED => {
            let head: Vec<String> = items.iter().take(4).map(quote).collect();
            format!("[{}, …] ({} items)", head.join(", "), items.len())
        }
        Value::String(text) => Value::String(text.chars().take(QUOTED).collect()).to_string(),
        Value::Object(map) => format!("an object with {} keys", map.len()),
        Value::Array(items) => format!("[{}]", items.iter().map(quote).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    };
    match text.char_indices().nth(QUOTED * 2) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or("")),
        None => text,
    }
}
