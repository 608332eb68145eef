//! The way back through attention: probabilities are computed again from the log-sum-exp, a few queries at a time.

use super::attention::{add_to, first_numbers, hidden_of, line_of, scores_of, sum, Ahead, Scores, LANES, TILE_QUERIES};
use super::dropout::Dropout;
use super::product::{outer, Outer};
use crate::attention::AttentionRow;
use crate::error::{expect_len, product, KernelError};
use crate::math;
use crate::parallel::{self, Disjoint};
use crate::scratch;
use crate::simd::{self, Op, Simd};
use std::sync::Mutex;

/// Parts that rows are cut in at most when the bias has a gradient; each has its own sum. Part of the numerical definition.
const MAX_PARTS: usize = 8;

/// The way back through [`super::attention_train`]: `out` and `lse` are what that gave, `dout` the gradient of `out`.
///
/// `dq`, `dk` and `dv` are overwritten, per row in the shapes of `q`, `k` and `v`; rows do not share keys. `dbias`, `[heads,
/// span]` as the values of the rows' [`crate::RelativeBias`], which all have the same span, is added to. The gradient of a
/// query that may see no key is that of a softmax over equal scores, as in the reference, whose mask adds the same number
/// to each; distances past the span's end, which only such a query can have, count as its last.
#[allow(clippy::too_many_arguments)] // All are needed.
pub fn attention_backward(
    rows: &[AttentionRow<'_>],
    heads: usize,
    head_dim: usize,
    dropout: &Dropout,
    out: &[&[f32]],
    lse: &[&[f32]],
    dout: &[&[f32]],
    dq: &mut [&mut [f32]],
    dk: &mut [&mut [f32]],
    dv: &mut [&mut [f32]],
    dbias: Option<&mut [f32]>,
) -> Result<(), KernelError> {
    let width = product("heads * head_dim", heads, head_dim)?;
    for (what, found) in [
        ("attention output rows", out.len()),
        ("log-sum-exp rows", lse.len()),
        ("attention output gradient rows", dout.len()),
        ("query gradient rows", dq.len()),
        ("key gradient rows", dk.len()),
        ("value gradient rows", dv.len()),
    ] {
        expect_len(what, found, rows.len())?;
    }
    for (i, row) in rows.iter().enumerate() {
        row.check(heads, width)?;
        expect_len("attention output elements", out[i].len(), row.q.len())?;
        expect_len("log-sum-exp elements", lse[i].len(), product("log-sum-exp", heads, row.q_len)?)?;
        expect_len("attention output gradient elements", dout[i].len(), row.q.len())?;
        expect_len("query gradient elements", dq[i].len(), row.q.len())?;
        expect_len("key gradient elements", dk[i].len(), row.k.len())?;
        expect_len("value gradient elements", dv[i].len(), row.v.len())?;
    }
    let span = span_of(rows, heads, dbias.as_deref())?;
    if width == 0 {
        return Ok(());
    }
    // Without a bias's gradient every row can be a part.
    let size = if span > 0 { rows.len().div_ceil(MAX_PARTS).max(1) } else { 1 };
    let parts = rows.len().div_ceil(size);
    let what = "sums of the bias's gradient";
    let mut sums = scratch::take(what, product(what, parts, product(what, heads, span)?)?)?;
    sums.fill(0.0);
    let scores = scores_of(rows)?;
    let numbers = first_numbers(rows, heads);
    let failure = Mutex::new(Ok(()));
    {
        let sums = Disjoint::new(&mut sums);
        let to_q: Vec<Disjoint<'_>> = dq.iter_mut().map(|to| Disjoint::new(to)).collect();
        let to_k: Vec<Disjoint<'_>> = dk.iter_mut().map(|to| Disjoint::new(to)).collect();
        let to_v: Vec<Disjoint<'_>> = dv.iter_mut().map(|to| Disjoint::new(to)).collect();
        // A row's heads lie side by side: one after another they are read as they lie.
        let together = if parts >= parallel::threads() * 4 { heads } else { 1 };
        parallel::for_each_task(parts * heads / together, |task| {
            let (part, first) = (task * together / heads, task * together % heads);
            let buffers = scratch::take("attention scores", scores)
                .and_then(|p| Ok((p, scratch::take("attention scores' gradients", scores)?)))
                .and_then(|(p, ds)| Ok((p, ds, scratch::take("a mask", hidden_of(rows))?)));
            let (mut p, mut ds, mut hidden) = match buffers {
                Ok(buffers) => buffers,
                Err(error) => return *failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Err(error),
            };
            let rows_of_part = part * size..((part + 1) * size).min(rows.len());
            for (index, head) in rows_of_part.flat_map(|index| (first..first + together).map(move |head| (index, head)))
            {
                let (row, place) = (&rows[index], (part * heads + head) * span);
                let back = Backward {
                    scores: Scores { row, head, head_dim, width, dropout, first: numbers[index] },
                    p: &mut p,
                    ds: &mut ds,
                    hidden: &mut hidden,
                    out: out[index],
                    lse: &lse[index][head * row.q_len..(head + 1) * row.q_len],
                    dout: dout[index],
                    dq: to_q[index].as_ptr(),
                    dk: to_k[index].as_ptr(),
                    dv: to_v[index].as_ptr(),
                    // SAFETY: each part of a head has its own sums.
                    dbias: unsafe { sums.slice(place..place + span) },
                };
                if let Some(next) = rows.get(index + 1) {
                    let values = [next.q, next.k, next.v, out[index + 1], dout[index + 1]];
                    simd::run(Ahead { values, part: head, parts: heads });
                }
                simd::run(back);
            }
        });
    }
    failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())?;
    if let Some(dbias) = dbias.filter(|dbias| !dbias.is_empty()) {
        for sums in sums.chunks_exact(dbias.len()) {
            for (to, sum) in dbias.iter_mut().zip(sums) {
                *to += sum;
            }
        }
    }
    Ok(())
}

