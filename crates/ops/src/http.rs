//! `/metrics`, `/healthz` and `/readyz`, the same for every daemon.

use std::collections::BTreeMap;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::health::Health;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

/// Listens at `address`; says in a sentence why not. `what` is who will connect there, such as
/// `clients` or `metrics`.
pub async fn bind(what: &str, address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "cannot listen for {what} at {address} (is the port in use, or the address not of this machine?)"
        )
    })
}

/// Serves until shutdown.
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    health: Health,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let router =
        Router::new()
            .route("/metrics", get(exposition))
            .route(
                "/healthz",
                get(|State((_, health)): State<(Metrics, Health)>| async move {
                    report(&health.dead())
                }),
            )
            .route(
                "/readyz",
                get(|State((_, health)): State<(Metrics, Health)>| async move {
                    report(&health.unready())
                }),
            )
            .with_state((metrics, health));
    // Scrapers keep connections open; waiting for them would hold up the exit, so the end is hard.
    tokio::select! {
        served = async { axum::serve(listener, router).await } => served.context("serving metrics"),
        () = shutdown.cancelled() => Ok(()),
    }
}

async fn exposition(State((metrics, _)): State<(Metrics, Health)>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics.encode()).into_response()
}

fn report(problems: &BTreeMap<String, String>) -> Response {
    if problems.is_empty() {
        return "ok\n".into_response();
    }
    let lines: String = problems.iter().map(|(name, why)| format!("{name}: {why}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Identity;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ask(address: std::net::SocketAddr, path: &str) -> String {
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_three_pages_answer_and_the_server_stops() {
        let listener = bind("metrics", "127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let taken = bind("metrics", &address.to_string()).await.unwrap_err().to_string();
        assert!(taken.contains(&address.to_string()), "{taken}");

        let metrics = Metrics::new("test", "0.1.0", &Identity::default());
        let (health, shutdown) = (Health::new(), Shutdown::new());
        let check = health.check("registry");
        let server = tokio::spawn(serve(listener, metrics, health, shutdown.clone()));
        assert!(ask(address, "/metrics").await.contains("godwit_test_build_info"));
        assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        let unready = ask(address, "/readyz").await;
        assert!(unready.starts_with("HTTP/1.1 503") && unready.contains("registry: starting"));
        check.ok();
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        shutdown.request();
        server.await.unwrap().unwrap();
    }
}
