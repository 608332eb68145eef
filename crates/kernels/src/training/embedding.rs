//! The way back through token embeddings.

use crate::error::{expect_len, product, KernelError};
use crate::parallel::{self, Disjoint};

/// Elements below which another thread costs more than it brings.
const GRAIN: usize = 16 * 1024;

/// `dtable[ids[t]] += dy[t]` for `dy [ids.len(), width]` and `dtable [rows, width]`, in the order of the tokens. An id
/// without a row is an error, and then nothing has been added.
pub fn embedding_backward(dy: &[f32], ids: &[u32], width: usize, dtable: &mut [f32]) -> Result<(), KernelError> {
    let what = "embedding gradient elements, in rows of width";
    if width == 0 {
        return Err(KernelError::Dimension { what, expected: "1 or more", found: 0 });
    }
    if !dtable.len().is_multiple_of(width) {
        return Err(KernelError::Shape { what, expected: dtable.len() / width * width, found: dtable.len() });
    }
    expect_len(
        "embedding output gradient elements",
        dy.len(),
        product("embedding output gradient", ids.len(), width)?,
    )?;
    let rows = dtable.len() / width;
    if let Some((position, &id)) = ids.iter().enumerate().find(|(_, &id)| id as usize >= rows) {
        return Err(KernelError::IdOutOfRange { id, position, rows });
    }
    let table = Disjoint::new(dtable);
    // Over columns, so that a row's sum has one order.
    let grain = GRAIN.div_ceil(ids.len().max(1)).next_multiple_of(16);
    parallel::for_each_range(width, grain, |columns| {
        for (&id, dy) in ids.iter().zip(dy.chunks_exact(width)) {
            let first = id as usize * width;
            // SAFETY: no other task touches these columns.
            let to = unsafe { table.slice(first + columns.start..first + columns.end) };
            for (to, dy) in to.iter_mut().zip(&dy[columns.clone()]) {
                *to += dy;
            }
        }
    });
    Ok(())
}
