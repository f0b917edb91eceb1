//! Coinbase Exchange's WebSocket feed over the generated market: `ticker`, `ticker_batch` and
//! `heartbeat`, each tick at its moment of the market's time.
//!
//! Nothing is queued for a client: what it is to get next is a number of a tick, and messages are
//! only made as fast as it takes them. One that falls too far behind is turned away all the same,
//! as the vendor does it. Faults happen to a connection (`drop`, `slow`) or to a ticker message
//! (`garbage`, `gap`, `stale`); both are rolled by the number of the connection.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::ready;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use axum::http::{HeaderMap, HeaderValue, header};
use futures::Sink;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};

use super::super::clock::Clock;
use super::super::faults::{Fault, FaultKind, Struck};
use super::super::market::Market;
use super::super::market::hash::{mix, unit};
use super::catalogue::Catalogue;

mod subscriptions;
mod tape;

use subscriptions::{Added, Channel, Subscriptions};
use tape::{SPOILT, Tape};

/// The largest message that a client may send: a subscription to everything is a tenth of it.
pub const LARGEST_COMMAND: usize = 128 << 10;

/// Who has said nothing by then is turned away.
const SUBSCRIBE_WITHIN: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 5 });
/// Of the world's time, so that a client sees that the connection lives also where the market's
/// clock stands still.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Microseconds of the market's time between the messages of `ticker_batch`.
const BATCH: i64 = 5_000_000;
/// Messages come in small groups at high rates, since a wake-up costs more than a message.
const PACE: Duration = Duration::from_millis(2);
/// How many messages of a product are made in one go.
const CHUNK: usize = 256;
/// How many messages a client may be behind, and how long where that is more.
const BEHIND: i64 = 10_000;
const BEHIND_SECONDS: f64 = 2.0;
/// How long nothing of a round may go out before it is asked whether the client is too slow.
const STUCK: Duration = Duration::from_millis(200);
/// For the last words on a connection.
const FAREWELL: Duration = Duration::from_millis(200);

/// Whether the feed is what is asked for: a WebSocket, at one of its paths.
pub fn serves(path: &str, headers: &HeaderMap) -> bool {
    let asks = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    matches!(path, "/" | "/ws") && headers.get(header::UPGRADE).is_some_and(asks)
}

/// The feed, for any number of connections.
#[derive(Debug)]
pub struct Feed {
    market: Arc<Market>,
    clock: Arc<Clock>,
    /// Ticks of a product in a second of the market's time.
    rate: f64,
    /// How fast the market's clock runs.
    speed: f64,
    faults: Vec<Fault>,
    seed: u64,
    connections: AtomicU64,
}

impl Feed {
    pub fn new(market: &Arc<Market>, clock: &Arc<Clock>, rate: f64, speed: f64, faults: Vec<Fault>, seed: u64) -> Feed {
        Feed {
            market: Arc::clone(market),
            clock: Arc::clone(clock),
            rate,
            speed,
            faults,
            // Another stream of numbers than the market's and the answers'.
            seed: mix(seed, 0xfeed, 0xfa17),
            connections: AtomicU64::new(0),
        }
    }

    /// Serves one client until it leaves, has to leave, or the server stops.
    pub async fn serve(&self, socket: WebSocket, catalogue: Arc<Catalogue>, stopped: watch::Receiver<bool>) {
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let mut session = Session {
            feed: self,
            catalogue,
            socket,
            stopped,
            dice: Dice::new(&self.faults, mix(self.seed, number, 0)),
            subscriptions: Subscriptions::default(),
            subscribed: None,
            doom: None,
            follows: Vec::new(),
            page: Page::default(),
            waiting: VecDeque::new(),
            effort: Effort::default(),
        };
        let end = session.run().await;
        log::debug!("sandbox: feed {number} ends: {end}");
        let close = match end {
            End::Stopped => CloseFrame { code: 1001, reason: "".into() },
            End::Mute => CloseFrame { code: 1008, reason: "no subscription in time".into() },
            // No close frame for the others: the connection is gone, or just ends.
            End::Gone | End::Slow | End::Struck(_) => return,
        };
        let _ = timeout(FAREWELL, session.socket.send(Message::Close(Some(close)))).await;
    }
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Stopped,
    /// The client left.
    Gone,
    /// The client did not subscribe to anything.
    Mute,
    /// The client is too far behind.
    Slow,
    Struck(FaultKind),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Stopped => f.write_str("the server stops"),
            End::Gone => f.write_str("the client left"),
            End::Mute => f.write_str("no subscription in time"),
            End::Slow => f.write_str("the client is too slow"),
            End::Struck(kind) => write!(f, "fault {kind}"),
        }
    }
}

