//! The HTTP API: the requests and answers of Toxiproxy 2.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use super::proxy::Proxy;
use super::toxic::{Attributes, Stream, Toxic};

/// The proxies by name.
pub type Proxies = Arc<Mutex<BTreeMap<String, Proxy>>>;

/// The API over these proxies.
pub fn router(proxies: Proxies) -> Router {
    Router::new()
        .route("/version", get(version))
        .route("/reset", post(reset))
        .route("/populate", post(populate))
        .route("/proxies", get(list).post(create))
        .route("/proxies/{proxy}", get(show).post(change).patch(change).delete(remove))
        .route("/proxies/{proxy}/toxics", get(toxics).post(add_toxic))
        .route(
            "/proxies/{proxy}/toxics/{toxic}",
            get(show_toxic).post(change_toxic).patch(change_toxic).delete(remove_toxic),
        )
        .with_state(proxies)
}

/// An error as the API words it.
struct ApiError(StatusCode, String);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self(status, error) = self;
        (status, axum::Json(json!({"error": error, "status": status.as_u16()}))).into_response()
    }
}

type Answer<T = (StatusCode, axum::Json<Value>)> = Result<T, ApiError>;

fn answer(status: StatusCode, value: Value) -> Answer {
    Ok((status, axum::Json(value)))
}

fn bad(why: impl Into<String>) -> ApiError {
    ApiError(StatusCode::BAD_REQUEST, why.into())
}

fn no_proxy() -> ApiError {
    ApiError(StatusCode::NOT_FOUND, "proxy not found".to_owned())
}

fn no_toxic() -> ApiError {
    ApiError(StatusCode::NOT_FOUND, "toxic not found".to_owned())
}

fn object(body: &Bytes) -> Result<Map<String, Value>, ApiError> {
    serde_json::from_slice(body).map_err(|e| bad(format!("bad request body: {e}")))
}

fn text(object: &Map<String, Value>, key: &str) -> Option<String> {
    object.get(key).and_then(Value::as_str).filter(|s| !s.is_empty()).map(str::to_owned)
}

async fn version() -> Answer {
    answer(StatusCode::OK, json!({"version": "2.9.0-godwit"}))
}

async fn list(State(proxies): State<Proxies>) -> Answer {
    let proxies = proxies.lock().await;
    let all: Map<_, _> = proxies.iter().map(|(name, p)| (name.clone(), p.to_json())).collect();
    answer(StatusCode::OK, Value::Object(all))
}

fn new_proxy(given: &Map<String, Value>) -> Result<Proxy, ApiError> {
    let need = |key| text(given, key).ok_or_else(|| bad(format!("missing required field: {key}")));
    let (name, upstream) = (need("name")?, need("upstream")?);
    let listen = text(given, "listen").unwrap_or_else(|| "127.0.0.1:0".to_owned());
    Ok(Proxy::new(name, listen, upstream))
}

async fn start(proxy: &mut Proxy) -> Result<(), ApiError> {
    let started = proxy.start().await;
    started
        .map_err(|e| ApiError(StatusCode::INTERNAL_SERVER_ERROR, format!("{}: {e}", proxy.listen)))
}

fn wants(given: &Map<String, Value>) -> Option<bool> {
    given.get("enabled").and_then(Value::as_bool)
}

async fn create(State(proxies): State<Proxies>, body: Bytes) -> Answer {
    let given = object(&body)?;
    let mut proxy = new_proxy(&given)?;
    let mut proxies = proxies.lock().await;
    if proxies.contains_key(&proxy.name) {
        return Err(ApiError(StatusCode::CONFLICT, "proxy already exists".to_owned()));
    }
    if wants(&given) != Some(false) {
        start(&mut proxy).await?;
    }
    let shown = proxy.to_json();
    proxies.insert(proxy.name.clone(), proxy);
    answer(StatusCode::CREATED, shown)
}

async fn populate(State(proxies): State<Proxies>, body: Bytes) -> Answer {
    let wanted: Vec<Map<String, Value>> =
        serde_json::from_slice(&body).map_err(|e| bad(format!("bad request body: {e}")))?;
    let mut proxies = proxies.lock().await;
    let mut shown = Vec::new();
    for given in wanted {
        let mut proxy = new_proxy(&given)?;
        if let Some(old) = proxies.get_mut(&proxy.name) {
            if old.listen == proxy.listen && old.upstream == proxy.upstream {
                shown.push(old.to_json());
                continue;
            }
            old.stop().await;
        }
        if wants(&given) != Some(false) {
            start(&mut proxy).await?;
        }
        shown.push(proxy.to_json());
        proxies.insert(proxy.name.clone(), proxy);
    }
    answer(StatusCode::CREATED, json!({"proxies": shown}))
}

