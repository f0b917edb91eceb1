//! The file: written under a temporary name beside it, and renamed when it is whole.

use std::io::Write;
use std::path::Path;

use super::Form;
use crate::plot::png;
use crate::sinks::files::FilesError;
use crate::sinks::files::out::{self, Out};

/// Writes the picture; how many bytes it has.
pub fn save(path: &Path, form: Form, svg: &str, scale: f32) -> anyhow::Result<u64> {
    let bytes = match form {
        Form::Svg => svg.as_bytes().to_vec(),
        Form::Png => png::png(svg, scale)?,
    };
    let mut file = Out::temporary(path)?;
    let name = out::of(path);
    let written = file.write_all(&bytes).map_err(|err| FilesError::of(path, &err));
    let written = written.and_then(|()| file.end()).and_then(|whole| {
        std::fs::rename(&name, path).map_err(|err| FilesError::of(path, &err))?;
        Ok(whole.bytes)
    });
    if written.is_err() {
        // The failure that is told is the first one.
        let _ = std::fs::remove_file(&name);
    }
    Ok(written?)
}
