//! The formats of the log and of what carries it, from outside: golden files, properties, and a
//! real RocksDB. One binary, because linking RocksDB takes longer than all of it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

mod batch;
mod follow;
mod forbidden;
mod frame;
mod golden;
mod history;
mod killed;
mod log;
mod make;
mod rocks;
mod segment;
mod smoke;
mod tail;
