//! The loop that accepts connections: with a limit for slow ones, and a graceful end.

use std::time::Duration;

use super::front;
use super::state::State;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Method;
use hyper::body::Incoming;
use hyper::{Request, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

/// Connections at once; more wait to be accepted.
const MOST_CONNECTIONS: u64 = 2_000;
/// A request's header must be there by then, and the next one of an idle connection.
const HEADER_PATIENCE: Duration = Duration::from_secs(30);
/// A client that takes nothing for so long is gone.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// How long answers may still be sent after the order to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Serves until `stop` resolves, then lets answers end that have begun.
pub async fn serve(listener: TcpListener, router: Router, state: State, stop: impl Future<Output = ()>) {
    let mut stop = std::pin::pin!(stop);
    // The database, Redis and files want handles as well.
    let places = MOST_CONNECTIONS.min(handles() / 2).max(16);
    let places = Arc::new(Semaphore::new(places as usize));
    let graceful = GracefulShutdown::new();
    loop {
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place,
            () = &mut stop => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        // The semaphore is never closed.
        let Ok(place) = place else { break };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(err) => {
                // Out of file handles, most likely: others are given back soon.
                log::warn!("a connection can't be accepted: {err}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (router, state) = (router.clone(), state.clone());
        let handle = service_fn(move |request: Request<Incoming>| {
            let (router, state) = (router.clone(), state.clone());
            async move {
                if let Some(response) = front::answer(&state, &request).await {
                    return Ok(response);
                }
                let address = request.uri().path_and_query().filter(|_| request.method() == Method::GET).cloned();
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(ConnectInfo(peer));
                let mut response = router.oneshot(request).await?;
                if let Some(address) = address {
                    front::keep(&state, address.as_str(), &mut response);
                }
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_PATIENCE)
            .serve_connection(TokioIo::new(Box::pin(patient(stream))), handle);
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            let _place = place;
            // The client went away, or was too slow: nobody is left to tell.
            if let Err(err) = watched.await {
                log::debug!("a connection ended: {err}");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        log::warn!("some answers were not taken within {} s; their connections are closed", GRACE.as_secs());
    }
}

/// Takes as many file handles as the system lets us have: the usual limit is for programs that need a few.
pub fn take_handles() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read or write the one struct that they are given.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// Lets large answers live outside the heap: they come and go by the megabyte, and what they left there would
/// stay ours.
pub fn keep_large_apart() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it only sets a number inside the allocator.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 3 << 20);
    }
}

fn handles() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: it writes the struct that it is given.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 };
    if known { limit.rlim_cur } else { 1_024 }
}

fn patient(stream: TcpStream) -> TimeoutStream<TcpStream> {
    // Small answers must not wait for the next packet.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_PATIENCE));
    stream
}