/// One connection.
struct Session<'a> {
    feed: &'a Feed,
    catalogue: Arc<Catalogue>,
    socket: WebSocket,
    stopped: watch::Receiver<bool>,
    dice: Dice,
    subscriptions: Subscriptions,
    /// Since when there was a subscription.
    subscribed: Option<Instant>,
    /// What will happen to the connection, and when.
    doom: Option<(FaultKind, Instant)>,
    follows: Vec<Follow>,
    page: Page,
    /// Made and not yet sent; never more than one round makes.
    waiting: VecDeque<Message>,
    effort: Effort,
}

/// A product that a client follows.
struct Follow {
    place: usize,
    tape: Tape,
    ticker: bool,
    batch: bool,
    heartbeat: bool,
    /// The tick that is next in `ticker`, and when it is due.
    next: i64,
    due: i64,
    /// The last tick in `ticker_batch`, and in which interval that was.
    told: Option<i64>,
    turn: i64,
    /// Until when `gap` keeps its messages back.
    withheld: Option<Instant>,
}

/// Time spent making messages and getting rid of them, since the client was last well.
#[derive(Debug, Default)]
struct Effort {
    making: Duration,
    sending: Duration,
}

enum Event {
    Received(Option<Result<Message, axum::Error>>),
    Heartbeat,
    Due,
}

