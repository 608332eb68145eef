//! Norm, embedding and route.

use crate::each_thread_count;
use crate::support::*;
use switch_kernels::training::{embedding_backward, reference, rms_norm_backward, route_backward};
use switch_kernels::Routes;

#[test]
fn norm_gradients_match_the_reference() {
    each_isa(|isa| {
        let mut random = Random(32);
        for (rows, width) in [(0, 8), (1, 1), (3, 7), (65, 33), (200, 128), (513, 96)] {
            let (x, weight, dy) = (random.vec(rows * width), random.vec(width), random.vec(rows * width));
            let before = random.vec(width);
            let what = format!("{isa} {rows}x{width}");
            let found = each_thread_count(&what, || {
                let (mut dx, mut again) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
                let mut dweight = before.clone();
                rms_norm_backward(&x, width, &weight, 1e-3, &dy, &mut dx, Some(&mut dweight)).unwrap();
                rms_norm_backward(&x, width, &weight, 1e-3, &dy, &mut again, None).unwrap();
                assert_eq!(dx, again);
                vec![dx, dweight]
            });
            let wide = reference::widen;
            let (dx, mut dweight) =
                reference::rms_norm_backward(&wide(&x), width, &wide(&weight), f64::from(1e-3f32), &wide(&dy));
            for (to, before) in dweight.iter_mut().zip(&before) {
                *to += f64::from(*before);
            }
            assert_close(&found[0], &reference::narrow(&dx), 2e-6, &what);
            assert_close(&found[1], &reference::narrow(&dweight), 2e-6, &what);
        }
    });
}

#[test]
fn embedding_gradients_are_added_to_the_rows_of_their_ids() {
    let mut random = Random(33);
    for (n, rows, width) in [(0, 2, 3), (5, 3, 1), (300, 20, 130)] {
        let ids: Vec<u32> = (0..n).map(|_| random.below(rows) as u32).collect();
        let (dy, before) = (random.vec(n * width), random.vec(rows * width));
        let mut expected = before.clone();
        for (t, &id) in ids.iter().enumerate() {
            for c in 0..width {
                expected[id as usize * width + c] += dy[t * width + c];
            }
        }
        let found = each_thread_count("embedding", || {
            let mut table = before.clone();
            embedding_backward(&dy, &ids, width, &mut table).unwrap();
            vec![table]
        });
        assert_eq!(found[0], expected);
    }
}

#[test]
fn route_gradients_match_differences_of_the_gate() {
    let mut random = Random(34);
    let experts = 5;
    let logits: Vec<f32> = random.vec(20 * experts).iter().map(|x| x * 3.0).collect();
    let expert: Vec<i32> = (0..20).map(|t| if t % 7 == 3 { -1 } else { random.below(experts) as i32 }).collect();
    let routes = Routes { slot: vec![0; 20], weight: vec![0.5; 20], expert };
    let (dgate, before) = (random.vec(20), random.vec(20 * experts));
    let mut found = before.clone();
    route_backward(&logits, experts, &routes, &dgate, &mut found).unwrap();
    let gate = |logits: &[f64], expert: usize| switch_kernels::reference::softmax(logits)[expert];
    let mut expected = reference::widen(&before);
    for t in 0..20 {
        let Ok(expert) = usize::try_from(routes.expert[t]) else { continue };
        for e in 0..experts {
            let at = |step: f64| {
                let mut row = reference::widen(&logits[t * experts..][..experts]);
                row[e] += step;
                gate(&row, expert)
            };
            expected[t * experts + e] += f64::from(dgate[t]) * (at(1e-5) - at(-1e-5)) / 2e-5;
        }
    }
    assert_close(&found, &reference::narrow(&expected), 1e-6, "route");
}
