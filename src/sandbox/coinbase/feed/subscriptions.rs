//! What a client is subscribed to, and what it says to change that.

use serde::Deserialize;
use serde_json::Value;

use super::super::super::json::{key, string};
use super::super::catalogue::{Catalogue, Standing};

/// A channel that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Ticker,
    /// Subscribed to as `ticker_batch`; the answer calls it otherwise.
    TickerBatch,
    Heartbeat,
}

/// The vendor has them, the sandbox does not.
const NOT_SERVED: [&str; 5] = ["matches", "level2_batch", "status", "auctionfeed", "rfq_matches"];
const NEED_A_KEY: [&str; 4] = ["level2", "level3", "full", "user"];

impl Channel {
    pub const ALL: [Channel; 3] = [Channel::Ticker, Channel::TickerBatch, Channel::Heartbeat];

    fn find(name: &str) -> Result<Channel, String> {
        match name {
            "ticker" => Ok(Channel::Ticker),
            "ticker_batch" | "ticker_1000" => Ok(Channel::TickerBatch),
            "heartbeat" => Ok(Channel::Heartbeat),
            _ if NOT_SERVED.contains(&name) => Err(format!("the sandbox does not serve {name}")),
            _ if NEED_A_KEY.contains(&name) => Err("level2, level3, and full channels now require authentication. \
                https://docs.cdp.coinbase.com/exchange/docs/websocket-auth"
                .to_owned()),
            _ => Err(format!("{name} is not a valid channel")),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Channel::Ticker => "ticker",
            Channel::TickerBatch => "ticker_1000",
            Channel::Heartbeat => "heartbeat",
        }
    }
}

#[derive(Debug, Deserialize)]
struct Command {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    product_ids: Option<Vec<String>>,
    #[serde(default)]
    channels: Option<Vec<Wish>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Wish {
    Name(String),
    Channel {
        name: String,
        #[serde(default)]
        product_ids: Option<Vec<String>>,
    },
}

/// For each channel the products, by their places in the catalogue, in the order of asking.
#[derive(Debug, Default)]
pub struct Subscriptions {
    products: [Vec<usize>; Channel::ALL.len()],
}

/// A product that is new in a channel.
pub type Added = (Channel, usize);

impl Subscriptions {
    /// Does what a message says, as a whole or not at all. The error is the reason for the client.
    pub fn apply(&mut self, text: &str, catalogue: &Catalogue, at: i64) -> Result<Vec<Added>, String> {
        let value: Value = serde_json::from_str(text).map_err(|_| "Malformed JSON".to_owned())?;
        let command = Command::deserialize(value).map_err(|err| format!("malformed message: {err}"))?;
        match command.kind.as_str() {
            "subscribe" => self.subscribe(command, catalogue, at),
            "unsubscribe" => self.unsubscribe(command, catalogue).map(|()| Vec::new()),
            _ => Err("type has to be either subscribe or unsubscribe".to_owned()),
        }
    }

    pub fn has(&self, channel: Channel, product: usize) -> bool {
        self.products[channel as usize].contains(&product)
    }

    pub fn is_empty(&self) -> bool {
        self.products.iter().all(Vec::is_empty)
    }

    /// Appends the answer to every change: all that there is, and that it comes from a sandbox.
    pub fn write(&self, out: &mut Vec<u8>, catalogue: &Catalogue) {
        out.extend_from_slice(b"{\"type\":\"subscriptions\",\"channels\":[");
        let mut first = true;
        for channel in Channel::ALL {
            let products = &self.products[channel as usize];
            if products.is_empty() {
                continue;
            }
            out.extend_from_slice(if first { b"{" } else { b",{" });
            first = false;
            key(out, "name");
            string(out, channel.name());
            key(out, "product_ids");
            for (n, &place) in products.iter().enumerate() {
                out.push(if n == 0 { b'[' } else { b',' });
                string(out, &catalogue.products[place].id);
            }
            out.extend_from_slice(b"]}");
        }
        out.extend_from_slice(b"],\"sandbox\":true}");
    }

    fn subscribe(&mut self, command: Command, catalogue: &Catalogue, at: i64) -> Result<Vec<Added>, String> {
        let mut wanted = Vec::new();
        let common = command.product_ids.unwrap_or_default();
        for wish in command.channels.unwrap_or_default() {
            let (channel, own) = wish.read()?;
            for id in common.iter().chain(&own.unwrap_or_default()) {
                wanted.push((channel, product(catalogue, id, at)?));
            }
        }
        if wanted.is_empty() {
            return Err("channels and product_ids have to be given".to_owned());
        }
        let mut added = Vec::new();
        for (channel, place) in wanted {
            if !self.has(channel, place) {
                self.products[channel as usize].push(place);
                added.push((channel, place));
            }
        }
        Ok(added)
    }

    /// A channel without products is left as a whole; products without a channel leave them all.
    fn unsubscribe(&mut self, command: Command, catalogue: &Catalogue) -> Result<(), String> {
        let common = command.product_ids.unwrap_or_default();
        let mut left = Vec::new();
        match command.channels {
            Some(wishes) => {
                for wish in wishes {
                    let (channel, own) = wish.read()?;
                    left.push((channel, [common.clone(), own.unwrap_or_default()].concat()));
                }
            }
            None if common.is_empty() => return Err("channels and product_ids have to be given".to_owned()),
            None => left.extend(Channel::ALL.map(|channel| (channel, common.clone()))),
        }
        for (channel, ids) in left {
            let products = &mut self.products[channel as usize];
            let leaves = |place: &usize| ids.is_empty() || ids.contains(&catalogue.products[*place].id);
            products.retain(|place| !leaves(place));
        }
        Ok(())
    }
}

impl Wish {
    fn read(self) -> Result<(Channel, Option<Vec<String>>), String> {
        let (name, product_ids) = match self {
            Wish::Name(name) => (name, None),
            Wish::Channel { name, product_ids } => (name, product_ids),
        };
        Ok((Channel::find(&name)?, product_ids))
    }
}

fn product(catalogue: &Catalogue, id: &str, at: i64) -> Result<usize, String> {
    let place = catalogue.place(id).ok_or_else(|| format!("{id} is not a valid product"))?;
    match catalogue.products[place].standing(at) {
        Standing::Delisted => Err(format!("{id} is delisted")),
        _ => Ok(place),
    }
}

/// Appends the answer to a message that is refused.
pub fn refuse(out: &mut Vec<u8>, reason: &str) {
    out.extend_from_slice(b"{\"type\":\"error\",\"message\":\"Failed to subscribe\"");
    key(out, "reason");
    string(out, reason);
    out.push(b'}');
}
