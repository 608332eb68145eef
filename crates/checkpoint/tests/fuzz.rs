//! Damaged files, by the thousand: whatever happens to the bytes, opening and reading return, without a panic and
//! without reading past what the file has. The seed is fixed: a failure names the round that repeats it.
mod common;

use common::zip::{honest, torch};
use common::*;
use switch_checkpoint::{Checkpoint, NamedSource};

/// Xorshift: small, fast and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }
}

/// One to four kinds of damage at random places.
fn damage(random: &mut Random, file: &mut Vec<u8>) {
    const TELLING: [u8; 12] = [0, 1, 0x7f, 0x80, 0xff, b'0', b'9', b'"', b'{', b'(', b'R', b'.'];
    for _ in 0..=random.below(4) {
        let at = random.below(file.len());
        match random.below(8) {
            0 => file.truncate(at),
            1 => file.insert(at, TELLING[random.below(TELLING.len())]),
            2 if !file.is_empty() => drop(file.remove(at)),
            3 => {
                let end = (at + random.below(16)).min(file.len());
                let piece = file[at..end].to_vec();
                let to = random.below(file.len());
                file.splice(to..to, piece);
            }
            4 => {
                let end = (at + 8).min(file.len());
                file[at..end].fill(TELLING[random.below(TELLING.len())]);
            }
            5 => {
                if let Some(byte) = file.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            _ => {
                if let Some(byte) = file.get_mut(at) {
                    *byte = TELLING[random.below(TELLING.len())];
                }
            }
        }
    }
}

fn survive(name: &str, good: &[u8], rounds: usize) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut opened = 0;
    for round in 0..rounds {
        let mut file = good.to_vec();
        damage(&mut random, &mut file);
        let result = std::panic::catch_unwind(|| use_all(name, &file));
        opened += result.unwrap_or_else(|_| panic!("{name}: round {round} panicked")) as usize;
    }
    // Damage to values goes unseen, damage to structure does not: both must occur for the test to mean something.
    assert!(opened > 0 && opened < rounds, "{name}: {opened} of {rounds} opened");
}

/// Opens the file, mapped and not, and reads all there is of a sane size. The two must agree.
fn use_all(name: &str, file: &[u8]) -> bool {
    let open = |source: NamedSource| Checkpoint::open(vec![source], None);
    let (a, b) = match (open(mapped(name, file.into())), open(unmapped(name, file.into()))) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(a), Err(b)) => {
            assert_eq!(a, b);
            assert!(a.to_string().len() < 4000);
            return false;
        }
        (a, b) => panic!("{:?} but {:?}", a.err(), b.err()),
    };
    for tensor in a.tensors() {
        assert_eq!(b.get(&tensor.name), Some(tensor));
        assert!(tensor.bytes() <= 8 << 20, "{tensor:?} of a file of {} bytes", file.len());
        let mut bytes = vec![0; tensor.bytes() as usize];
        a.read_bytes(tensor, 0, &mut bytes).unwrap();
        let mut again = bytes.clone();
        b.read_bytes(tensor, 0, &mut again).unwrap();
        assert!(bytes == again);
        if let Some(mapped) = a.mapped(tensor) {
            assert!(mapped.as_slice() == bytes);
        }
        let mut values = vec![0f32; tensor.elements() as usize];
        let readable = a.read_f32(tensor, &mut values).is_ok();
        assert!(readable || tensor.dtype.name().starts_with("F8"));
        assert_eq!(a.read_i64(tensor).is_ok(), tensor.dtype.is_integer());
    }
    true
}

#[test]
fn damaged_safetensors() {
    survive("dtypes.safetensors", &bytes("checkpoints/dtypes.safetensors"), 6000);
}

#[test]
fn damaged_torch_archives() {
    survive("small.bin", &torch(&honest()), 6000);
    survive("strided.bin", &bytes("checkpoints/strided.bin"), 4000);
    survive("zip64.bin", &bytes("checkpoints/zip64.bin"), 3000);
}

#[test]
fn damaged_legacy_torch_files() {
    survive("legacy.bin", &bytes("checkpoints/legacy-strided.bin"), 4000);
}

#[test]
fn damaged_pickles_in_sound_archives() {
    let pickle = honest();
    let mut random = Random(7);
    let mut opened = 0;
    for _ in 0..6000 {
        let mut damaged = pickle.clone();
        damage(&mut random, &mut damaged);
        opened += usize::from(use_all("model.bin", &torch(&damaged)));
    }
    assert!(opened > 0 && opened < 6000, "{opened}");
}

#[test]
fn damaged_indexes() {
    let (files, index) = parity("sharded");
    let index = index.unwrap().into_bytes();
    let mut random = Random(11);
    for _ in 0..300 {
        let mut damaged = index.clone();
        damage(&mut random, &mut damaged);
        if let Ok(text) = std::str::from_utf8(&damaged) {
            let sources = files.iter().map(|(name, bytes)| mapped(name, bytes.clone())).collect();
            let _ = Checkpoint::open(sources, Some(text));
        }
    }
}
