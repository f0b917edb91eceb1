//! `coinetl`: crypto market data into your own database.

use std::process::ExitCode;

fn main() -> ExitCode {
    coinetl::cli::main()
}
