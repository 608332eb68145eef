//! Training: fast kernels against slow ones, and slow ones against differences.

#[path = "../support/mod.rs"]
mod support;

mod attention;
mod differences;
mod dropout;
mod faults;
mod feed_forward;
mod linear;
mod linears;
mod loss;
mod optimiser;
mod pointwise;

use switch_kernels::parallel;

/// Runs `case` with one thread, two and five, and asserts that results are the same to the bit.
pub fn each_thread_count(what: &str, case: impl Fn() -> Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    let mut results = Vec::new();
    for threads in [1, 2, 5] {
        parallel::set_threads(threads);
        results.push(case());
    }
    parallel::set_threads(0);
    let bits = |result: &Vec<Vec<f32>>| -> Vec<Vec<u32>> {
        result.iter().map(|x| x.iter().map(|x| x.to_bits()).collect()).collect()
    };
    let first = bits(&results[0]);
    assert!(results.iter().all(|result| bits(result) == first), "{what}: depends on the number of threads");
    results.swap_remove(0)
}
