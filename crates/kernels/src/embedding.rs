//! Token embeddings: rows of a table.

use crate::error::{expect_len, product, KernelError};
use crate::matrix::Matrix;

/// Copies row `ids[i]` of `table` to row `i` of `out` (`[ids.len(), table.cols]`), widened to float32.
pub fn embedding(table: Matrix<'_>, ids: &[u32], out: &mut [f32]) -> Result<(), KernelError> {
    table.check()?;
    expect_len("embedding output elements", out.len(), product("embedding output", ids.len(), table.cols)?)?;
    for (position, &id) in ids.iter().enumerate() {
        if id as usize >= table.rows {
            return Err(KernelError::IdOutOfRange { id, position, rows: table.rows });
        }
    }
    if table.cols > 0 {
        for (row, &id) in out.chunks_exact_mut(table.cols).zip(ids) {
            table.widen_row(id as usize, row);
        }
    }
    Ok(())
}
