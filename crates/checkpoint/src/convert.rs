//! Conversion between element types, a chunk at a time. Halves round to nearest even, as PyTorch does.
use bytemuck::{Pod, PodCastError};
use half::{bf16, f16, slice::HalfFloatSliceExt};

use crate::dtype::Dtype;

/// A Rust type that tensors can be read as. Floats can be read from every type; integers from integers only.
pub trait Element: Pod + private::Sealed {
    /// The type that is read without conversion.
    const DTYPE: Dtype;
}

pub(crate) mod private {
    use super::*;

    pub trait Sealed: Sized {
        /// Converts `from`, whole elements of `dtype` in aligned memory, into as many of `Self`. `scratch` has room
        /// for as many floats. False if this type cannot be read as `Self`.
        fn convert(dtype: Dtype, from: &[u8], scratch: &mut [f32], into: &mut [Self]) -> bool;
    }
}

macro_rules! float {
    ($type:ty, $dtype:expr, $narrow:expr) => {
        impl Element for $type {
            const DTYPE: Dtype = $dtype;
        }

        impl private::Sealed for $type {
            fn convert(dtype: Dtype, from: &[u8], scratch: &mut [f32], into: &mut [Self]) -> bool {
                let Some(scratch) = scratch.get_mut(..into.len()) else { return false };
                if !widen(dtype, from, scratch) {
                    return false;
                }
                let narrow: fn(&[f32], &mut [Self]) = $narrow;
                narrow(scratch, into);
                true
            }
        }
    };
}

float!(f16, Dtype::F16, |from, into| into.convert_from_f32_slice(from));
float!(bf16, Dtype::Bf16, |from, into| into.convert_from_f32_slice(from));

impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;
}

impl private::Sealed for f32 {
    fn convert(dtype: Dtype, from: &[u8], _: &mut [f32], into: &mut [Self]) -> bool {
        widen(dtype, from, into)
    }
}

impl Element for i64 {
    const DTYPE: Dtype = Dtype::I64;
}

impl private::Sealed for i64 {
    fn convert(dtype: Dtype, from: &[u8], _: &mut [f32], into: &mut [Self]) -> bool {
        match dtype {
            Dtype::Bool => each(from, into, |x: u8| i64::from(x != 0)),
            Dtype::U8 => each(from, into, |x: u8| x.into()),
            Dtype::I8 => each(from, into, |x: i8| x.into()),
            Dtype::I16 => each(from, into, |x: i16| x.into()),
            Dtype::U16 => each(from, into, |x: u16| x.into()),
            Dtype::I32 => each(from, into, |x: i32| x.into()),
            Dtype::U32 => each(from, into, |x: u32| x.into()),
            Dtype::I64 => each(from, into, |x: i64| x),
            // Beyond i64, values keep their bits, as in PyTorch's conversion.
            Dtype::U64 => each(from, into, |x: u64| x as i64),
            Dtype::F8E5M2 | Dtype::F8E4M3 | Dtype::F16 | Dtype::Bf16 | Dtype::F32 | Dtype::F64 => return false,
        }
        .is_ok()
    }
}

/// Any type as float32.
fn widen(dtype: Dtype, from: &[u8], into: &mut [f32]) -> bool {
    match dtype {
        Dtype::F32 => each(from, into, |x: f32| x),
        Dtype::F16 => bytemuck::try_cast_slice::<_, f16>(from).map(|from| from.convert_to_f32_slice(into)),
        Dtype::Bf16 => bytemuck::try_cast_slice::<_, bf16>(from).map(|from| from.convert_to_f32_slice(into)),
        Dtype::F64 => each(from, into, |x: f64| x as f32),
        Dtype::Bool => each(from, into, |x: u8| f32::from(x != 0)),
        Dtype::U8 => each(from, into, |x: u8| x.into()),
        Dtype::I8 => each(from, into, |x: i8| x.into()),
        Dtype::I16 => each(from, into, |x: i16| x.into()),
        Dtype::U16 => each(from, into, |x: u16| x.into()),
        Dtype::I32 => each(from, into, |x: i32| x as f32),
        Dtype::U32 => each(from, into, |x: u32| x as f32),
        Dtype::I64 => each(from, into, |x: i64| x as f32),
        Dtype::U64 => each(from, into, |x: u64| x as f32),
        Dtype::F8E5M2 | Dtype::F8E4M3 => return false,
    }
    .is_ok()
}

fn each<S: Pod, T>(from: &[u8], into: &mut [T], convert: impl Fn(S) -> T) -> Result<(), PodCastError> {
    for (into, from) in into.iter_mut().zip(bytemuck::try_cast_slice::<_, S>(from)?) {
        *into = convert(*from);
    }
    Ok(())
}
