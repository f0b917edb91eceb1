//! The SQLite handle below a diesel connection.
//!
//! diesel builds a new bind list for every statement, which halves the speed of a bulk write, and
//! it hands out no handle. SQLite itself does: functions registered with
//! `sqlite3_auto_extension` are called with each new connection. The handle is wrapped without
//! ownership, so rows written through it belong to diesel's transaction on the same connection.

use std::cell::Cell;
use std::os::raw::{c_char, c_int};
use std::ptr;
use std::sync::Once;

use libsqlite3_sys as ffi;

use super::error::{DbError, classify};

thread_local! {
    static NEWEST: Cell<*mut ffi::sqlite3> = const { Cell::new(ptr::null_mut()) };
}

static REGISTER: Once = Once::new();
/// An argument of a function that takes any: its type must be told.
const OFF: c_int = 0;

unsafe extern "C" fn remember(
    db: *mut ffi::sqlite3,
    _error: *mut *mut c_char,
    _api: *const ffi::sqlite3_api_routines,
) -> c_int {
    NEWEST.set(db);
    ffi::SQLITE_OK
}

/// A second, safe view of a connection that diesel owns. It must not outlive that connection and
/// never be used from two threads at once: both live in one `Session`, in this order.
pub struct RawSqlite(rusqlite::Connection);

impl RawSqlite {
    pub fn connection(&self) -> &rusqlite::Connection {
        &self.0
    }
}

/// The handle of a session, which every SQLite connection of ours has.
pub fn below<'a>(raw: Option<&'a RawSqlite>, doing: &'static str) -> Result<&'a rusqlite::Connection, DbError> {
    let why = || DbError::Query { doing, why: "no handle below the connection".to_owned() };
    raw.map(RawSqlite::connection).ok_or_else(why)
}

/// Opens a connection and catches the handle it is built on.
pub fn capture<C, E>(open: impl FnOnce() -> Result<C, E>) -> Result<(C, Option<RawSqlite>), E> {
    // No connection of ours is used by two threads at once, and nobody asks how much memory SQLite has
    // taken: without locks for either it takes a tenth less time.
    // SAFETY: both options are set before anything else is asked of SQLite; where something was, they are
    // refused and nothing happens. `remember` has the signature SQLite calls with and touches only a
    // thread-local.
    REGISTER.call_once(|| unsafe {
        ffi::sqlite3_config(ffi::SQLITE_CONFIG_MULTITHREAD);
        ffi::sqlite3_config(ffi::SQLITE_CONFIG_MEMSTATUS, OFF);
        ffi::sqlite3_auto_extension(Some(remember));
    });
    NEWEST.set(ptr::null_mut());
    let conn = open()?;
    let handle = NEWEST.replace(ptr::null_mut());
    if handle.is_null() {
        return Ok((conn, None));
    }
    // SAFETY: the handle was opened on this thread by `open` just now and is kept open by `conn`;
    // `from_handle` neither owns nor closes it.
    let raw = unsafe { rusqlite::Connection::from_handle(handle) }.ok();
    if let Some(raw) = &raw {
        raw.set_prepared_statement_cache_capacity(64);
    }
    Ok((conn, raw.map(RawSqlite)))
}

/// An error of the safe view in the words of all others.
pub fn failed(doing: &'static str, err: &rusqlite::Error) -> DbError {
    let kind = match err.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => diesel::result::DatabaseErrorKind::UniqueViolation,
        _ => diesel::result::DatabaseErrorKind::Unknown,
    };
    classify(doing, &diesel::result::Error::DatabaseError(kind, Box::new(err.to_string())))
}
