//! Launches on the host: a library with every kernel by name.

use std::ffi::{c_char, c_int, c_uint, c_void, CStr, CString};
use std::sync::{Mutex, OnceLock};

use switch_kernels::cuda::{Address, Argument, Launch, Launches};

extern "C" {
    fn dlopen(path: *const c_char, mode: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dlerror() -> *const c_char;
}

struct Library {
    order: extern "C" fn(c_int),
    failure: extern "C" fn() -> *const c_char,
    parameters: extern "C" fn(*const c_char, *mut c_int, c_int) -> c_int,
    launch: extern "C" fn(*const c_char, *const c_uint, *const c_uint, c_uint, *mut *mut c_void) -> c_int,
}

fn library() -> &'static Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let path = std::env::var("SWITCH_CUDA_HOST").expect("SWITCH_CUDA_HOST: run `npm run test:cuda-host`");
        let path = CString::new(path).unwrap();
        // SAFETY: plain calls of the dynamic linker; the signatures are those of host_shim.cpp.
        unsafe {
            let library = dlopen(path.as_ptr(), 2);
            assert!(!library.is_null(), "{}", CStr::from_ptr(dlerror()).to_string_lossy());
            let find = |name: &CStr| {
                let symbol = dlsym(library, name.as_ptr());
                assert!(!symbol.is_null(), "no {name:?}");
                symbol
            };
            Library {
                order: std::mem::transmute::<*mut c_void, extern "C" fn(c_int)>(find(c"switch_host_order")),
                failure: std::mem::transmute::<*mut c_void, extern "C" fn() -> *const c_char>(find(
                    c"switch_host_failure",
                )),
                parameters: std::mem::transmute::<
                    *mut c_void,
                    extern "C" fn(*const c_char, *mut c_int, c_int) -> c_int,
                >(find(c"switch_host_parameters")),
                launch: std::mem::transmute::<
                    *mut c_void,
                    extern "C" fn(*const c_char, *const c_uint, *const c_uint, c_uint, *mut *mut c_void) -> c_int,
                >(find(c"switch_host_launch")),
            }
        }
    })
}

/// Where a slice lies.
pub fn at<T>(values: &[T]) -> Address {
    values.as_ptr() as usize as Address
}

/// Where a slice lies that a kernel writes.
pub fn out<T>(values: &mut [T]) -> Address {
    values.as_mut_ptr() as usize as Address
}

fn run(launch: &Launch) {
    let library = library();
    let name = CString::new(launch.kernel).unwrap();
    let mut sizes = [0 as c_int; 32];
    let count = (library.parameters)(name.as_ptr(), sizes.as_mut_ptr(), 32);
    let found: Vec<c_int> = launch.arguments.iter().map(|Argument(bytes)| bytes.len() as c_int).collect();
    assert_eq!(found, sizes[..count.max(0) as usize], "sizes of the arguments of {}", launch.kernel);
    // Arguments are read where they are aligned for any type.
    let mut words: Vec<Vec<u64>> = launch.arguments.iter().map(|a| vec![0; a.0.len().div_ceil(8)]).collect();
    let mut arguments: Vec<*mut c_void> = Vec::new();
    for (words, Argument(bytes)) in words.iter_mut().zip(&launch.arguments) {
        let to = words.as_mut_ptr().cast::<u8>();
        // SAFETY: `words` has room for the bytes.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        arguments.push(to.cast());
    }
    let block = [launch.threads, 1, 1];
    let failed = (library.launch)(
        name.as_ptr(),
        launch.grid.as_ptr(),
        block.as_ptr(),
        launch.shared_bytes,
        arguments.as_mut_ptr(),
    );
    // SAFETY: a text that lives until the next launch.
    assert!(failed == 0, "{}", unsafe { CStr::from_ptr((library.failure)()) }.to_string_lossy());
}

/// Runs `case` with threads and blocks in three orders; results that differ mean that a barrier is missing. `case` makes
/// fresh buffers, pushes launches and, once they have run, gives what they wrote.
pub fn each_order<B>(
    make: impl Fn() -> B,
    push: impl Fn(&mut Launches, &mut B),
    result: impl Fn(B) -> Vec<f32>,
) -> Vec<f32> {
    // The library has one scheduler.
    static ONE: Mutex<()> = Mutex::new(());
    let _guard = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut first: Option<Vec<f32>> = None;
    for order in 0..3 {
        (library().order)(order);
        let mut buffers = make();
        let mut launches = Launches::new();
        push(&mut launches, &mut buffers);
        assert!(!launches.is_empty());
        launches.iter().for_each(run);
        let found = result(buffers);
        match &first {
            None => first = Some(found),
            Some(first) => {
                let differ = first.iter().zip(&found).position(|(a, b)| a.to_bits() != b.to_bits());
                assert!(differ.is_none(), "order {order} of threads changes result {differ:?}: a barrier is missing");
            }
        }
    }
    first.unwrap()
}
