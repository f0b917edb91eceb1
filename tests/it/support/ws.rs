//! A WebSocket server that says what a test tells it to: for feeds that the sandbox is too well-behaved for.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

/// One client, from the server's side.
pub struct Peer {
    socket: WebSocketStream<TcpStream>,
    /// From 0, in the order of their coming.
    pub number: usize,
}

impl Peer {
    /// The next text that the client says.
    pub async fn hear(&mut self) -> String {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return text.to_string(),
                Some(Ok(_)) => {}
                // Whoever waits for a client that left has nothing more to do.
                _ => std::future::pending().await,
            }
        }
    }

    pub async fn say(&mut self, text: impl Into<String>) {
        // A client that is gone does not hear it.
        let _ = self.socket.send(Message::text(text.into())).await;
    }

    /// Hears a subscription, and answers that all of it is subscribed to.
    pub async fn subscribe(&mut self, pairs: &[&str]) {
        let asked: serde_json::Value = serde_json::from_str(&self.hear().await).expect("JSON");
        assert_eq!(asked["product_ids"], serde_json::json!(pairs));
        let channels: Vec<_> =
            ["ticker", "heartbeat"].map(|name| serde_json::json!({ "name": name, "product_ids": pairs })).into();
        self.say(serde_json::json!({ "type": "subscriptions", "channels": channels }).to_string()).await;
    }

    pub async fn ticker(&mut self, pair: &str, sequence: u64, time: chrono::DateTime<chrono::Utc>) {
        self.say(ticker(pair, sequence, sequence, time)).await;
    }

    pub async fn heartbeat(&mut self, pair: &str, last_trade_id: u64) {
        let time = chrono::Utc::now().to_rfc3339();
        let beat = serde_json::json!({ "type": "heartbeat", "product_id": pair, "sequence": last_trade_id,
            "last_trade_id": last_trade_id, "time": time });
        self.say(beat.to_string()).await;
    }

    /// For as long as the client stays.
    pub async fn stay(mut self) {
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}

/// A ticker whose trade has this number.
pub fn ticker(pair: &str, sequence: u64, trade: u64, time: chrono::DateTime<chrono::Utc>) -> String {
    let time = time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    serde_json::json!({ "type": "ticker", "product_id": pair, "sequence": sequence, "trade_id": trade,
        "price": "97123.45", "best_bid": "97123.45000", "best_ask": "97123.46", "volume_24h": "8123.10000000",
        "time": time, "side": "buy", "last_size": "0.1" })
    .to_string()
}

/// The server; it ends when dropped.
pub struct WsStub {
    address: String,
    clients: Arc<AtomicUsize>,
    agents: Arc<Mutex<Vec<String>>>,
    _runtime: tokio::runtime::Runtime,
}

impl WsStub {
    /// Does this with each client that comes; the connection ends with it, without a word.
    pub fn start<F: Future<Output = ()> + Send + 'static>(serve: impl Fn(Peer) -> F + Send + Sync + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("the port").to_string();
        let (clients, agents) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (counter, heard, serve) = (clients.clone(), agents.clone(), Arc::new(serve));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (counter, heard, serve) = (counter.clone(), heard.clone(), serve.clone());
                tokio::spawn(async move {
                    #[expect(clippy::result_large_err, reason = "the type is the library's")]
                    let look = |request: &Request, response: Response| {
                        let agent = request.headers().get("user-agent").and_then(|agent| agent.to_str().ok());
                        heard.lock().expect("the agents").push(agent.unwrap_or_default().to_owned());
                        Ok(response)
                    };
                    if let Ok(socket) = accept_hdr_async(stream, look).await {
                        let number = counter.fetch_add(1, Ordering::SeqCst);
                        serve(Peer { socket, number }).await;
                    }
                });
            }
        });
        WsStub { address, clients, agents, _runtime: runtime }
    }

    /// What `COINBASE_WS_URL` is set to.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// How many clients came so far.
    pub fn clients(&self) -> usize {
        self.clients.load(Ordering::SeqCst)
    }

    /// How each of them called itself.
    pub fn agents(&self) -> Vec<String> {
        self.agents.lock().expect("the agents").clone()
    }
}
