//! Reading in one thread and writing in another, with a short queue between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::show::FileReport;
use crate::cli::run::Interrupted;
use crate::db::{DbError, import_positions};
use crate::sinks::archive::{ArchiveSink, Piece};
use crate::sources::archive::read::Reader;
use crate::sources::archive::{Content, FileError, Input, Place, Start};

/// Chunks waiting between reader and writer: memory is bounded by these and by what is written at a time.
const QUEUE: usize = 4;
/// Rows written in one transaction: enough to make up for the disk's flush at its end, and few enough that they
/// and what a database's loader makes of them stay below 30 MB.
const ROWS: usize = 32_768;
/// A slow pipe's rows do not wait longer for others to come.
const LINGER: Duration = Duration::from_millis(500);

/// A part of the file of this number.
struct Message {
    at: usize,
    piece: Piece,
    error: Option<FileError>,
}

/// Imports all inputs, one after the other, each from where an earlier run left it.
pub fn copy(
    inputs: &Arc<Vec<Input>>,
    sink: &mut ArchiveSink,
    stopped: &AtomicBool,
    mut done: impl FnMut(FileReport),
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let starts = starts(inputs, sink)?;
    let (send, receive) = mpsc::sync_channel(QUEUE);
    // Nobody waits for it at the end: it may hang on a pipe, and stops when nobody takes what it reads.
    let of_reader = inputs.clone();
    std::thread::Builder::new().name("reader".to_owned()).spawn(move || read(&of_reader, &starts, &send))?;
    let (mut report, mut ended) = (None::<FileReport>, 0);
    while let Some(group) = gather(&receive, stopped) {
        let mut pieces = Vec::with_capacity(group.len());
        let mut told = Vec::new();
        for Message { at, piece, error } in group {
            report.get_or_insert_with(|| FileReport::new(at)).take(&piece, error);
            show_place(bar, inputs, at, &piece);
            if !matches!(piece, Piece::Rows(_)) {
                ended += 1;
                told.extend(report.take());
            }
            pieces.push((at, piece));
        }
        let (rows, started) = (pieces.iter().map(|(_, piece)| piece.rows()).sum::<usize>(), Instant::now());
        sink.write(&pieces)?;
        log::debug!("{rows} rows stored in {:?}", started.elapsed());
        fault("after-import-batch");
        told.into_iter().for_each(&mut done);
    }
    match ended == inputs.len() {
        true => Ok(()),
        false if stopped.load(Ordering::Relaxed) => Err(Interrupted.into()),
        false => Err(anyhow::anyhow!("reading {} ended before its end", inputs[ended].shown)),
    }
}

/// Reads all inputs for what they hold.
pub fn read_only(inputs: &[Input], mut done: impl FnMut(FileReport), bar: &ProgressBar) {
    let mut reader = Reader::default();
    for (at, input) in inputs.iter().enumerate() {
        let mut report = FileReport::new(at);
        let read = reader.read(input, None, &mut |chunk| {
            let piece = Piece::Rows(chunk);
            report.take(&piece, None);
            show_place(bar, inputs, at, &piece);
            true
        });
        match read {
            Ok(extents) => report.take(&Piece::End(extents.unwrap_or_default()), None),
            Err(err) => report.take(&Piece::Broken, Some(err)),
        }
        done(report);
    }
}

fn starts(inputs: &[Input], sink: &mut ArchiveSink) -> Result<Vec<Start>, DbError> {
    let positions = import_positions::all(sink.session.conn())?;
    let start = |input: &Input| {
        let position = positions.get(&input.key).filter(|position| position.fingerprint == input.fingerprint)?;
        let place = Place { position: position.position as u64, line: position.line as u64 };
        log::info!("{} goes on behind line {}", input.shown, place.line);
        Some(place)
    };
    Ok(inputs.iter().map(start).collect())
}

fn read(inputs: &[Input], starts: &[Start], send: &SyncSender<Message>) {
    let mut reader = Reader::default();
    for (at, (input, start)) in inputs.iter().zip(starts).enumerate() {
        let mut hand_on = |chunk| send.send(Message { at, piece: Piece::Rows(chunk), error: None }).is_ok();
        let last = match reader.read(input, *start, &mut hand_on) {
            Ok(Some(extents)) => Message { at, piece: Piece::End(extents), error: None },
            Ok(None) => return,
            Err(err) => Message { at, piece: Piece::Broken, error: Some(err) },
        };
        if send.send(last).is_err() {
            return;
        }
    }
}

/// What is written next; `None` when everything was, or somebody asked to stop.
fn gather(receive: &Receiver<Message>, stopped: &AtomicBool) -> Option<Vec<Message>> {
    let first = loop {
        if stopped.load(Ordering::Relaxed) {
            return None;
        }
        match receive.recv_timeout(LINGER) {
            Ok(message) => break message,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    };
    let mut rows = first.piece.rows();
    let mut group = vec![first];
    while rows < ROWS {
        match receive.recv_timeout(LINGER) {
            Ok(message) => {
                rows += message.piece.rows();
                group.push(message);
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    Some(group)
}

fn show_place(bar: &ProgressBar, inputs: &[Input], at: usize, piece: &Piece) {
    if bar.is_hidden() {
        return;
    }
    let before: u64 = inputs[..at].iter().map(|input| input.bytes).sum();
    match (piece, &inputs[at].content) {
        (Piece::Rows(chunk), Content::Text(_)) => bar.set_position(before + chunk.place.position),
        (Piece::Rows(_), Content::Parquet(_)) => {}
        (Piece::End(_) | Piece::Broken, _) => bar.set_position(before + inputs[at].bytes),
    }
}

/// For tests: ends the process at a named point, as `kill -9` would there.
fn fault(point: &str) {
    if std::env::var("COINETL_TEST_DIE_AT").is_ok_and(|at| at == point) {
        std::process::abort();
    }
}
