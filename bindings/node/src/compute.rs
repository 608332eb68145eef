//! The one thread that computes: jobs run in the order in which they were asked for, inside a rayon pool.
//!
//! One thread, whatever the number of environments (worker threads) that loaded the addon: kernels use every core
//! already, and two jobs at once would only halve each other. The thread is detached, so it never keeps a process
//! alive; what keeps Node waiting is the promise of a job, as with any other asynchronous call.

use std::sync::mpsc::{channel, Sender};
use std::sync::OnceLock;
use std::time::Instant;

use rayon::{ThreadPool, ThreadPoolBuilder};
use switch_engine::{Failure, Host, Reply, Tensor};

use crate::wire::JsSource;
use crate::{panics, source};

pub struct Job {
    pub operation: &'static str,
    pub request: String,
    pub tensors: Vec<Tensor>,
    pub sources: Vec<JsSource>,
    pub settle: Box<dyn FnOnce(Result<Reply, Failure>) + Send>,
}

/// More threads than this is taken for a mistake.
const MOST_THREADS: u64 = 1024;
const STACK_BYTES: usize = 8 << 20;

/// Queues a job. Never waits.
pub fn submit(job: Job) {
    static QUEUE: OnceLock<Option<Sender<Job>>> = OnceLock::new();
    let queue = QUEUE.get_or_init(|| {
        panics::install_hook();
        let (sender, receiver) = channel::<Job>();
        let thread = std::thread::Builder::new().name("switch-compute".into()).spawn(move || {
            let mut pool = None;
            for job in receiver {
                let Job { operation, request, tensors, sources, settle } = job;
                settle(panics::guard(|| run(&mut pool, operation, &request, tensors, &sources)));
            }
        });
        thread.ok().map(|_| sender)
    });
    let refused = match queue {
        Some(queue) => queue.send(job).err().map(|refused| refused.0),
        None => Some(job),
    };
    if let Some(job) = refused {
        (job.settle)(Err(Failure::new("OUT_OF_MEMORY", "the compute thread could not be started")));
    }
}

fn run(
    pool: &mut Option<ThreadPool>,
    operation: &str,
    request: &str,
    tensors: Vec<Tensor>,
    sources: &[JsSource],
) -> Result<Reply, Failure> {
    if operation == "set_threads" {
        *pool = Some(build_pool(requested_threads(request)?)?);
    }
    let pool = match pool {
        Some(pool) => pool,
        None => pool.insert(build_pool(default_threads()?)?),
    };
    switch_engine::set_host(Host { backend: "native", now_ms, threads: pool.current_num_threads(), available_memory });
    let sources = sources.iter().map(source::open).collect::<Result<Vec<_>, _>>()?;
    pool.install(|| switch_engine::call(operation, request, tensors, sources))
}

fn build_pool(threads: usize) -> Result<ThreadPool, Failure> {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .stack_size(STACK_BYTES)
        .thread_name(|index| format!("switch-compute-{index}"))
        // Without a handler a panic in a detached task would abort the process.
        .panic_handler(|_| {})
        .build()
        .map_err(|error| Failure::new("OUT_OF_MEMORY", format!("{threads} threads could not be started: {error}")))
}

fn threads_from(value: Option<u64>, found: &str, place: &str) -> Result<usize, Failure> {
    value.filter(|threads| (1..=MOST_THREADS).contains(threads)).map(|threads| threads as usize).ok_or_else(|| {
        Failure::new(
            "INVALID_OPTION",
            format!("{place} is {found}; it must be a whole number from 1 to {MOST_THREADS}"),
        )
    })
}

fn requested_threads(request: &str) -> Result<usize, Failure> {
    let request: serde_json::Value = serde_json::from_str(request)
        .map_err(|error| Failure::new("INVALID_OPTION", format!("set_threads: the request is not JSON: {error}")))?;
    threads_from(request["threads"].as_u64(), &request["threads"].to_string(), "threads")
}

/// `SWITCH_NUM_THREADS`, or as many threads as this process may run at once.
fn default_threads() -> Result<usize, Failure> {
    match std::env::var_os("SWITCH_NUM_THREADS") {
        Some(text) if !text.is_empty() => {
            let text = text.to_string_lossy();
            threads_from(text.trim().parse().ok(), &format!("{text:?}"), "SWITCH_NUM_THREADS")
        }
        _ => Ok(std::thread::available_parallelism().map_or(1, |threads| threads.get())),
    }
}

fn now_ms() -> f64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64() * 1e3
}

/// `MemAvailable` of Linux; other systems are not asked.
fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
