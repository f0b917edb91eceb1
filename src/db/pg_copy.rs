//! Rows in the format of PostgreSQL's `COPY … WITH (FORMAT binary)`: a header, for each row the number of
//! fields and each field as length and big-endian bytes, and -1 at the end.

/// From 1970, where our moments begin, to 2000, where PostgreSQL's do, in microseconds.
pub const EPOCH_2000_US: i64 = 946_684_800_000_000;

/// What the format begins with.
pub const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

pub struct CopyBuffer(Vec<u8>);

impl CopyBuffer {
    pub fn with_capacity(bytes: usize) -> CopyBuffer {
        let mut out = Vec::with_capacity(bytes + 21);
        out.extend_from_slice(HEADER);
        CopyBuffer(out)
    }

    /// Begins a row of so many fields.
    pub fn row(&mut self, fields: i16) {
        self.0.extend_from_slice(&fields.to_be_bytes());
    }

    pub fn field(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    pub fn null(&mut self) {
        self.0.extend_from_slice(&(-1i32).to_be_bytes());
    }

    /// A timestamp, told in microseconds since 1970.
    pub fn micros(&mut self, micros: i64) {
        self.field(&(micros - EPOCH_2000_US).to_be_bytes());
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&(-1i16).to_be_bytes());
        self.0
    }
}
