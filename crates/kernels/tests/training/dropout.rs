use crate::support::*;
use switch_kernels::parallel;
use switch_kernels::training::{dropout, Dropout};

#[test]
fn an_elements_mask_depends_on_seed_and_number_alone() {
    each_isa(|isa| {
        let d = Dropout { rate: 0.3, seed: 7 };
        let x = Random(1).vec(100_001);
        for threads in [1, 2] {
            parallel::set_threads(threads);
            let mut y = vec![f32::NAN; x.len()];
            dropout(&d, &x, &mut y);
            for (i, (x, y)) in x.iter().zip(&y).enumerate() {
                assert_eq!(x * d.factor(i as u64), *y, "{isa} element {i}");
            }
        }
        parallel::set_threads(0);
        // Also where numbers pass 32 bits.
        let first = (1u64 << 32) - 37;
        let mut y = x[..100].to_vec();
        d.apply(first, &mut y);
        for i in 0..100 {
            assert_eq!(y[i], x[i] * d.factor(first + i as u64), "{isa} element {i} past 2^32");
        }
    });
}

/// Frozen: saved training runs go on with the same masks.
#[test]
fn masks_stay_what_they_are() {
    let mask = |seed, first| {
        let d = Dropout { rate: 0.5, seed };
        (0..32u64).fold(0u32, |bits, i| bits << 1 | u32::from(d.factor(first + i) != 0.0))
    };
    assert_eq!([mask(0, 0), mask(1, 0), mask(u64::MAX, 1 << 40)], [MASKS[0], MASKS[1], MASKS[2]]);
}

const MASKS: [u32; 3] = [3_426_065_290, 637_313_880, 4_230_551_720];

#[test]
fn the_rate_is_kept_and_neighbours_are_independent() {
    let n = 1 << 20;
    for rate in [0.1f32, 0.5, 0.9] {
        let kept = |seed| -> Vec<bool> {
            let d = Dropout { rate, seed };
            (0..n).map(|i| d.factor(i) != 0.0).collect()
        };
        let (a, b) = (kept(1), kept(2));
        let share = |it: &mut dyn Iterator<Item = bool>| it.filter(|&x| x).count() as f64 / n as f64;
        let keep = 1.0 - f64::from(rate);
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 3e-3, "{rate}: {found} {expected}");
        near(share(&mut a.iter().copied()), keep);
        near(share(&mut a.iter().zip(&b).map(|(a, b)| *a && *b)), keep * keep);
        for distance in [1, 2, 64, 4096] {
            near(share(&mut a.iter().zip(&a[distance..]).map(|(a, b)| *a && *b)), keep * keep);
        }
    }
}

#[test]
fn kept_elements_are_scaled_and_rates_at_the_ends_make_sense() {
    let factors = |rate| -> Vec<f32> { (0..1000).map(|i| Dropout { rate, seed: 3 }.factor(i)).collect() };
    assert!(factors(0.25).iter().all(|&f| f == 0.0 || f == 1.0 / 0.75));
    assert!(factors(0.0).iter().all(|&f| f == 1.0));
    assert!(factors(f32::NAN).iter().all(|&f| f == 1.0));
    assert!(factors(1.0).iter().all(|&f| f == 0.0));
    let mut x = [1.0; 4];
    Dropout::NONE.apply(0, &mut x);
    assert_eq!(x, [1.0; 4]);
    dropout(&Dropout::NONE, &[2.0, 3.0], &mut x);
    assert_eq!(x, [2.0, 3.0, 1.0, 1.0]);
}
