//! The tool as a process, a registry, and members that are played.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // clippy knows only functions marked #[test]

mod fakes;
mod guards;
mod operators;
mod planned;
mod registry;
mod unplanned;
mod verify;
