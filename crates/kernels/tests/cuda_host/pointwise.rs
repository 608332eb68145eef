use half::{bf16, f16};
use switch_kernels::cuda::{self, RmsNorm, WeightType};
use switch_kernels::{reference, Rounding};

use crate::host::{at, each_order, out};
use crate::support::{assert_close, Random};

#[test]
fn norms_with_and_without_residual() {
    for (rows, d) in [(1, 1), (5, 40), (3, 300), (2, 1100)] {
        let mut random = Random(d as u64);
        let (x, r, w) = (random.vec(rows * d), random.vec(rows * d), random.vec(d));
        let norm = |residual: bool| {
            each_order(
                || (vec![f32::NAN; rows * d], vec![f32::NAN; rows * d]),
                |launches, (sum, y)| {
                    let p = RmsNorm { x: at(&x), weight: at(&w), eps: 1e-6, out: out(y), ..RmsNorm::default() };
                    let p = if residual { RmsNorm { residual: at(&r), sum: out(sum), ..p } } else { p };
                    cuda::rms_norm(launches, &p, rows, d).unwrap();
                },
                |(_, y)| y,
            )
        };
        assert_close(&norm(false), &reference::rms_norm(&x, d, &w, 1e-6), 1e-6, "norm");
        let sum: Vec<f32> = x.iter().zip(&r).map(|(a, b)| a + b).collect();
        assert_close(&norm(true), &reference::rms_norm(&sum, d, &w, 1e-6), 1e-6, "norm of a sum");
    }
}

#[test]
fn sums_scales_and_types() {
    let (rows, d) = (7, 51);
    let mut random = Random(1);
    let (a, b) = (random.vec(rows * d), random.vec(rows * d));
    let run = |push: &dyn Fn(&mut cuda::Launches, u64)| {
        each_order(|| vec![f32::NAN; rows * d], |launches, y| push(launches, out(y)), |y| y)
    };
    let expect = |of: &dyn Fn(usize) -> f32| (0..rows * d).map(of).collect::<Vec<f32>>();
    let found = run(&|l, y| cuda::add(l, at(&a), at(&b), rows * d, y).unwrap());
    assert_eq!(found, expect(&|i| a[i] + b[i]));
    let found = run(&|l, y| cuda::scale(l, at(&a), 0.3, rows * d, y).unwrap());
    assert_eq!(found, expect(&|i| a[i] * 0.3));
    let found = run(&|l, y| cuda::add_row(l, at(&a), at(&b), rows, d, y).unwrap());
    assert_eq!(found, expect(&|i| a[i] + b[i % d]));
    let found = run(&|l, y| cuda::round_to(l, at(&a), Rounding::Bf16, rows * d, y).unwrap());
    assert_eq!(found, expect(&|i| bf16::from_f32(a[i]).to_f32()));
    let found = run(&|l, y| cuda::round_to(l, at(&a), Rounding::F16, rows * d, y).unwrap());
    assert_eq!(found, expect(&|i| f16::from_f32(a[i]).to_f32()));
}

#[test]
fn halves_are_read_and_rounded_as_by_the_host() {
    // Every float16, and rounding at and around every one of them.
    let all: Vec<u16> = (0..=u16::MAX).collect();
    for (kind, widen) in [
        (WeightType::F16, (|bits| f16::from_bits(bits).to_f32()) as fn(u16) -> f32),
        (WeightType::Bf16, |bits| bf16::from_bits(bits).to_f32()),
    ] {
        let ids = [0u32];
        let found = each_order(
            || vec![0f32; all.len()],
            |l, y| cuda::embedding(l, at(&all), kind, at(&ids), 1, all.len(), out(y)).unwrap(),
            |y| y,
        );
        for (found, bits) in found.iter().zip(&all) {
            let expected = widen(*bits);
            assert!(
                found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan()),
                "{kind:?} {bits:#x}"
            );
        }
    }
    let mut values = Vec::new();
    for bits in 0..0x7c00u16 {
        let low = f16::from_bits(bits).to_f32();
        let middle = (low + f16::from_bits(bits + 1).to_f32()) / 2.0;
        values.extend([low, middle, f32::from_bits(middle.to_bits().wrapping_add(1)), -middle]);
    }
    let found = each_order(
        || vec![0f32; values.len()],
        |l, y| cuda::round_to(l, at(&values), Rounding::F16, values.len(), out(y)).unwrap(),
        |y| y,
    );
    for (found, value) in found.iter().zip(&values) {
        assert_eq!(found.to_bits(), f16::from_f32(*value).to_f32().to_bits(), "{value:e}");
    }
}

#[test]
fn rows_of_tables_and_caches() {
    let (vocab, d) = (11, 70);
    let mut random = Random(2);
    let table = random.vec(vocab * d);
    let ids = [3u32, 0, 10, 3];
    let found = each_order(
        || vec![0f32; ids.len() * d],
        |l, y| cuda::embedding(l, at(&table), WeightType::F32, at(&ids), ids.len(), d, out(y)).unwrap(),
        |y| y,
    );
    let expected: Vec<f32> = ids.iter().flat_map(|id| table[*id as usize * d..][..d].to_vec()).collect();
    assert_eq!(found, expected);
    let to = [5i32, 1];
    let found = each_order(
        || vec![0f32; 6 * d],
        |l, cache| cuda::scatter_rows(l, at(&table), at(&to), 2, d, out(cache)).unwrap(),
        |cache| cache,
    );
    assert_eq!((&found[5 * d..], &found[d..2 * d]), (&table[..d], &table[d..2 * d]));
    assert!(found[..d].iter().all(|x| *x == 0.0));
}

#[test]
fn argmax_takes_the_lowest_of_equals() {
    let n = 1500;
    let mut random = Random(5);
    let mut x = random.vec(4 * n);
    (x[700], x[701], x[60]) = (5.0, 5.0, 5.0);
    (x[n + 1499], x[2 * n]) = (5.0, 5.0);
    x[3 * n..].fill(f32::NEG_INFINITY);
    let found = each_order(
        || vec![7u32; 4],
        |l, y| cuda::argmax_rows(l, at(&x), 4, n, out(y)).unwrap(),
        |y| y.iter().map(|i| *i as f32).collect(),
    );
    assert_eq!(found, [60.0, 1499.0, 0.0, 0.0]);
}
