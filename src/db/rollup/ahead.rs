//! Observations read by a thread of its own, a few pages ahead of whoever folds them: the database's time
//! and ours pass side by side.

use std::cell::RefCell;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use diesel::connection::SimpleConnection;

use super::read::Points;
use super::{Feed, Point};
use crate::db::conn::{Absent, open};
use crate::db::error::{DbError, Doing};
use crate::db::url::{Backend, DatabaseUrl};

/// Pages that wait, beside the one that is read and the one that is folded.
const PAGES: usize = 1;

type Page = Result<Vec<Point>, DbError>;

/// Hands the observations of all coins behind one to `work`, in the order of coin, currency and time.
pub fn with_points<R>(
    url: &DatabaseUrl,
    after_asset: i64,
    work: impl FnOnce(&mut dyn Feed<Point>) -> Result<R, DbError>,
) -> Result<R, DbError> {
    let (send, receive) = sync_channel(PAGES);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if let Err(err) = read(url, after_asset, &send) {
                // Who does not listen any more has an error of its own.
                let _ = send.send(Err(err));
            }
        });
        // Gone with the last page, or with an error: then the thread ends, too.
        work(&mut Ahead { receive, page: Vec::new().into_iter() })
    })
}

fn read(url: &DatabaseUrl, after_asset: i64, send: &SyncSender<Page>) -> Result<(), DbError> {
    let mut opened = open(url, Absent::Fail)?;
    if opened.conn.backend() == Backend::Sqlite {
        // It goes straight on: what it has read it does not read again.
        opened.conn.batch_execute("PRAGMA cache_size = -1024").doing("preparing the connection")?;
    }
    let reader = RefCell::new(opened);
    let mut points = Points::of_all(&reader, after_asset);
    while let Some(page) = points.page()? {
        if send.send(Ok(page)).is_err() {
            break;
        }
    }
    Ok(())
}

struct Ahead {
    receive: Receiver<Page>,
    page: std::vec::IntoIter<Point>,
}

impl Feed<Point> for Ahead {
    fn next(&mut self) -> Result<Option<Point>, DbError> {
        loop {
            if let Some(point) = Iterator::next(&mut self.page) {
                return Ok(Some(point));
            }
            let Ok(page) = self.receive.recv() else { return Ok(None) };
            self.page = page?.into_iter();
        }
    }
}