async fn reset(State(proxies): State<Proxies>) -> Answer<StatusCode> {
    for proxy in proxies.lock().await.values_mut() {
        proxy.set_toxics(Vec::new());
        start(proxy).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn show(State(proxies): State<Proxies>, Path(name): Path<String>) -> Answer {
    let proxies = proxies.lock().await;
    answer(StatusCode::OK, proxies.get(&name).ok_or_else(no_proxy)?.to_json())
}

async fn change(State(proxies): State<Proxies>, Path(name): Path<String>, body: Bytes) -> Answer {
    let given = object(&body)?;
    let mut proxies = proxies.lock().await;
    let proxy = proxies.get_mut(&name).ok_or_else(no_proxy)?;
    let was_enabled = proxy.enabled();
    let listen = text(&given, "listen").unwrap_or_else(|| proxy.listen.clone());
    let upstream = text(&given, "upstream").unwrap_or_else(|| proxy.upstream.clone());
    if listen != proxy.listen || upstream != proxy.upstream {
        proxy.stop().await;
        (proxy.listen, proxy.upstream) = (listen, upstream);
    }
    if wants(&given).unwrap_or(was_enabled) {
        start(proxy).await?;
    } else {
        proxy.stop().await;
    }
    answer(StatusCode::OK, proxy.to_json())
}

async fn remove(State(proxies): State<Proxies>, Path(name): Path<String>) -> Answer<StatusCode> {
    let mut proxy = proxies.lock().await.remove(&name).ok_or_else(no_proxy)?;
    proxy.stop().await;
    Ok(StatusCode::NO_CONTENT)
}

async fn toxics(State(proxies): State<Proxies>, Path(name): Path<String>) -> Answer {
    let proxies = proxies.lock().await;
    let toxics = proxies.get(&name).ok_or_else(no_proxy)?.toxics();
    answer(StatusCode::OK, toxics.iter().map(Toxic::to_json).collect())
}

fn new_toxic(given: &Map<String, Value>) -> Result<Toxic, ApiError> {
    let kind = text(given, "type").unwrap_or_default();
    let empty = Map::new();
    let attributes = given.get("attributes").and_then(Value::as_object).unwrap_or(&empty);
    let attributes =
        Attributes::parse(&kind, attributes).ok_or_else(|| bad("invalid toxic type"))?;
    let stream = match text(given, "stream").as_deref() {
        None | Some("downstream") => Stream::Downstream,
        Some("upstream") => Stream::Upstream,
        Some(_) => return Err(bad("stream was invalid, can be either upstream or downstream")),
    };
    let way = if stream == Stream::Upstream { "upstream" } else { "downstream" };
    let name = text(given, "name").unwrap_or_else(|| format!("{kind}_{way}"));
    let toxicity = given.get("toxicity").and_then(Value::as_f64).unwrap_or(1.0);
    Ok(Toxic { name, stream, toxicity, attributes })
}

async fn add_toxic(
    State(proxies): State<Proxies>,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer {
    let given = object(&body)?;
    let proxies = proxies.lock().await;
    let proxy = proxies.get(&name).ok_or_else(no_proxy)?;
    let toxic = new_toxic(&given)?;
    let mut all = Vec::clone(&proxy.toxics());
    if all.iter().any(|t| t.name == toxic.name) {
        return Err(ApiError(StatusCode::CONFLICT, "toxic already exists".to_owned()));
    }
    let shown = toxic.to_json();
    all.push(toxic);
    proxy.set_toxics(all);
    answer(StatusCode::OK, shown)
}

async fn show_toxic(
    State(proxies): State<Proxies>,
    Path((name, toxic)): Path<(String, String)>,
) -> Answer {
    let proxies = proxies.lock().await;
    let toxics = proxies.get(&name).ok_or_else(no_proxy)?.toxics();
    let found = toxics.iter().find(|t| t.name == toxic).ok_or_else(no_toxic)?;
    answer(StatusCode::OK, found.to_json())
}

async fn change_toxic(
    State(proxies): State<Proxies>,
    Path((name, toxic)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let given = object(&body)?;
    let proxies = proxies.lock().await;
    let proxy = proxies.get(&name).ok_or_else(no_proxy)?;
    let mut all = Vec::clone(&proxy.toxics());
    let found = all.iter_mut().find(|t| t.name == toxic).ok_or_else(no_toxic)?;
    if let Some(changes) = given.get("attributes").and_then(Value::as_object) {
        found.attributes = found.attributes.with(changes);
    }
    if let Some(toxicity) = given.get("toxicity").and_then(Value::as_f64) {
        found.toxicity = toxicity;
    }
    let shown = found.to_json();
    proxy.set_toxics(all);
    answer(StatusCode::OK, shown)
}

async fn remove_toxic(
    State(proxies): State<Proxies>,
    Path((name, toxic)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let proxies = proxies.lock().await;
    let proxy = proxies.get(&name).ok_or_else(no_proxy)?;
    let mut all = Vec::clone(&proxy.toxics());
    let before = all.len();
    all.retain(|t| t.name != toxic);
    if all.len() == before {
        return Err(no_toxic());
    }
    proxy.set_toxics(all);
    Ok(StatusCode::NO_CONTENT)
}
