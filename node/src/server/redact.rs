//! Arguments that are secrets: what shows commands (SLOWLOG, MONITOR) shows something else.

use crate::command::Args;

/// What stands for a secret.
pub(super) const REDACTED: &[u8] = b"(redacted)";

/// Parameters of CONFIG whose values are secrets.
const SECRET_PARAMETERS: [&str; 3] = ["requirepass", "masterauth", "tls-key-file-pass"];

/// Whether an argument is a secret.
pub(super) fn is_secret(args: &Args<'_>, at: usize) -> bool {
    match &args.at(0).to_ascii_lowercase()[..] {
        b"auth" => at > 0,
        b"hello" => (1..=2).any(|back| at > back && args.is(at - back, "auth")),
        b"acl" => at > 1 && args.is(1, "setuser"),
        b"config" => {
            let name = |name: &&str| args.is(at - 1, name);
            at > 2 && at % 2 == 1 && args.is(1, "set") && SECRET_PARAMETERS.iter().any(name)
        }
        b"migrate" => {
            at > 6 && (args.is(at - 1, "auth") || (1..=2).any(|back| args.is(at - back, "auth2")))
        }
        _ => false,
    }
}
