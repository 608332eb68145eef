//! How exact products of many rows are.

/// What the operands of products of many rows may be rounded to. Sums are float32 either way, and so is everything else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// Float32's accuracy, whatever the weights are stored in.
    #[default]
    Float32,
    /// In the products of the way back, where a unit of the machine gains from it, float32 operands may be cut to the sum of
    /// two bfloat16, 16 to 17 bits of significand, as torch's `high`: errors of a few 1e-6 of a product's norm. All other
    /// products are as with [`Self::Float32`].
    High,
    /// Inputs of products with bfloat16 weights may be rounded to 16 bits of significand, the sum of two bfloat16; all else
    /// is as with `Float32`. Products are then within 1e-5, in two thirds of the time where they wait for the matrix unit.
    Reduced,
    /// Inputs (and float32 weights) may be rounded to bfloat16 where a unit of the machine gains from it, as a model in
    /// bfloat16 does anyway. Products of few rows, as in decoding, are not: they wait for memory.
    Bfloat16,
}

impl Precision {
    /// Bfloat16 parts that stand for a float32.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn parts(self) -> usize {
        match self {
            Self::Float32 | Self::High | Self::Reduced => crate::amx::PARTS,
            Self::Bfloat16 => 1,
        }
    }

    /// [`Self::parts`] in the products of the way back.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn backward_parts(self) -> usize {
        match self {
            Self::High => 2,
            other => other.parts(),
        }
    }
}
