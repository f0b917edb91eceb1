//! `dead-letters`: what could not be used, and another try of it.

use std::time::Instant;

use clap::Subcommand;
use comfy_table::{Table, presets};
use serde_json::json;

use super::output::{Outcome, Report};
use super::{Context, Output};
use crate::cli::ending::{self, Ended};
use crate::db::dead_letters::{self, Kept};
use crate::db::{DbError, Session, migrate};
use crate::events::{Reader, TOO_LATE};
use crate::exit::Exit;
use crate::sinks::stream::{Message, StreamSink, Unusable};

pub const NAME: &str = "dead-letters";
const TRIES: u32 = 5;
/// Of a payload in the table for people.
const SHOWN_CHARS: u32 = 60;

#[derive(Debug, Clone, Subcommand)]
pub enum Args {
    /// What could not be used, the newest first
    List {
        /// No more than so many
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=100_000))]
        limit: i64,
    },
    /// Try the messages of streams again, and delete those that work now; a vendor's records come again by
    /// themselves, with its next answer
    Replay,
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    match args {
        Args::List { limit } => list(*limit, context),
        Args::Replay => replay(context),
    }
}

fn list(limit: i64, context: &Context) -> anyhow::Result<Outcome> {
    let mut opened = migrate::open_current(&context.settings.database_url)?;
    // Programs get payloads whole.
    let shown = (context.output != Output::Json).then_some(SHOWN_CHARS);
    let letters = dead_letters::newest(&mut opened.conn, limit, shown)?;
    let count = dead_letters::count(&mut opened.conn)?;
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["id", "received (UTC)", "topic", "at", "why", "what"]);
    for letter in &letters {
        let at = match (letter.partition_id, letter.offset_id) {
            (Some(partition), Some(offset)) => format!("{partition}:{offset}"),
            _ => letter.source.clone(),
        };
        let what: String = letter.payload.chars().take(SHOWN_CHARS as usize).collect();
        let received = letter.received_at.format("%Y-%m-%d %H:%M:%S").to_string();
        let safe = |text: &str| text.replace(char::is_control, " ");
        table.add_row([
            letter.id.to_string(),
            received,
            safe(&letter.topic),
            safe(&at),
            safe(&letter.error),
            safe(&what),
        ]);
    }
    let mut report = Report::new(NAME, "");
    let all = letters.iter().map(|letter| {
        json!({
            "id": letter.id, "run_id": letter.run_id, "source": letter.source, "topic": letter.topic,
            "partition": letter.partition_id, "offset": letter.offset_id, "payload": letter.payload,
            "error": letter.error, "received_at": letter.received_at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        })
    });
    report.more.insert("letters".into(), all.collect());
    report.more.insert("total".into(), json!(count));
    let text = match count {
        0 => "no dead letters".to_owned(),
        _ => format!("{table}\n{} of {count} dead letter(s)", letters.len()),
    };
    Ok(Outcome::new(Exit::Ok, report, text))
}

fn replay(context: &Context) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let opened = migrate::open_current(&context.settings.database_url)?;
    let session = Session::begin(opened, "dead-letters replay", "kafka", context.wait)?;
    let mut report = Report::new("dead-letters replay", "kafka");
    report.run_id = Some(session.run_id());
    let mut sink = StreamSink::new(session, "", "")?;
    let result = replay_all(&mut sink);
    let tally = sink.session.tally();
    let ended = Ended::of(&result, &sink.session);
    let exit = ending::record(&mut sink.session, ended, &mut report);
    report.seconds = started.elapsed().as_secs_f64();
    let text = match report.error {
        Some(_) => String::new(),
        None => format!(
            "{} letters tried again: {} stored, {} known already, {} still can't be used",
            tally.read, tally.written, tally.unchanged, tally.rejected
        ),
    };
    Ok(Outcome::new(exit, report, text))
}

fn replay_all(sink: &mut StreamSink) -> anyhow::Result<()> {
    let (mut after, mut reader) = (0, Reader::default());
    loop {
        let letters = dead_letters::of_streams(sink.session.conn(), after)?;
        let Some(last) = letters.last() else { return Ok(()) };
        after = last.id;
        let messages: Vec<(i64, Message)> = letters.into_iter().map(|letter| message(&mut reader, letter)).collect();
        let mut tries = 1;
        while let Err(err) = sink.replay(&messages) {
            // A consumer stored one of these meanwhile: what is stored is looked at again.
            if !matches!(err, DbError::Duplicate(_)) || tries == TRIES {
                return Err(err.into());
            }
            tries += 1;
        }
    }
}

fn message(reader: &mut Reader, letter: Kept) -> (i64, Message) {
    let (partition, offset) = (letter.partition_id.unwrap_or_default(), letter.offset_id.unwrap_or_default());
    if letter.error.contains(TOO_LATE) {
        // Its record's own time is not kept, and by any later one it would be believed.
        let event = Err(Unusable { payload: letter.payload.into_bytes(), error: letter.error });
        return (letter.id, Message { partition, offset, time_ms: None, event });
    }
    // Its record's own time is not kept; it came a moment before the letter was written.
    let time_ms = Some(letter.received_at.and_utc().timestamp_millis());
    (letter.id, Message::read(reader, partition, offset, time_ms, letter.payload.as_bytes()))
}
