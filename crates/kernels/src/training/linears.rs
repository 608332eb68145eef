//! Several linear layers of one shape over the same input, as queries, keys and values are, and the way back through them.

use super::linear::linear_train;
use super::product::{self, Lies, Product};
use crate::error::{expect_len, product as size, KernelError};
use crate::matrix::{Matrix, Values};
use crate::parallel::Disjoint;
use crate::precision::Precision;

/// Fails unless all weights have the first one's shape, which is returned: output and input features.
fn shape_of(ws: &[Matrix<'_>]) -> Result<(usize, usize), KernelError> {
    let Some(first) = ws.first() else { return Ok((0, 0)) };
    for w in ws {
        w.check()?;
        expect_len("rows of a weight", w.rows, first.rows)?;
        expect_len("columns of a weight", w.cols, first.cols)?;
    }
    Ok((first.rows, first.cols))
}

/// `ys[i][n, rows] = x[n, cols] · ws[i]ᵀ`, as [`super::linear_train`] of each, for weights of one shape.
pub fn linears_train(
    precision: Precision,
    x: &[f32],
    n: usize,
    ws: &[Matrix<'_>],
    ys: &mut [&mut [f32]],
) -> Result<(), KernelError> {
    let (rows, cols) = shape_of(ws)?;
    expect_len("outputs of linear layers", ys.len(), ws.len())?;
    if ws.is_empty() {
        return Ok(());
    }
    expect_len("linear input elements", x.len(), size("linear input", n, cols)?)?;
    for y in ys.iter() {
        expect_len("linear output elements", y.len(), size("linear output", n, rows)?)?;
    }
    let products: Vec<Product<'_>> = ws
        .iter()
        .map(|w| Product {
            a: x,
            lies: Lies::ByRows,
            b: w.values,
            b_transposed: true,
            rows: n,
            columns: rows,
            depth: cols,
            scale: 1.0,
            add: false,
        })
        .collect();
    if products.iter().all(product::transposes) {
        let cs: Vec<Disjoint<'_>> = ys.iter_mut().map(|y| Disjoint::new(y)).collect();
        return product::run_together(precision, &products, &cs);
    }
    for (w, y) in ws.iter().zip(ys) {
        linear_train(precision, x, n, *w, y)?;
    }
    Ok(())
}

/// The gradient of the input of linear layers of one shape: `dx[n, cols] = Σ dys[i][n, rows] · ws[i]`. `dx` is overwritten.
pub fn linears_backward_input(
    precision: Precision,
    dys: &[&[f32]],
    n: usize,
    ws: &[Matrix<'_>],
    dx: &mut [f32],
) -> Result<(), KernelError> {
    let (rows, cols) = shape_of(ws)?;
    expect_len("output gradients of linear layers", dys.len(), ws.len())?;
    if ws.is_empty() {
        dx.fill(0.0);
        return Ok(());
    }
    expect_len("linear input gradient elements", dx.len(), size("linear input gradient", n, cols)?)?;
    for dy in dys {
        expect_len("linear output gradient elements", dy.len(), size("linear output gradient", n, rows)?)?;
    }
    let products: Vec<Product<'_>> = ws
        .iter()
        .zip(dys)
        .enumerate()
        .map(|(index, (w, dy))| Product {
            a: dy,
            lies: Lies::ByRows,
            b: w.values,
            b_transposed: false,
            rows: n,
            columns: cols,
            depth: rows,
            scale: 1.0,
            add: index > 0,
        })
        .collect();
    product::accumulate(precision, &products, dx)
}

/// A weight's gradient as [`linears_backward_weight`] makes it.
pub struct WeightGradient<'a> {
    /// `[n, rows]`, of the layer's output.
    pub dy: &'a [f32],
    /// `[rows, cols]`
    pub dw: &'a mut [f32],
    /// Whether it is added to what `dw` holds, or written in its place.
    pub add: bool,
}

/// The gradients of the weights `[rows, cols]` of linear layers over the same `x [n, cols]`; see
/// [`super::linear_backward_weight`].
pub fn linears_backward_weight(
    precision: Precision,
    x: &[f32],
    n: usize,
    rows: usize,
    cols: usize,
    gradients: &mut [WeightGradient<'_>],
) -> Result<(), KernelError> {
    expect_len("linear input elements", x.len(), size("linear input", n, cols)?)?;
    for WeightGradient { dy, dw, .. } in gradients.iter() {
        expect_len("linear output gradient elements", dy.len(), size("linear output gradient", n, rows)?)?;
        expect_len("weight gradient elements", dw.len(), size("weight gradient", rows, cols)?)?;
    }
    let (products, cs): (Vec<Product<'_>>, Vec<Disjoint<'_>>) = gradients
        .iter_mut()
        .map(|gradient| {
            let product = Product {
                a: gradient.dy,
                lies: Lies::ByColumns,
                b: Values::F32(x),
                b_transposed: false,
                rows,
                columns: cols,
                depth: n,
                scale: 1.0,
                add: gradient.add,
            };
            (product, Disjoint::new(gradient.dw))
        })
        .unzip();
    product::run_together(precision, &products, &cs)
}
