//! `coinetl`: crypto market data into your own database.

use std::process::ExitCode;

fn main() -> ExitCode {
    share_one_heap();
    coinetl::cli::main()
}

/// glibc gives each thread a heap of its own, and pages that travel from a fetching thread to the
/// writing one leave holes in all of them: one shared heap halves the peak memory and costs no time
/// that can be measured.
fn share_one_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: called before any other thread exists; it only sets a number inside the allocator.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
