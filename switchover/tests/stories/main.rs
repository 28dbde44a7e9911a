//! The tool as a process, a registry, and members that are played.

mod fakes;
mod guards;
mod planned;
mod unplanned;
