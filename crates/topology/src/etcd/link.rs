//! One connection to one member of the cluster: HTTP/2 over TCP or TLS, with gRPC's calls on it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::PathAndQuery;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use ops::tls::{Client as Tls, PeerName, Socket};
use prost::Message;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::address::{Address, Endpoint, Login};
use super::proto::{AuthenticateRequest, AuthenticateResponse};
use crate::limits::TOTAL_BYTES_MAX;

/// The longest message that is read. A list that is longer is asked for in smaller pages.
pub(super) const MESSAGE_BYTES_MAX: usize = 8 << 20;
const _: () = assert!(MESSAGE_BYTES_MAX < TOTAL_BYTES_MAX);
/// An idle connection with a watch on it is tried this often; etcd closes those that try more often
/// than every five seconds.
const PING: Duration = Duration::from_secs(10);
/// Calls fail a moment before the connection says why.
const END_WITHIN: Duration = Duration::from_millis(50);
const PONG_WITHIN: Duration = Duration::from_secs(5);

/// A connection. Clones share it; it closes with the last of them, or by [`Link::cut`].
#[derive(Clone, Debug)]
pub(super) struct Link {
    channel: Channel,
    origin: http::Uri,
    token: Option<MetadataValue<Ascii>>,
    task: Arc<Task>,
    /// Why it ended by itself.
    ended: watch::Receiver<Option<String>>,
    endpoint: Endpoint,
}

/// The task that moves the connection's bytes.
#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Link {
    /// Dials, shakes hands and logs in. The sentence says why not.
    pub(super) async fn open(address: &Address, endpoint: &Endpoint) -> Result<Self, String> {
        let why = |what: &str, why: &dyn std::fmt::Display| format!("{endpoint}: {what}: {why}");
        let socket = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await;
        let socket = socket.map_err(|error| why("connecting", &error))?;
        socket.set_nodelay(true).map_err(|error| why("connecting", &error))?;
        let socket = match &address.tls {
            None => Socket::plain(socket),
            Some(files) => {
                // Read again for each connection: certificates are renewed while programs run.
                let files = files.clone();
                let tls = tokio::task::spawn_blocking(move || Tls::open(&files)).await;
                let tls = tls.map_err(|error| why("TLS", &error))?;
                let tls = tls.map_err(|error| why("TLS", &error))?.speaking(b"h2");
                let name = PeerName::new(&endpoint.host).map_err(|error| why("TLS", &error))?;
                let shaken = tls.connect(socket, &name, address.timeout).await;
                shaken.map_err(|error| why("TLS", &error))?
            }
        };
        let handshake = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PONG_WITHIN)
            .handshake(TokioIo::new(socket))
            .await;
        let (sender, connection) = handshake.map_err(|error| why("HTTP/2", &error))?;
        let (ending, ended) = watch::channel(None);
        // Who wants a certificate and is shown none closes, and its reason may be lost on the way.
        let bare = address.tls.as_ref().is_some_and(|files| files.own.is_none());
        let task = tokio::spawn(async move {
            // Kept until its end is told: dropped, it fails its calls with less to say.
            let mut connection = std::pin::pin!(connection);
            if let Err(error) = connection.as_mut().await {
                let mut why = error.to_string();
                let mut cause = std::error::Error::source(&error);
                while let Some(inner) = cause {
                    why = format!("{why}: {inner}");
                    cause = inner.source();
                }
                if bare {
                    why.push_str(
                        "; no certificate was shown to it (cert and key): does it want one?",
                    );
                }
                ending.send_replace(Some(why));
            }
        });
        let scheme = if address.tls.is_some() { "https" } else { "http" };
        let origin = format!("{scheme}://{endpoint}").parse();
        let mut link = Self {
            channel: Channel(sender),
            origin: origin.map_err(|error| why("its address", &error))?,
            token: None,
            task: Arc::new(Task(task.abort_handle())),
            ended,
            endpoint: endpoint.clone(),
        };
        if let Some(login) = &address.login {
            link.token = Some(link.log_in(login).await.map_err(|error| why("login", &error))?);
        }
        Ok(link)
    }

    async fn log_in(&self, login: &Login) -> Result<MetadataValue<Ascii>, String> {
        let file = login.password_file.clone();
        let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(file)).await;
        let file = login.password_file.display();
        let password = match read {
            Ok(Ok(text)) => text,
            Ok(Err(why)) => return Err(format!("the password's file {file}: {why}")),
            Err(why) => return Err(why.to_string()),
        };
        let wish = AuthenticateRequest {
            name: login.user.clone(),
            password: password.trim_end_matches(['\r', '\n']).to_owned(),
        };
        let asked = self.unary("/etcdserverpb.Auth/Authenticate", wish).await;
        let answer: AuthenticateResponse = match asked {
            Ok(answer) => answer,
            Err(status) => {
                let why = self.explain(&status).await;
                return Err(format!("as user `{}`, password of {file}: {why}", login.user));
            }
        };
        answer.token.parse().map_err(|_| "etcd's token is no text".to_owned())
    }

    /// Where it leads.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether this is the same connection.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.task, &other.task)
    }

    /// Whether nothing more can be asked on it.
    pub(super) fn is_closed(&self) -> bool {
        self.channel.0.is_closed()
    }

    /// Why a call failed: what the connection died of, if it did, else what etcd said.
    pub(super) async fn explain(&self, status: &Status) -> String {
        let mut ended = self.ended.clone();
        let told = tokio::time::timeout(END_WITHIN, ended.wait_for(Option::is_some)).await;
        if let Ok(Ok(why)) = told {
            return why.clone().unwrap_or_default();
        }
        super::client::text(status)
    }

    /// Closes it for everybody: calls and watches on it fail now.
    pub(super) fn cut(&self) {
        self.task.0.abort();
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }

    fn grpc(&self) -> Grpc<Channel> {
        Grpc::with_origin(self.channel.clone(), self.origin.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Asks once. Without a bound of its own: the caller has one.
    pub(super) async fn unary<Q, A>(&self, path: &'static str, message: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.grpc();
        grpc.ready().await.map_err(|why| Status::unavailable(why.to_string()))?;
        let path = PathAndQuery::from_static(path);
        let codec = ProstCodec::<Q, A>::default();
        Ok(grpc.unary(self.request(message), path, codec).await?.into_inner())
    }

    /// Says one thing and keeps the line open for answers.
    pub(super) async fn streaming<Q, A>(
        &self,
        path: &'static str,
        message: Q,
    ) -> Result<Streaming<A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.grpc();
        grpc.ready().await.map_err(|why| Status::unavailable(why.to_string()))?;
        let path = PathAndQuery::from_static(path);
        let codec = ProstCodec::<Q, A>::default();
        // The sending side stays open for as long as the answers are read.
        let says = futures_util::stream::once(std::future::ready(message));
        let says = futures_util::StreamExt::chain(says, futures_util::stream::pending());
        Ok(grpc.streaming(self.request(says), path, codec).await?.into_inner())
    }
}

/// hyper's handle as the service that tonic calls.
#[derive(Clone, Debug)]
struct Channel(SendRequest<Body>);

impl tower_service::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
