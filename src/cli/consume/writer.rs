//! Writes batches on a thread of its own, so that the next one is read meanwhile.

use std::sync::mpsc;
use std::thread::JoinHandle;

use crate::db::DbError;
use crate::sinks::stream::{Message, StreamSink, fault};

/// One batch is written at a time: its sink goes along with it, and comes back.
pub struct Writer {
    to: mpsc::SyncSender<Work>,
    done: mpsc::Receiver<Written>,
    thread: Option<JoinHandle<()>>,
}

struct Work {
    sink: StreamSink,
    batch: Vec<Message>,
}

pub struct Written {
    pub sink: StreamSink,
    pub batch: Vec<Message>,
    pub result: Result<(), DbError>,
}

impl Writer {
    pub fn start() -> Writer {
        let (to, work) = mpsc::sync_channel::<Work>(1);
        let (tell, done) = mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            for Work { mut sink, batch } in work {
                fault("before-transaction");
                let result = sink.write(&batch);
                if result.is_ok() {
                    fault("after-transaction");
                }
                if tell.send(Written { sink, batch, result }).is_err() {
                    return;
                }
            }
        });
        Writer { to, done, thread: Some(thread) }
    }

    /// Hands a batch over. The one before has to be back.
    pub fn write(&mut self, sink: StreamSink, batch: Vec<Message>) {
        if self.to.send(Work { sink, batch }).is_err() {
            self.fail();
        }
    }

    /// The batch that was handed over, once it is written.
    pub fn wait(&mut self) -> Written {
        match self.done.recv() {
            Ok(written) => written,
            Err(_) => self.fail(),
        }
    }

    /// The same, if it is written by now.
    pub fn look(&mut self) -> Option<Written> {
        match self.done.try_recv() {
            Ok(written) => Some(written),
            Err(mpsc::TryRecvError::Empty) => None,
            Err(mpsc::TryRecvError::Disconnected) => self.fail(),
        }
    }

    /// The thread ended by itself, which is a panic of its own.
    fn fail(&mut self) -> ! {
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            _ => panic!("the writing thread ended"),
        }
    }
}
