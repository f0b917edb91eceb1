//! Files: CSV and Parquet, whole or not at all.
//!
//! A file is written under a temporary name in its own folder, flushed to the disk, and gets its name when
//! all files of the export are whole (`folder`). The manifest tells what there is; what is in it counts.

pub mod csv;
mod encoder;
mod error;
pub mod folder;
pub mod manifest;
pub mod out;
pub mod parquet;
pub mod seen;
pub mod sort;
pub mod writer;

pub use encoder::{Encoder, Format};
pub use error::FilesError;
pub use out::Whole;
