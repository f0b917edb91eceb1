//! What the tests share: running the binary, a database of their own, a vendor that answers as told.

// Not every build of the suite uses every tool.
#![allow(dead_code)]

pub mod browser;
pub mod cmc;
pub mod exchange;
pub mod gecko;
pub mod kafka;
pub mod own_server;
pub mod recordings;
pub mod relay;
pub mod server;
pub mod stub;
#[macro_use]
pub mod test_db;
pub mod workdir;
pub mod ws;
