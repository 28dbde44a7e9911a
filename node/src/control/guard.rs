//! Who may ask on the admin listener for other machines: who shows a certificate of an authority
//! that the node was given, or knows the user and the password.

use std::time::Duration;

use admin::{Code, Request};
use ops::tls::{HandshakeError, Socket, Tls};
use tokio::net::TcpStream;

use super::Fault;
use crate::acl::Hash;

/// Who has not shaken hands, or said who it is, after this long is closed.
pub(super) const KNOWN_WITHIN: Duration = Duration::from_secs(10);

/// What a connection by TCP must show. Nothing, on a loopback address.
#[derive(Default)]
pub(crate) struct Guard {
    tls: Option<Tls>,
    login: Option<Login>,
}

/// The user who may ask.
pub(super) struct Login {
    user: Hash,
    password: Hash,
}

impl Guard {
    /// Speaks TLS, if it is to; lets in who has this user and password, or a certificate that TLS
    /// asks for.
    pub(crate) fn new(tls: Option<Tls>, login: Option<(String, String)>) -> Self {
        let login = login.map(|(user, password)| Login {
            user: Hash::of(user.as_bytes()),
            password: Hash::of(password.as_bytes()),
        });
        Self { tls, login }
    }

    /// Shakes hands, where that is due. The login that it still has to say, if it is not known by its
    /// certificate.
    pub(super) async fn receive(
        &self,
        stream: TcpStream,
    ) -> Result<(Socket, Option<&Login>), HandshakeError> {
        let Some(tls) = &self.tls else { return Ok((Socket::plain(stream), self.login.as_ref())) };
        let socket = tls.accept(stream, KNOWN_WITHIN).await?;
        let is_known = socket.peer().is_some();
        Ok((socket, self.login.as_ref().filter(|_| !is_known)))
    }
}

impl Login {
    /// Looks at the first command of a connection, which must be AUTH.
    pub(super) fn check(&self, args: &[&[u8]]) -> Result<(), Fault> {
        let Ok(Request::Auth { user, password }) = Request::parse(args) else {
            return Err(Fault::new(
                Code::Auth,
                "say who you are first (AUTH user password), or show a certificate; nothing was done",
            ));
        };
        // Both are looked at whatever the first one is, as long for any of them.
        let known = self.user.matches(&Hash::of(user)) & self.password.matches(&Hash::of(password));
        if known {
            return Ok(());
        }
        Err(Fault::new(Code::Auth, "this is not the user and the password; nothing was done"))
    }
}
