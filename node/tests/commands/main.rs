//! A standalone node as clients see it, through a real socket.

mod bounds;
mod families;
mod node;
mod protocol;
mod workers;
