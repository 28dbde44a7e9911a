//! A repository from outside: what was archived and sealed comes back, two who write do not hurt each
//! other, what is needed is kept, and damage is named. Held to the same in a directory, in a bucket, and
//! encrypted.

#![allow(clippy::unwrap_used)] // a helper of a test may stop at the first surprise

#[path = "../moto/mod.rs"]
mod moto;

mod conditions;
mod damage;
mod deletion;
mod filled;
mod fixtures;
mod followed;
mod keys;
mod lists;
mod moments;