impl Session<'_> {
    async fn run(&mut self) -> End {
        let opened = Instant::now();
        let mut heartbeat = interval_at(opened + HEARTBEAT, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut wake = self.wake();
            if self.subscribed.is_none() {
                wake = wake.min(opened + SUBSCRIBE_WITHIN);
            }
            let event = tokio::select! {
                biased;
                () = stopped(&mut self.stopped) => return End::Stopped,
                received = self.socket.recv() => Event::Received(received),
                _ = heartbeat.tick() => Event::Heartbeat,
                () = sleep_until(wake) => Event::Due,
            };
            match self.doomed() {
                Some(FaultKind::Slow) => return self.fall_silent().await,
                Some(kind) => return End::Struck(kind),
                None => {}
            }
            if self.subscribed.is_none() && opened.elapsed() >= SUBSCRIBE_WITHIN {
                return End::Mute;
            }
            let begun = Instant::now();
            let now = self.feed.clock.micros();
            match event {
                Event::Received(Some(Ok(Message::Text(text)))) => self.obey(&text, now),
                Event::Received(Some(Ok(Message::Binary(_)))) => {
                    self.page.message(|out| subscriptions::refuse(out, "Malformed JSON"));
                }
                // Answered by the library, the next time that something is read or written.
                Event::Received(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => continue,
                Event::Received(Some(Ok(Message::Close(_)))) => {
                    let _ = timeout(FAREWELL, self.socket.recv()).await;
                    return End::Gone;
                }
                Event::Received(Some(Err(_)) | None) => return End::Gone,
                Event::Heartbeat => {
                    self.tell(now);
                    self.beat(now);
                }
                Event::Due => self.tell(now),
            }
            let made = Instant::now();
            if let Err(end) = self.deliver().await {
                return end;
            }
            self.effort.making += made - begun;
            self.effort.sending += made.elapsed();
            if let Some(end) = self.judge() {
                return end;
            }
        }
    }

    /// Does what a message of the client says, and answers it.
    fn obey(&mut self, text: &str, now: i64) {
        match self.subscriptions.apply(text, &self.catalogue, now.div_euclid(1_000)) {
            Err(reason) => self.page.message(|out| subscriptions::refuse(out, &reason)),
            Ok(added) => {
                let (subscriptions, catalogue) = (&self.subscriptions, &self.catalogue);
                self.page.message(|out| subscriptions.write(out, catalogue));
                if self.subscribed.is_none() && !subscriptions.is_empty() {
                    let since = Instant::now();
                    self.subscribed = Some(since);
                    self.doom = self.dice.doom().map(|(kind, after)| (kind, since + after));
                }
                self.follow(&added, now);
            }
        }
    }

    /// Brings what is followed in line with the subscriptions. The first of a product's messages
    /// is the last tick before now, however old that is.
    fn follow(&mut self, added: &[Added], now: i64) {
        for &(channel, place) in added {
            if !self.follows.iter().any(|follow| follow.place == place) {
                let tape = Tape::new(&self.feed.market, &self.catalogue, place, self.feed.rate);
                self.follows.push(Follow::new(place, tape));
            }
            let follow = self.follows.iter_mut().find(|follow| follow.place == place);
            let (Some(follow), true) = (follow, channel != Channel::Heartbeat) else {
                continue;
            };
            let latest = follow.tape.latest(now);
            if let Some(n) = latest {
                self.page.message(|out| follow.tape.ticker(out, n, None));
            }
            match channel {
                Channel::TickerBatch => (follow.told, follow.turn) = (latest, now.div_euclid(BATCH)),
                _ => follow.go_to(latest.map_or(0, |n| n + 1)),
            }
        }
        let subscriptions = &self.subscriptions;
        self.follows.retain_mut(|follow| {
            let has = |channel| subscriptions.has(channel, follow.place);
            follow.ticker = has(Channel::Ticker);
            follow.batch = has(Channel::TickerBatch);
            follow.heartbeat = has(Channel::Heartbeat);
            follow.ticker || follow.batch || follow.heartbeat
        });
    }

    /// Makes the tickers that are due, as many as go into one round.
    fn tell(&mut self, now: i64) {
        for follow in &mut self.follows {
            if follow.ticker {
                for _ in 0..CHUNK {
                    if follow.due > now {
                        break;
                    }
                    follow.tell_next(&mut self.page, self.dice.roll());
                }
            }
            let turn = now.div_euclid(BATCH);
            if follow.batch && turn != follow.turn {
                follow.turn = turn;
                let latest = follow.tape.latest(turn * BATCH).filter(|n| follow.told.is_none_or(|told| *n > told));
                if let Some(n) = latest {
                    follow.told = latest;
                    self.page.message(|out| follow.tape.ticker(out, n, None));
                }
            }
        }
    }

    fn beat(&mut self, now: i64) {
        for follow in self.follows.iter_mut().filter(|follow| follow.heartbeat) {
            // Not ahead of the tickers, where these are late.
            let latest =
                if follow.ticker { (follow.next > 0).then(|| follow.next - 1) } else { follow.tape.latest(now) };
            self.page.message(|out| follow.tape.heartbeat(out, latest, now));
        }
    }

    /// When there is something to do again.
    fn wake(&self) -> Instant {
        let now = self.feed.clock.micros();
        let tickers = self.follows.iter().filter(|follow| follow.ticker).map(|follow| follow.due);
        let batches = self.follows.iter().filter(|follow| follow.batch).map(|follow| (follow.turn + 1) * BATCH);
        let mut wait = HEARTBEAT;
        if let Some(due) = tickers.chain(batches).min() {
            wait = if due <= now { Duration::ZERO } else { self.feed.clock.wait(due - now).clamp(PACE, HEARTBEAT) };
        }
        let wake = Instant::now() + wait;
        self.doom.map_or(wake, |(_, at)| wake.min(at))
    }

    fn doomed(&self) -> Option<FaultKind> {
        let (kind, _) = self.doom.filter(|(_, at)| *at <= Instant::now())?;
        log::info!("sandbox: fault {kind} on a feed");
        Some(kind)
    }

    /// The socket stays open and answers pings, and nothing else comes any more.
    async fn fall_silent(&mut self) -> End {
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut self.stopped) => return End::Stopped,
                received = self.socket.recv() => if !matches!(received, Some(Ok(_))) {
                    return End::Struck(FaultKind::Slow);
                },
            }
        }
    }

    /// Sends everything that was made, as fast as the client takes it.
    async fn deliver(&mut self) -> Result<(), End> {
        self.page.turn(&mut self.waiting);
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut self.stopped) => return Err(End::Stopped),
                sent = send(&mut self.socket, &mut self.waiting) => return sent.map_err(|_| End::Gone),
                () = sleep(STUCK) => {}
            }
            match self.doomed() {
                Some(FaultKind::Slow) => return Err(self.fall_silent().await),
                Some(kind) => return Err(End::Struck(kind)),
                None => {}
            }
            if self.is_behind() {
                return Err(End::Slow);
            }
        }
    }

    /// A client that is far behind has to leave, unless it is the server that can't keep up.
    fn judge(&mut self) -> Option<End> {
        if !self.is_behind() {
            self.effort = Effort::default();
            return None;
        }
        (self.effort.sending > 2 * self.effort.making).then_some(End::Slow)
    }

    fn is_behind(&self) -> bool {
        let now = self.feed.clock.micros();
        let followed = self.follows.iter().filter(|follow| follow.ticker);
        let (mut behind, mut products) = (0, 0.0);
        for follow in followed {
            products += 1.0;
            if follow.due <= now {
                behind += follow.tape.latest(now).map_or(0, |n| n + 1 - follow.next);
            }
        }
        let most = BEHIND_SECONDS * products * self.feed.rate * self.feed.speed;
        behind > BEHIND.max(most as i64)
    }
}

