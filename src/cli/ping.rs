//! The dead-man's switch: somebody else's server hears from every run, and raises the alarm when it
//! hears nothing, or of a failure.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::exit::Exit;
use crate::sources::http::plain_client;

const TIMEOUT: Duration = Duration::from_secs(10);
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// Calls the address when a run ended well, and `/fail` below it when not. It never changes how the
/// run ended: a switch that can't be reached is told in the log, without its address.
pub fn tell(url: &SecretString, exit: Exit) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(err) => return log::warn!("COINETL_PING_URL could not be called: {err}"),
    };
    if let Err(why) = runtime.block_on(call(url, exit)) {
        log::warn!("COINETL_PING_URL could not be called: {why}; the run itself is not touched by this");
    }
}

async fn call(url: &SecretString, exit: Exit) -> Result<(), String> {
    let mut url = url::Url::parse(url.expose_secret()).map_err(|err| err.to_string())?;
    if exit != Exit::Ok {
        let path = format!("{}/fail", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    let client = plain_client(url.as_str(), TIMEOUT).map_err(|err| err.to_string())?;
    let mut why = String::new();
    for attempt in 1..=TRIES {
        why = match client.get(url.clone()).send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => format!("it answers {}", answer.status()),
            Err(err) => err.without_url().to_string(),
        };
        if attempt < TRIES {
            tokio::time::sleep(PAUSE * attempt).await;
        }
    }
    Err(why)
}
