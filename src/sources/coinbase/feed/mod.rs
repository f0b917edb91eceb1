//! Coinbase's live feed: one connection that is made again whenever it is lost or falls silent.
//!
//! Whoever takes the facts may be slow: nothing is read from the socket then, so that nothing is thrown
//! away here. The vendor may end the connection over it, and an outage tells of the hole.

mod message;
mod track;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use rand::RngExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::USER_AGENT;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message as Frame};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::{FEED_SETTING, wire};
use crate::domain::Micros;
use crate::exit::UsageError;
use crate::sources::error::SourceError;
use crate::sources::{SANDBOX_PREFIX, Told, http};
use message::{Broken, Message};
pub use track::Fact;
use track::Tracker;

const SOURCE: &str = "coinbase";
/// A ticker is half a kilobyte; the list of all subscriptions some ten.
const LARGEST: usize = 1 << 20;
/// Heartbeats come every second: who says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(10);
const SHORTEST_SILENCE: Duration = Duration::from_secs(3);
/// The pause before a connection doubles from the base up to this many times it.
const BACKOFF_CAP: u32 = 30;
/// A connection that lasted for so many times the base was a good one.
const HEALTHY: u32 = 60;
/// A feed that was never reached is given up after so many tries more.
const FIRST_RETRIES: u32 = 4;
/// Messages before the answer to the subscription, which tells whose they are, and how long they wait for it.
const EARLY: usize = 10_000;
const UNANSWERED: Duration = Duration::from_secs(2);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What to follow, and how patiently.
#[derive(Debug, Clone)]
pub struct Options {
    pub url: String,
    pub pairs: Vec<String>,
    /// Upper end of the first pause before a new connection.
    pub backoff: Duration,
    /// The longest that anything may take.
    pub timeout: Duration,
    /// Quotes after which it ends.
    pub count: Option<u64>,
}

/// What happened so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub quotes: u64,
    pub outages: u64,
    /// Messages that can't be used.
    pub broken: u64,
    /// Tickers that told nothing new.
    pub stale: u64,
    pub reconnects: u64,
}

pub struct Feed {
    options: Options,
    tracker: Tracker,
    /// The name its data is stored under, once the feed said what it is.
    source: Option<String>,
    counts: Counts,
    /// Known and not handed on yet.
    waiting: VecDeque<Fact>,
    broken: BTreeMap<Broken, u64>,
}

/// How a connection ends.
enum End {
    /// All that was asked for is there, or nobody takes it any more.
    Done,
    /// Another connection may be better.
    Lost(SourceError),
    Hopeless(anyhow::Error),
}

impl From<SourceError> for End {
    fn from(err: SourceError) -> End {
        End::Lost(err)
    }
}

