//! `*.index.json`: which tensor is in which shard.
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::Deserialize;

use crate::error::{shown, CheckpointError, Fault};
use crate::limits;
use crate::safetensors::Strings;

/// What errors call the index.
pub const INDEX: &str = "the checkpoint's index";

/// Tensor names and the shard that holds each.
pub struct Index {
    pub weight_map: BTreeMap<String, String>,
}

/// The shards that an index names, each once, in order: for the host, to know which files to open. The names are
/// relative paths that stay inside the checkpoint's folder; anything else is an error.
pub fn shard_names(index: &str) -> Result<Vec<String>, CheckpointError> {
    let mut names: Vec<String> = Index::parse(index)?.weight_map.into_values().collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

impl Index {
    /// Reads and checks the text of an index.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        if text.len() > limits::INDEX_BYTES {
            let found = format!("{} bytes", text.len());
            return Err(Fault::new(INDEX, found, format!("at most {} bytes", limits::INDEX_BYTES)).corrupt());
        }
        let parsed: Parsed = serde_json::from_str(text).map_err(|error| {
            let expected = "a JSON object with a \"weight_map\" of tensor names to file names, each named once";
            Fault::new(INDEX, format!("text that cannot be read ({})", shown(&error.to_string())), expected).corrupt()
        })?;
        for (tensor, shard) in &parsed.0 {
            if !stays_inside(shard) {
                return Err(Fault::new(
                    INDEX,
                    format!("the file name \"{}\"", shown(shard)),
                    "the name of a file inside the checkpoint's folder",
                )
                .tensor(tensor)
                .advice("Do not use this index: it points outside its folder")
                .refused());
            }
        }
        Ok(Self { weight_map: parsed.0 })
    }
}

/// Whether a relative path is plain: no root, drive, parent, backslash or control character.
fn stays_inside(path: &str) -> bool {
    !path.is_empty()
        && !path.contains(|c: char| c == '\\' || c == ':' || c.is_control())
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

struct Parsed(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Parsed;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object with a weight_map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parsed, A::Error> {
                let mut weight_map = None;
                while let Some(key) = map.next_key::<String>()? {
                    if key != "weight_map" {
                        map.next_value::<serde::de::IgnoredAny>()?;
                    } else if weight_map.replace(map.next_value_seed(Strings)?).is_some() {
                        return Err(A::Error::duplicate_field("weight_map"));
                    }
                }
                weight_map.map(Parsed).ok_or_else(|| A::Error::missing_field("weight_map"))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}
