//! The obvious versions.