impl Feed {
    pub fn new(options: Options) -> Feed {
        let tracker = Tracker::new(&options.pairs);
        Feed {
            options,
            tracker,
            source: None,
            counts: Counts::default(),
            waiting: VecDeque::new(),
            broken: BTreeMap::new(),
        }
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// Hands on what happens until enough quotes did, or the receiver is gone. May be dropped at any
    /// moment: [`Feed::end`] has what was not handed on.
    pub async fn follow(&mut self, out: &mpsc::Sender<(String, Fact)>) -> anyhow::Result<()> {
        let mut tries = 0;
        loop {
            let begun = Instant::now();
            let err = match self.connection(out).await {
                End::Done => return Ok(()),
                End::Hopeless(err) => return Err(err),
                End::Lost(err) => err,
            };
            self.tracker.lost();
            if begun.elapsed() >= self.options.backoff * HEALTHY {
                tries = 0;
            }
            if self.source.is_none() && tries >= FIRST_RETRIES {
                return Err(err.into());
            }
            let pause = pause(self.options.backoff, tries);
            tries += 1;
            log::warn!("{err}; connecting again in {:.1} s", pause.as_secs_f64());
            tokio::time::sleep(pause).await;
        }
    }

    /// Why there is nothing: the feed never answered.
    pub fn unanswered(&self) -> SourceError {
        self.unreachable("it did not answer in the time that was given".to_owned())
    }

    /// What is left to hand on: facts that nobody took yet, and holes that no quote ended.
    pub fn end(&mut self) -> Vec<(String, Fact)> {
        let outages = self.tracker.end(now());
        self.counts.outages += outages.len() as u64;
        let source = self.source.clone().unwrap_or_default();
        let facts = self.waiting.drain(..).chain(outages.into_iter().map(Fact::Outage));
        facts.map(|fact| (source.clone(), fact)).collect()
    }

    async fn connection(&mut self, out: &mpsc::Sender<(String, Fact)>) -> End {
        match self.converse(out).await {
            Ok(()) => End::Done,
            Err(end) => end,
        }
    }

    async fn converse(&mut self, out: &mpsc::Sender<(String, Fact)>) -> Result<(), End> {
        let silence = self.options.timeout.clamp(SHORTEST_SILENCE, SILENCE);
        let mut socket = self.connect(silence.min(self.options.timeout)).await?;
        self.tracker.connected(now());
        let wish = Frame::text(message::subscription(&self.options.pairs));
        match timeout(silence, socket.send(wish)).await {
            Ok(Ok(())) => {}
            Ok(Err(err)) => return Err(self.unreachable(err.to_string()).into()),
            Err(_) => return Err(self.unreachable("it takes no subscription".to_owned()).into()),
        }
        let (mut subscribed, mut early, mut early_since) = (false, Vec::new(), None::<Instant>);
        let mut heard = Instant::now();
        loop {
            let mut left = silence.saturating_sub(heard.elapsed());
            if let Some(since) = early_since.filter(|_| !subscribed) {
                left = left.min(UNANSWERED.saturating_sub(since.elapsed()));
            }
            let frame = match timeout(left, socket.next()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(err))) => return Err(self.unreachable(err.to_string()).into()),
                Ok(None) => return Err(self.unreachable("the connection ended".to_owned()).into()),
                Err(_) if !subscribed && early_since.is_some() => {
                    self.take_as_subscribed(&mut early)?;
                    subscribed = true;
                    if self.hand_on(out).await {
                        return Ok(());
                    }
                    continue;
                }
                Err(_) => {
                    let why = format!("not a word for {:.0} s", silence.as_secs_f64());
                    return Err(self.unreachable(why).into());
                }
            };
            let text = match frame {
                Frame::Text(text) => text,
                Frame::Close(close) => {
                    let why =
                        close.map_or(String::new(), |close| format!(": {} {}", u16::from(close.code), close.reason));
                    return Err(self.unreachable(format!("it closed the connection{why}")).into());
                }
                Frame::Binary(_) => {
                    heard = Instant::now();
                    self.count_broken(Broken("it is no text".to_owned()), "");
                    continue;
                }
                // Answered by the library. They tell that the machine is there, not that quotes come.
                Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_) => continue,
            };
            match message::read(&text) {
                Ok(Message::Subscribed { .. }) if subscribed => {}
                Ok(Message::Subscribed { pairs, sandbox }) => {
                    self.subscribed(&pairs, sandbox)?;
                    subscribed = true;
                    for message in std::mem::take(&mut early) {
                        self.take(message);
                    }
                }
                Ok(Message::Refused(why)) => return Err(self.refused(why, subscribed)),
                Ok(Message::Other) => {}
                Err(broken) => self.count_broken(broken, &text),
                Ok(message) if subscribed => self.take(message),
                Ok(message) if early.len() < EARLY && early_since.is_none_or(|since| since.elapsed() < UNANSWERED) => {
                    early_since.get_or_insert_with(Instant::now);
                    early.push(message);
                }
                Ok(message) => {
                    self.take_as_subscribed(&mut early)?;
                    subscribed = true;
                    self.take(message);
                }
            }
            if self.hand_on(out).await {
                let _ = timeout(Duration::from_millis(200), socket.close(None)).await;
                return Ok(());
            }
            // Time that we let it wait is no silence of its own.
            heard = Instant::now();
        }
    }

    async fn connect(&self, patience: Duration) -> Result<Socket, End> {
        http::choose_cryptography();
        let client = |why: String| End::Hopeless(SourceError::Client(why).into());
        let mut request = self.options.url.as_str().into_client_request().map_err(|err| client(err.to_string()))?;
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(http::USER_AGENT));
        let limits = WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
        match timeout(patience, connect_async_with_config(request, Some(limits), true)).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(WsError::Http(response))) => {
                let body = response.body().as_deref().unwrap_or_default();
                let status = response.status().as_u16();
                let told = Told { endpoint: "feed", status, retry_after: None, body };
                let err = wire::explain(&told, FEED_SETTING);
                // A feed that was there before may be there again.
                Err(if err.is_transient() || self.source.is_some() {
                    End::Lost(err)
                } else {
                    End::Hopeless(err.into())
                })
            }
            Ok(Err(err)) => Err(self.unreachable(err.to_string()).into()),
            Err(_) => Err(self.unreachable("no answer".to_owned()).into()),
        }
    }

    fn unreachable(&self, why: String) -> SourceError {
        SourceError::Unreachable { url: self.options.url.clone(), why, setting: FEED_SETTING }
    }

    /// The answer to a subscription tells whose quotes these are.
    fn subscribed(&mut self, pairs: &[String], sandbox: bool) -> Result<(), End> {
        let lacking: Vec<&str> = self.options.pairs.iter().filter(|p| !pairs.contains(p)).map(String::as_str).collect();
        if !lacking.is_empty() {
            let why = format!("the source has no quotes of {}; pairs are its own, such as BTC-USD", lacking.join(", "));
            return Err(End::Hopeless(UsageError(why).into()));
        }
        let name = if sandbox { format!("{SANDBOX_PREFIX}{SOURCE}") } else { SOURCE.to_owned() };
        match &self.source {
            None => {
                log::info!("{name}: {} from {}", pairs.join(", "), self.options.url);
                self.source = Some(name);
            }
            Some(expected) if *expected == name => {
                log::info!("{name}: connected again");
                self.counts.reconnects += 1;
            }
            Some(expected) => {
                let (endpoint, expected) = ("feed".to_owned(), expected.clone());
                let err = SourceError::OtherSource { endpoint, expected, got: name, setting: FEED_SETTING };
                return Err(End::Hopeless(err.into()));
            }
        }
        Ok(())
    }

    /// Quotes come though nothing said that we are subscribed: a relay passes on no more than them.
    fn take_as_subscribed(&mut self, early: &mut Vec<Message>) -> Result<(), End> {
        let sandbox = self.source.as_ref().is_some_and(|source| source.starts_with(SANDBOX_PREFIX));
        self.subscribed(&self.options.pairs.clone(), sandbox)?;
        for message in std::mem::take(early) {
            self.take(message);
        }
        Ok(())
    }

    /// An error that the feed tells. A pair that it does not know is for whoever asked for it.
    fn refused(&self, why: String, subscribed: bool) -> End {
        let words = |text: &str| -> Vec<String> {
            let is_of_pair = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
            let words = text.split(|c| !is_of_pair(c)).map(|word| word.trim_matches('.').to_owned());
            words.collect()
        };
        let named = words(&why);
        let unknown: Vec<&str> = self
            .options
            .pairs
            .iter()
            .map(String::as_str)
            .filter(|pair| named.iter().any(|word| word == pair))
            .collect();
        if !subscribed && !unknown.is_empty() {
            let why = format!("the source has no quotes of {} ({why})", unknown.join(", "));
            return End::Hopeless(UsageError(why).into());
        }
        // What it says of a limit, or of a trouble of its own, may be over in a while.
        End::Lost(self.unreachable(format!("it says: {why}")))
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Ticker { quote, trade_id } => {
                if self.is_enough() {
                    return;
                }
                let facts = self.tracker.ticker(quote, trade_id);
                if facts.is_empty() {
                    self.counts.stale += 1;
                }
                for fact in facts {
                    match &fact {
                        Fact::Quote(_) => self.counts.quotes += 1,
                        Fact::Outage(outage) => {
                            let (pair, reason) = (&outage.pair, outage.reason);
                            let (from, to) = (outage.from.rfc3339(), outage.to.rfc3339());
                            log::warn!("no quotes of {pair} from {from} to {to}: {reason}");
                            self.counts.outages += 1;
                        }
                    }
                    self.waiting.push_back(fact);
                }
            }
            Message::Heartbeat { pair, last_trade_id } => {
                self.tracker.heartbeat(&pair, last_trade_id, Instant::now());
            }
            Message::Subscribed { .. } | Message::Refused(_) | Message::Other => {}
        }
    }

    fn is_enough(&self) -> bool {
        self.options.count.is_some_and(|count| self.counts.quotes >= count)
    }

    /// True when there is nothing more to do.
    async fn hand_on(&mut self, out: &mpsc::Sender<(String, Fact)>) -> bool {
        while !self.waiting.is_empty() {
            // Taken only once there is room for it, so that nothing is lost when we are not waited for.
            let Ok(room) = out.reserve().await else { return true };
            if let (Some(source), Some(fact)) = (&self.source, self.waiting.pop_front()) {
                room.send((source.clone(), fact));
            }
        }
        self.is_enough()
    }

    fn count_broken(&mut self, broken: Broken, text: &str) {
        self.counts.broken += 1;
        let seen = self.broken.entry(broken.clone()).or_default();
        *seen += 1;
        if *seen == 1 {
            let start: String = text.chars().take(300).collect();
            log::warn!("a message of the feed can't be used: {}; others like it are only counted: {start}", broken.0);
        }
    }
}

