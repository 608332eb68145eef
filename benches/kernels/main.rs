//! Times the kernels on base-8's shapes, each only after its result matched the reference.
//!
//! `cargo bench -p switch-kernels -- [words to look for in names]`; `SWITCH_ISA` and `SWITCH_NUM_THREADS` choose the
//! instruction set and the threads. Times are the best of several runs.

mod clock;
mod layers;
mod machine;
mod products;
mod quantised;
mod training;

use switch_kernels::{isa, parallel};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    println!("instruction set {}, {} threads", isa::active().name(), parallel::threads());
    let wanted = |name: &str| words.is_empty() || words.iter().all(|word| name.contains(word.as_str()));
    if wanted("machine") {
        machine::print_limits();
    }
    products::run(&wanted);
    quantised::run(&wanted);
    layers::run(&wanted);
    training::run(&wanted);
}
