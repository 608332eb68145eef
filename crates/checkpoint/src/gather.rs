//! Reads the elements of a strided tensor in row-major order.
use crate::error::{room, CheckpointError};
use crate::source::NamedSource;

/// A strided tensor's part of a file up to this long is read at once where the file is not mapped.
const WHOLE: u64 = 64 << 20;
/// Otherwise this much is read around each element.
const WINDOW: u64 = 1 << 20;

/// A tensor seen as runs of bytes that lie together in the file.
pub struct Gather<'a> {
    source: &'a NamedSource,
    /// Byte of the file where the first element is.
    offset: u64,
    /// The outer dimensions, with strides in bytes; the inner ones are the run.
    outer: Vec<(u64, u64)>,
    /// Bytes of a run, never zero.
    run: u64,
    /// One past the tensor's last byte in the file.
    end: u64,
    /// What was last read of the file, from byte `buffer_at`.
    buffer: Vec<u8>,
    buffer_at: u64,
}

impl<'a> Gather<'a> {
    /// `None` if the tensor has no elements or its range overflows.
    pub fn new(source: &'a NamedSource, offset: u64, shape: &[usize], strides: &[u64], element: u64) -> Option<Self> {
        let mut outer: Vec<(u64, u64)> = Vec::with_capacity(shape.len());
        let mut end = offset.checked_add(element)?;
        for (&dim, &stride) in shape.iter().zip(strides) {
            let (dim, stride) = (dim as u64, stride.checked_mul(element)?);
            end = end.checked_add(dim.checked_sub(1)?.checked_mul(stride)?)?;
            outer.push((dim, stride));
        }
        let mut run = element;
        while let Some(&(dim, stride)) = outer.last() {
            if dim != 1 && stride != run {
                break;
            }
            run = run.checked_mul(dim)?;
            outer.pop();
        }
        Some(Self { source, offset, outer, run, end, buffer: Vec::new(), buffer_at: 0 })
    }

    /// Fills `into` from byte `start` of the row-major elements.
    pub fn fill(&mut self, start: u64, mut into: &mut [u8]) -> Result<(), CheckpointError> {
        let mut within = start % self.run;
        let mut index = self.index_of(start / self.run);
        while !into.is_empty() {
            let at = index.iter().zip(&self.outer).fold(self.offset, |at, (i, (_, stride))| at + i * stride);
            let len = usize::try_from(self.run - within).unwrap_or(usize::MAX).min(into.len());
            let (now, later) = into.split_at_mut(len);
            self.copy(at + within, now)?;
            into = later;
            within = 0;
            for (i, (dim, _)) in index.iter_mut().zip(&self.outer).rev() {
                *i += 1;
                if *i < *dim {
                    break;
                }
                *i = 0;
            }
        }
        Ok(())
    }

    fn index_of(&self, mut run: u64) -> Vec<u64> {
        let mut index = vec![0; self.outer.len()];
        for (i, (dim, _)) in index.iter_mut().zip(&self.outer).rev() {
            *i = run % dim;
            run /= dim;
        }
        index
    }

    fn copy(&mut self, at: u64, into: &mut [u8]) -> Result<(), CheckpointError> {
        if let Some(bytes) = self.source.mapped(at, into.len() as u64) {
            into.copy_from_slice(bytes);
            return Ok(());
        }
        if into.len() as u64 >= WINDOW {
            return self.source.read_at(at, into);
        }
        if !self.buffered(at, into) {
            self.load(at)?;
            if !self.buffered(at, into) {
                return self.source.read_at(at, into);
            }
        }
        Ok(())
    }

    fn buffered(&self, at: u64, into: &mut [u8]) -> bool {
        let range = at.checked_sub(self.buffer_at).and_then(|start| usize::try_from(start).ok()).and_then(|start| {
            let end = start.checked_add(into.len())?;
            self.buffer.get(start..end)
        });
        match range {
            Some(bytes) => into.copy_from_slice(bytes),
            None => return false,
        }
        true
    }

    /// Reads the whole part of the file that the tensor takes, or a window of it from `at`.
    fn load(&mut self, at: u64) -> Result<(), CheckpointError> {
        let extent = self.end - self.offset;
        let (from, len) = if extent <= WHOLE { (self.offset, extent) } else { (at, WINDOW.min(self.end - at)) };
        if self.buffer.len() as u64 != len {
            self.buffer = room(len as usize, &self.source.name, "a part")?;
            self.buffer.resize(len as usize, 0);
        }
        self.source.read_at(from, &mut self.buffer)?;
        self.buffer_at = from;
        Ok(())
    }
}
