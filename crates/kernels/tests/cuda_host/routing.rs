use switch_kernels::cuda::{route, Route};
use switch_kernels::{route_top1, Rounding, RouteOptions};

use crate::host::{at, each_order, out};
use crate::support::Random;

/// Logits with equal largest ones, infinities and NaN here and there.
fn logits(random: &mut Random, tokens: usize, experts: usize, strange: bool) -> Vec<f32> {
    let mut values: Vec<f32> = (0..tokens * experts).map(|_| random.unit() * 4.0).collect();
    for row in values.chunks_exact_mut(experts) {
        let (i, j) = (random.below(experts), random.below(experts));
        match random.below(if strange { 6 } else { 2 }) {
            0 => (row[i], row[j]) = (3.5, 3.5),
            2 => row[i] = f32::NAN,
            3 => row[i] = f32::INFINITY,
            4 => row.fill(f32::NEG_INFINITY),
            5 => row[i] = -1e30,
            _ => {}
        }
    }
    values
}

fn case(lens: &[usize], experts: usize, options: &RouteOptions, strange: bool) {
    let tokens: usize = lens.iter().sum();
    let mut random = Random((tokens * 31 + experts) as u64);
    let values = logits(&mut random, tokens, experts, strange);
    let mask: Vec<u8> = (0..tokens).map(|_| u8::from(random.below(5) != 0)).collect();
    let mut starts = vec![0i32];
    lens.iter().for_each(|len| starts.push(starts[starts.len() - 1] + *len as i32));
    let capacities = vec![options.capacity.map_or(-1, |c| c as i32); lens.len()];
    let found = each_order(
        || (vec![-7i32; tokens], vec![-7i32; tokens], vec![-7f32; tokens]),
        |launches, (expert, slot, weight)| {
            let r = Route {
                logits: at(&values),
                mask: at(&mask),
                starts: at(&starts),
                capacities: at(&capacities),
                expert: out(expert),
                slot: out(slot),
                weight: out(weight),
            };
            let longest = lens.iter().copied().max().unwrap_or(0);
            route(launches, &r, tokens, lens.len(), longest, experts, options).unwrap();
        },
        |(expert, slot, weight)| {
            let ints = expert.iter().chain(&slot).map(|i| *i as f32);
            ints.chain(weight).collect()
        },
    );
    let mut expected = [Vec::new(), Vec::new(), Vec::new()];
    for (len, start) in lens.iter().zip(&starts) {
        let start = *start as usize;
        let part = &values[start * experts..(start + len) * experts];
        let routes = route_top1(part, 1, *len, experts, Some(&mask[start..start + len]), options).unwrap();
        expected[0].extend(routes.expert.iter().map(|i| *i as f32));
        expected[1].extend(routes.slot.iter().map(|i| *i as f32));
        expected[2].extend(routes.weight);
    }
    for (i, (a, b)) in found.iter().zip(expected.iter().flatten()).enumerate() {
        let same = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        assert!(same, "{lens:?} tokens, {experts} experts, {options:?}: value {i} is {a}, expected {b}");
    }
}

#[test]
fn decisions_are_the_cpus_to_the_bit() {
    for experts in [1, 2, 8, 33, 128] {
        for rounding in [Rounding::None, Rounding::F16, Rounding::Bf16] {
            for strange in [false, true] {
                let reference = RouteOptions { rounding, ..RouteOptions::reference(3) };
                case(&[17, 40, 1, 64], experts, &reference, strange);
                case(&[90], experts, &RouteOptions { rounding, ..RouteOptions::dropless() }, strange);
                let original = RouteOptions { rounding, ..RouteOptions::original(4, true) };
                case(&[33, 50], experts, &original, strange);
                case(&[33, 50], experts, &RouteOptions { batch_prioritized: false, ..original }, strange);
            }
        }
    }
    case(&[5, 0, 7], 4, &RouteOptions::reference(0), false);
    case(&[12], 2048, &RouteOptions::reference(1), false);
}