fn now() -> Micros {
    Micros::from_micros(chrono::Utc::now().timestamp_micros()).unwrap_or_default()
}

/// Doubles from try to try, with full jitter; never so short that it would be impolite.
fn pause(base: Duration, tries: u32) -> Duration {
    let most = base * (1 << tries.min(10)).min(BACKOFF_CAP);
    rand::rng().random_range(base / 8..=most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_polite() {
        let base = Duration::from_secs(1);
        for tries in 0..40 {
            let pause = pause(base, tries);
            assert!(pause >= base / 8 && pause <= base * (1 << tries.min(5)).min(30), "{tries}: {pause:?}");
        }
    }

    fn feed(pairs: &[&str]) -> Feed {
        Feed::new(Options {
            url: "ws://127.0.0.1:9".to_owned(),
            pairs: pairs.iter().map(|pair| pair.to_string()).collect(),
            backoff: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            count: None,
        })
    }

    #[test]
    fn an_error_is_the_asker_s_only_when_it_names_a_pair() {
        let is_usage = |why: &str, subscribed| {
            let end = feed(&["BTC-USD", "NO-PE"]).refused(why.to_owned(), subscribed);
            matches!(end, End::Hopeless(err) if err.is::<UsageError>() && err.to_string().contains("of NO-PE ("))
        };
        assert!(is_usage("Failed to subscribe: NO-PE is not a valid product", false));
        assert!(is_usage("Failed to subscribe: NO-PE is delisted.", false));
        assert!(!is_usage("Failed to subscribe: rate limit", false));
        assert!(!is_usage("NO-PE-X is delisted", false));
        assert!(!is_usage("NO-PE: auction", true));
    }

    #[test]
    fn the_name_is_that_of_the_first_answer() {
        let pairs = ["BTC-USD".to_owned()];
        let mut feed = feed(&["BTC-USD"]);
        assert!(feed.subscribed(&pairs, true).is_ok());
        assert_eq!(feed.source(), Some("sandbox-coinbase"));
        assert!(feed.subscribed(&pairs, true).is_ok() && feed.counts().reconnects == 1);
        let Err(End::Hopeless(err)) = feed.subscribed(&pairs, false) else { panic!() };
        assert!(err.to_string().contains("COINBASE_WS_URL"), "{err}");
        assert!(matches!(feed.subscribed(&[], true), Err(End::Hopeless(err)) if err.is::<UsageError>()));
    }
}