/// The span of the bias's gradient, 0 if none is wanted.
fn span_of(rows: &[AttentionRow<'_>], heads: usize, dbias: Option<&[f32]>) -> Result<usize, KernelError> {
    let Some(dbias) = dbias else { return Ok(0) };
    let mut spans = rows.iter().filter_map(|row| row.bias.map(|bias| bias.span));
    let Some(span) = spans.next() else { return Ok(0) };
    for other in spans {
        expect_len("span of a relative bias, as of the other rows", other, span)?;
    }
    expect_len("relative bias gradient elements", dbias.len(), product("relative bias gradient", heads, span)?)?;
    Ok(span)
}

struct Backward<'a> {
    scores: Scores<'a>,
    p: &'a mut [f32],
    ds: &'a mut [f32],
    /// Room for the mask.
    hidden: &'a mut [f32],
    out: &'a [f32],
    /// The head's.
    lse: &'a [f32],
    dout: &'a [f32],
    /// The row's gradients; this head is written only.
    dq: *mut f32,
    dk: *mut f32,
    dv: *mut f32,
    /// `[span]`, or empty.
    dbias: &'a mut [f32],
}

impl Op for Backward<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { scores, p: p_tile, ds: ds_tile, hidden, out, lse, dout, dq, dk, dv, dbias } = self;
        let Scores { row, head, head_dim, width, dropout, .. } = scores;
        let (keys, column) = (row.kv_len, head * head_dim);
        let first_allowed = scores.first_allowed();
        let hidden = scores.hidden(hidden);
        // SAFETY (all): lengths were checked, and no other task writes this head's gradients.
        unsafe {
            for key in 0..keys {
                std::slice::from_raw_parts_mut(dk.add(key * width + column), head_dim).fill(0.0);
                std::slice::from_raw_parts_mut(dv.add(key * width + column), head_dim).fill(0.0);
            }
            if keys == 0 {
                for query in 0..row.q_len {
                    std::slice::from_raw_parts_mut(dq.add(query * width + column), head_dim).fill(0.0);
                }
                return;
            }
        }
        for start in (0..row.q_len).step_by(TILE_QUERIES) {
            let queries = start..(start + TILE_QUERIES).min(row.q_len);
            let visible = row.visible(queries.end - 1);
            let lonely = queries.clone().any(|query| scores.seen(query, first_allowed).is_none());
            let used = if lonely { keys } else { visible };
            // SAFETY: lengths were checked, and buffers hold a tile.
            unsafe {
                scores.dots(row.q, &queries, row.k, visible, p_tile);
                scores.dots(dout, &queries, row.v, used, ds_tile);
            }
            // Step by step over all queries, as on the way there. In whole vectors, in which what lies past the keys has no
            // probability and no gradient.
            let line = line_of(keys);
            for (query, p) in queries.clone().zip(p_tile.chunks_exact_mut(line)) {
                if let Some(visible) = scores.seen(query, first_allowed) {
                    scores.mask::<S>(query, visible, hidden, p);
                }
            }
            for (query, p) in queries.clone().zip(p_tile.chunks_exact_mut(line)) {
                let lse = lse[query];
                for chunk in p.chunks_exact_mut(LANES) {
                    for x in chunk {
                        *x = math::exp::<S>(*x - lse);
                    }
                }
            }
            if lonely {
                for (query, p) in queries.clone().zip(p_tile.chunks_exact_mut(line)) {
                    if scores.seen(query, first_allowed).is_none() {
                        p.fill(0.0);
                        p[..used].fill(1.0 / keys as f32);
                    }
                }
            }
            let mut deltas = [0f32; TILE_QUERIES];
            for (query, delta) in queries.clone().zip(&mut deltas) {
                let at = query * width + column..query * width + column + head_dim;
                *delta = dot::<S>(&out[at.clone()], &dout[at]);
            }
            if !dropout.is_none() {
                for (query, ds) in queries.clone().zip(ds_tile.chunks_exact_mut(line)) {
                    dropout.apply_inline(scores.number(query), &mut ds[..used]);
                }
            }
            let lines = p_tile.chunks_exact(line).zip(ds_tile.chunks_exact_mut(line));
            for ((p, ds), delta) in lines.zip(&deltas[..queries.len()]) {
                for (i, (ds, p)) in ds.chunks_exact_mut(LANES).zip(p.chunks_exact(LANES)).enumerate() {
                    let left = used.saturating_sub(i * LANES).min(LANES) as u32;
                    for (lane, (ds, p)) in ds.iter_mut().zip(p).enumerate() {
                        *ds = if (lane as u32) < left { p * (*ds - delta) } else { 0.0 };
                    }
                }
            }
            if !dropout.is_none() {
                for (query, p) in queries.clone().zip(p_tile.chunks_exact_mut(line)) {
                    dropout.apply_inline(scores.number(query), &mut p[..used]);
                }
            }
            for (query, ds) in queries.clone().zip(ds_tile.chunks_exact(line)) {
                add_by_distance::<S>(&scores, query, &ds[..used], dbias);
            }
            // SAFETY: as above.
            unsafe {
                let by_key = |a: &[f32], b: &[f32], c: *mut f32| Outer {
                    a: a.as_ptr(),
                    a_row: 1,
                    a_step: line,
                    b: b.as_ptr().add(start * width + column),
                    b_stride: width,
                    depth: queries.len(),
                    c: c.add(column),
                    c_stride: width,
                    add: true,
                };
                outer(by_key(p_tile, dout, dv), used, head_dim);
                outer(by_key(ds_tile, row.q, dk), used, head_dim);
                let by_query = Outer {
                    a: ds_tile.as_ptr(),
                    a_row: line,
                    a_step: 1,
                    b: row.k.as_ptr().add(column),
                    b_stride: width,
                    depth: used,
                    c: dq.add(start * width + column),
                    c_stride: width,
                    add: false,
                };
                outer(by_query, queries.len(), head_dim);
            }
        }
    }
}

#[inline(always)]
fn add_by_distance<S: Simd>(scores: &Scores<'_>, query: usize, ds: &[f32], dbias: &mut [f32]) {
    let Some(bias) = &scores.row.bias else { return };
    let Some(last) = dbias.len().checked_sub(1) else { return };
    let first = bias.zero - (bias.q_start + query);
    let inside = ds.len().min(dbias.len() - first.min(dbias.len()));
    add_to::<S>(&mut dbias[first.min(last)..], &ds[..inside]);
    for ds in &ds[inside..] {
        dbias[last] += ds;
    }
}

#[inline(always)]
fn dot<S: Simd>(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    let (a_chunks, b_chunks) = (a.chunks_exact(16), b.chunks_exact(16));
    for ((lane, a), b) in lanes.iter_mut().zip(a_chunks.remainder()).zip(b_chunks.remainder()) {
        *lane = a * b;
    }
    for (a, b) in a_chunks.zip(b_chunks) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane = math::fma::<S>(*a, *b, *lane);
        }
    }
    sum(lanes)
}
