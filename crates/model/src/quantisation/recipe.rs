//! Which parameters are quantised, and how: by what they are for.

use serde_json::{json, Value};
use switch_kernels::quantised::{GROUPS, MAX_COLS};

use crate::parameters::{ParameterSpec, Role};
use crate::weight::StorageDtype;

/// The field of `config.json` that says so.
pub const CONFIG_FIELD: &str = "quantization_config";

const METHOD: &str = "switch-transformers";
const VERSION: u64 = 1;

/// Columns per scale of int4. Of 32, 64 and 128 the one with the least loss on trained models, by half; its scales take a
/// fifth of the bytes.
const DEFAULT_GROUP: usize = 32;

/// A quantised form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A scale per row.
    Int8,
    /// A scale per `group` columns of a row.
    Int4 { group: usize },
}

impl Kind {
    pub fn dtype(self) -> StorageDtype {
        match self {
            Self::Int8 => StorageDtype::Int8,
            Self::Int4 { .. } => StorageDtype::Int4,
        }
    }

    /// Bytes of a matrix's values.
    pub fn value_bytes(self, elements: usize) -> usize {
        match self {
            Self::Int8 => elements,
            Self::Int4 { .. } => elements / 2,
        }
    }

    /// The shape of what is stored, of a matrix `[rows, cols]`.
    pub fn stored_shape(self, rows: usize, cols: usize) -> Vec<usize> {
        match self {
            Self::Int8 => vec![rows, cols],
            Self::Int4 { .. } => vec![rows, cols / 2],
        }
    }

    /// The shape of its scales.
    pub fn scales_shape(self, rows: usize, cols: usize) -> Vec<usize> {
        match self {
            Self::Int8 => vec![rows],
            Self::Int4 { group } => vec![rows, cols / group.max(1)],
        }
    }
}

/// Parameters that are quantised alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Embedding,
    Head,
    Attention,
    Dense,
    Experts,
}

impl Class {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Embedding, "embedding"),
        (Self::Head, "head"),
        (Self::Attention, "attention"),
        (Self::Dense, "dense"),
        (Self::Experts, "experts"),
    ];

    /// `None` for what stays in floating point: norms, routers and position bias.
    fn of(role: Role) -> Option<Self> {
        match role {
            Role::Embedding | Role::StackEmbedding => Some(Self::Embedding),
            Role::Head => Some(Self::Head),
            Role::Query | Role::KeyOrValue | Role::AttentionOutput => Some(Self::Attention),
            Role::DenseIn | Role::DenseOut => Some(Self::Dense),
            Role::ExpertIn | Role::ExpertOut => Some(Self::Experts),
            Role::Norm | Role::RelativeBias | Role::Router | Role::RouterBias => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Int8,
    Int4,
    Float,
}

impl Width {
    const ALL: [(Self, &'static str); 3] = [(Self::Int8, "int8"), (Self::Int4, "int4"), (Self::Float, "float")];
}

/// The form of every parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// By position in [`Class::ALL`].
    widths: [Width; 5],
    group: usize,
}

impl Recipe {
    /// Names of the recipes that `dtype` options know.
    pub const NAMES: [&'static str; 3] = ["int8", "int4", "mixed"];

    /// `int8`: everything. `int4`: everything. `mixed`: feed-forward layers in int4, since they are most of a sparse
    /// model's bytes and lose least; attention, embedding and head in int8.
    pub fn named(name: &str) -> Option<Self> {
        let widths = match name {
            "int8" => [Width::Int8; 5],
            "int4" => [Width::Int4; 5],
            "mixed" => [Width::Int8, Width::Int8, Width::Int8, Width::Int4, Width::Int4],
            _ => return None,
        };
        Some(Self { widths, group: DEFAULT_GROUP })
    }

    /// The form of a parameter; `None` where it stays in floating point. Int4 takes whole groups of columns: a matrix
    /// whose columns are not is int8 instead.
    pub fn kind(&self, spec: &ParameterSpec) -> Option<Kind> {
        let class = Class::of(spec.role)?;
        let width = Class::ALL.iter().position(|(c, _)| *c == class).and_then(|at| self.widths.get(at))?;
        let &[_, cols] = spec.shape.as_slice() else { return None };
        if cols > MAX_COLS {
            return None;
        }
        match width {
            Width::Float => None,
            Width::Int4 if cols.is_multiple_of(self.group) => Some(Kind::Int4 { group: self.group }),
            Width::Int8 | Width::Int4 => Some(Kind::Int8),
        }
    }

    /// Bytes of a parameter that is stored in `float` otherwise.
    pub fn bytes(&self, spec: &ParameterSpec, float: StorageDtype) -> u128 {
        let elements: u128 = spec.shape.iter().map(|d| *d as u128).product();
        match (self.kind(spec), spec.shape.as_slice()) {
            (Some(Kind::Int8), &[rows, _]) => elements + 4 * rows as u128,
            (Some(Kind::Int4 { group }), _) => elements / 2 + 4 * elements / group as u128,
            _ => elements * float.size() as u128,
        }
    }

    /// What `config.json` says of it.
    pub fn to_json(&self) -> Value {
        let weights: serde_json::Map<String, Value> = Class::ALL
            .iter()
            .zip(self.widths)
            .filter_map(|((_, class), width)| {
                let (_, name) = Width::ALL.iter().find(|(w, _)| *w == width)?;
                Some((class.to_string(), json!(name)))
            })
            .collect();
        json!({ "quant_method": METHOD, "version": VERSION, "group_size": self.group, "weights": weights })
    }

    /// Reads [`CONFIG_FIELD`]; the error says what is wrong with which of its fields.
    pub fn from_json(value: &Value) -> Result<Self, String> {
        let field = |name: &str| value.get(name).unwrap_or(&Value::Null);
        if field("quant_method") != METHOD {
            let found = field("quant_method");
            return Err(format!(
                "quant_method: found {found}, expected \"{METHOD}\"; no other quantisation is read here"
            ));
        }
        if field("version") != VERSION {
            return Err(format!(
                "version: found {}, expected {VERSION}; a newer library may read it",
                field("version")
            ));
        }
        let group = field("group_size").as_u64().and_then(|n| usize::try_from(n).ok());
        let Some(group) = group.filter(|group| GROUPS.contains(group)) else {
            return Err(format!("group_size: found {}, expected one of {GROUPS:?}", field("group_size")));
        };
        let Some(weights) = field("weights").as_object() else {
            return Err(format!("weights: found {}, expected an object", field("weights")));
        };
        if let Some(unknown) = weights.keys().find(|key| !Class::ALL.iter().any(|(_, name)| name == key)) {
            let names = Class::ALL.map(|(_, name)| name);
            return Err(format!("weights: found {unknown:?}, expected {names:?}"));
        }
        let mut widths = [Width::Float; 5];
        for ((_, name), width) in Class::ALL.iter().zip(&mut widths) {
            let found = weights.get(*name).unwrap_or(&Value::Null);
            let known = Width::ALL.iter().find(|(_, width)| found == width);
            let Some((known, _)) = known else {
                return Err(format!("weights.{name}: found {found}, expected \"int8\", \"int4\" or \"float\""));
            };
            *width = *known;
        }
        Ok(Self { widths, group })
    }
}