impl Follow {
    fn new(place: usize, tape: Tape) -> Follow {
        Follow {
            place,
            tape,
            ticker: false,
            batch: false,
            heartbeat: false,
            next: 0,
            due: i64::MAX,
            told: None,
            turn: 0,
            withheld: None,
        }
    }

    fn go_to(&mut self, n: i64) {
        (self.next, self.due) = (n, self.tape.at(n));
    }

    fn tell_next(&mut self, page: &mut Page, struck: Option<Struck>) {
        let n = self.next;
        self.go_to(n + 1);
        if self.withheld.is_some_and(|until| until > Instant::now()) {
            return;
        }
        self.withheld = None;
        let bits = struck.map_or(0, |struck| struck.bits);
        match struck.map(|struck| struck.kind) {
            // So long that the heartbeats give it away.
            Some(FaultKind::Gap) => self.withheld = Some(Instant::now() + Duration::from_millis(6_000 + bits % 6_000)),
            Some(FaultKind::Garbage) => {
                let spoilt = SPOILT[bits as usize % SPOILT.len()];
                page.message(|out| self.tape.ticker(out, n, Some(spoilt)));
            }
            Some(FaultKind::Stale) => {
                page.message(|out| self.tape.ticker(out, n, None));
                let old = n - 1 - (bits % 20) as i64;
                page.message(|out| old >= 0 && self.tape.ticker(out, old, None));
            }
            _ => page.message(|out| self.tape.ticker(out, n, None)),
        }
    }
}

/// Messages in one piece of memory.
#[derive(Debug, Default)]
struct Page {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Page {
    /// Adds what is written as one message; nothing if nothing is.
    fn message<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) {
        let begin = self.text.len();
        write(&mut self.text);
        if self.text.len() > begin {
            self.ends.push(self.text.len());
        }
    }

    /// Moves everything to the messages that wait.
    fn turn(&mut self, waiting: &mut VecDeque<Message>) {
        let text = Bytes::copy_from_slice(&self.text);
        let mut begin = 0;
        for &end in &self.ends {
            match Utf8Bytes::try_from(text.slice(begin..end)) {
                Ok(text) => waiting.push_back(Message::Text(text)),
                Err(err) => log::error!("sandbox: a message of the feed is no text: {err}"),
            }
            begin = end;
        }
        self.text.clear();
        self.ends.clear();
    }
}

/// Can be given up at any moment: what is not sent still waits.
async fn send(socket: &mut WebSocket, waiting: &mut VecDeque<Message>) -> Result<(), axum::Error> {
    poll_fn(|cx| {
        while !waiting.is_empty() {
            ready!(Pin::new(&mut *socket).poll_ready(cx))?;
            if let Some(message) = waiting.pop_front() {
                Pin::new(&mut *socket).start_send(message)?;
            }
        }
        Pin::new(&mut *socket).poll_flush(cx)
    })
    .await
}

/// What happens to one connection and to its messages.
#[derive(Debug)]
struct Dice {
    seed: u64,
    of_messages: Vec<Fault>,
    of_connection: Option<Struck>,
    messages: u64,
}

impl Dice {
    fn new(faults: &[Fault], seed: u64) -> Dice {
        let is_of = |kinds: &[FaultKind]| faults.iter().filter(|fault| kinds.contains(&fault.kind)).copied().collect();
        let of_connections: Vec<Fault> = is_of(&[FaultKind::Drop, FaultKind::Slow]);
        Dice {
            seed,
            of_messages: is_of(&[FaultKind::Garbage, FaultKind::Gap, FaultKind::Stale]),
            of_connection: strike(&of_connections, seed, 0),
            messages: 0,
        }
    }

    /// What will happen to the connection, and how long after the first subscription.
    fn doom(&self) -> Option<(FaultKind, Duration)> {
        let struck = self.of_connection?;
        Some((struck.kind, Duration::from_millis(200 + struck.bits % 4_800)))
    }

    /// Rolls for one ticker message.
    fn roll(&mut self) -> Option<Struck> {
        if self.of_messages.is_empty() {
            return None;
        }
        self.messages += 1;
        strike(&self.of_messages, self.seed, self.messages)
    }
}

/// Of several faults the first that hits strikes.
fn strike(faults: &[Fault], seed: u64, roll: u64) -> Option<Struck> {
    (1u64..).zip(faults).find_map(|(n, fault)| {
        let bits = mix(seed, roll, n);
        (unit(bits) < fault.rate).then(|| Struck { kind: fault.kind, bits: mix(bits, 1, 0) })
    })
}

/// Also returns when nobody can give the order any more.
async fn stopped(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

#[cfg(test)]
mod tests;
