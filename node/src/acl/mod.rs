//! Users and what they may do: Redis's ACLs.
//!
//! Start with [`Users`], all of them; a [`Account`] is what a connection holds of one, a `user` its
//! passwords and selectors, a `selector` one set of commands, keys and channels. `category` says
//! which commands belong together, `check` asks a user, `log` remembers what was denied, `file`
//! keeps the users of a node, `home` those of a service.
//!
//! Rules, and texts about them, are those of Redis 7.2 (`acl.c`).

mod category;
mod check;
mod file;
mod home;
mod log;
mod password;
mod selector;
mod user;
mod users;

pub(crate) use category::Categories;
pub use check::{Denied, Reason};
pub use file::FileError;
pub(crate) use log::{Context, Log};
pub(crate) use password::Hash;
pub(crate) use selector::Selector;
pub use user::RuleError;
pub use users::{Account, Users};
pub(crate) use users::{Changed, SetError};
