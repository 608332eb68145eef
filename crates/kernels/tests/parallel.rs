//! The pool: every task once, panics passed on, nesting and concurrent callers.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use switch_kernels::parallel::{for_each_range, for_each_row_chunk, for_each_task, set_threads};

fn each_task_once() {
    for count in [0, 1, 2, 3, 100] {
        let hits: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
        for_each_task(count, |i| {
            hits[i].fetch_add(1, Ordering::Relaxed);
        });
        assert!(hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 1));
    }
}

#[test]
fn every_task_runs_once_for_any_number_of_threads() {
    for threads in [1, 2, 3, 8, 0] {
        set_threads(threads);
        for _ in 0..200 {
            each_task_once();
        }
        for n in [0, 1, 7, 64, 1000] {
            for grain in [0, 1, 8, 33, usize::MAX] {
                let hits: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
                for_each_range(n, grain, |range| {
                    assert!(range.start % grain.max(1) == 0);
                    range.for_each(|i| {
                        hits[i].fetch_add(1, Ordering::Relaxed);
                    });
                });
                assert!(hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 1), "{n} by {grain}");
            }
        }
        let mut data = vec![0.0; 103];
        for_each_row_chunk(&mut data, 10, 1, |first, rows| {
            for (i, x) in rows.iter_mut().enumerate() {
                *x += (first * 10 + i) as f32;
            }
        });
        assert!(data.iter().enumerate().all(|(i, &x)| x == i as f32));
    }
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
    for _ in 0..20 {
        let result = catch_unwind(AssertUnwindSafe(|| for_each_task(50, |i| assert!(i != 20, "the twentieth"))));
        assert!(result.is_err());
        each_task_once();
    }
}

#[test]
fn regions_nest_and_callers_may_be_many() {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let sum = AtomicUsize::new(0);
                    for_each_task(5, |i| {
                        for_each_task(5, |j| {
                            sum.fetch_add(i * j, Ordering::Relaxed);
                        });
                    });
                    assert_eq!(sum.into_inner(), 100);
                }
            });
        }
    });
}
