//! A quantised matrix's values and scales: mapped from their file, or owned.

use switch_checkpoint::MappedBytes;
use switch_kernels::quantised::{quantise_int4, quantise_int8};
use switch_kernels::Values;

use super::recipe::Kind;
use crate::error::{code, ModelError, Result};
use crate::weight::{try_filled, try_zeros};

enum Bytes {
    Owned(Vec<u8>),
    Mapped(MappedBytes),
}

enum Scales {
    Owned(Vec<f32>),
    /// Checked to be aligned.
    Mapped(MappedBytes),
}

/// Values in int8 or int4, and their scales.
pub struct QuantisedMatrix {
    kind: Kind,
    values: Bytes,
    scales: Scales,
}

impl QuantisedMatrix {
    /// Quantises `[rows, cols]`; `name` is the parameter's, for the error about values that are not finite.
    pub fn quantise(kind: Kind, name: &str, from: &[f32], cols: usize) -> Result<Self> {
        let rows = from.len().checked_div(cols).unwrap_or(0);
        let mut values = try_filled(kind.value_bytes(from.len()), 0u8)?;
        let mut scales = try_zeros(kind.scales_shape(rows, cols).iter().product())?;
        let finite = match kind {
            Kind::Int8 => quantise_int8(from, cols, bytemuck::cast_slice_mut(&mut values), &mut scales)?,
            Kind::Int4 { group } => quantise_int4(from, group, &mut values, &mut scales)?,
        };
        if !finite {
            let message =
                format!("tensor {name} holds an infinity or NaN, which cannot be quantised; check the weights");
            return Err(ModelError::new(code::CHECKPOINT_CORRUPT, message));
        }
        Ok(Self { kind, values: Bytes::Owned(values), scales: Scales::Owned(scales) })
    }

    /// Values and scales as they are in a file.
    pub fn owned(kind: Kind, values: Vec<u8>, scales: Vec<f32>) -> Self {
        Self { kind, values: Bytes::Owned(values), scales: Scales::Owned(scales) }
    }

    /// The same in place. Scales that are not aligned are an error.
    pub fn mapped(kind: Kind, values: MappedBytes, scales: MappedBytes) -> Result<Self> {
        if bytemuck::try_cast_slice::<u8, f32>(scales.as_slice()).is_err() {
            return Err(ModelError::internal("mapped scales are not aligned"));
        }
        Ok(Self { kind, values: Bytes::Mapped(values), scales: Scales::Mapped(scales) })
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The values as stored.
    pub fn value_bytes(&self) -> &[u8] {
        match &self.values {
            Bytes::Owned(values) => values,
            Bytes::Mapped(values) => values.as_slice(),
        }
    }

    pub fn scales(&self) -> &[f32] {
        match &self.scales {
            Scales::Owned(scales) => scales,
            Scales::Mapped(scales) => bytemuck::try_cast_slice(scales.as_slice()).unwrap_or(&[]),
        }
    }

    /// As the kernels read it.
    pub fn values(&self) -> Values<'_> {
        let (values, scales) = (self.value_bytes(), self.scales());
        match self.kind {
            Kind::Int8 => Values::I8 { values: bytemuck::cast_slice(values), scales },
            Kind::Int4 { group } => Values::I4 { values, scales, group },
        }
    }

    /// Checks that scales are what quantising makes: finite and not negative.
    pub fn check_scales(&self, name: &str) -> Result<()> {
        match self.scales().iter().position(|scale| !(scale.is_finite() && *scale >= 0.0)) {
            None => Ok(()),
            Some(at) => {
                let found = self.scales().get(at).copied().unwrap_or(f32::NAN);
                let message = format!(
                    "tensor {name}.scales: found {found} at {at}, expected finite numbers of 0 or more; the file is \
                     damaged, download or quantise it again"
                );
                Err(ModelError::new(code::CHECKPOINT_CORRUPT, message))
            }
        }
    }
}
