//! Products with quantised weights: int8 with a float32 scale per row, int4 with one per group of columns.
//!
//! Inputs are quantised on the way in, each row by its own largest magnitude (symmetric, 127 steps to a side), and
//! products are summed as integers, exactly: with int8 the result is the same to the bit on every instruction set, for
//! every number of rows and threads. With int4 the sums of the groups are added in float32, in an order that depends on
//! the width of the vectors. An input row that holds an infinity or NaN gives NaN.
//!
//! | file | what it holds |
//! |---|---|
//! | `formats.rs` | the two formats: checks, widening, quantising |
//! | `inputs.rs` | rows of inputs, quantised and laid out as the unit reads them |
//! | `unit.rs` | what an instruction set has to bring |
//! | `tiles.rs` | the register tiles, written once over a unit |
//! | `generic.rs`, `avx2.rs`, `vnni.rs`, `neon.rs`, `wasm32.rs` | the units |
//! | `amx.rs` | int8 products of many rows in AMX tiles |

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
mod formats;
mod generic;
mod inputs;
#[cfg(target_arch = "aarch64")]
mod neon;
mod tiles;
mod unit;
#[cfg(target_arch = "x86_64")]
mod vnni;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm32;

pub(crate) use formats::{check, widen_int4, widen_int8};
pub use formats::{quantise_int4, quantise_int8, BLOCK, GROUPS, MAX_COLS};
pub(crate) use inputs::Inputs;

use crate::gemm::Block;
use std::ops::Range;

/// Computes the columns `features` of `block`, whose weights are quantised and whose inputs are a segment of `inputs`.
///
/// # Safety
/// As `gemm::product`.
pub(crate) unsafe fn product(block: Block<'_>, inputs: Option<&Inputs>, segment: usize, features: Range<usize>) {
    let prepared = inputs.and_then(|inputs| inputs.segment(segment, &block));
    let own;
    let rows = match prepared {
        Some(rows) => rows,
        // Prepared for weights of another format: a gate stored otherwise than its twin, for example.
        None => match Inputs::of_block(&block) {
            Ok(inputs) => {
                own = inputs;
                match own.segment(0, &block) {
                    Some(rows) => rows,
                    None => return,
                }
            }
            Err(_) => {
                for row in 0..block.n {
                    for feature in features.clone() {
                        // SAFETY: the caller's promise. Without memory there is no result, which NaN says.
                        unsafe { *block.y.add(row * block.y_stride + feature) = f32::NAN };
                    }
                }
                return;
            }
        },
    };
    #[cfg(target_arch = "x86_64")]
    if rows.tiles().is_some() {
        // SAFETY: the caller's promises; rows are packed only when AMX is active.
        return unsafe { amx::product(&block, &rows, features) };
    }
    // SAFETY: the caller's promises.
    unsafe { tiles::product(&block, &rows, features) };
}
