//! Requests and parts that have been answered: the next ones are made of them, so that a command in
//! the steady state asks the allocator for nothing.

use std::sync::Arc;

use crate::worker::{Part, Request};

/// So many requests are kept, and so many parts.
const KEPT_MAX: usize = 128;

/// What one I/O thread keeps.
#[derive(Default)]
pub(super) struct Spares {
    requests: Vec<Arc<Request>>,
    parts: Vec<Part>,
}

impl Spares {
    /// A request that nobody else has.
    pub(super) fn request(&mut self) -> Option<Arc<Request>> {
        self.requests.pop()
    }

    /// Keeps a request for another time, if nobody else has it and it is small.
    pub(super) fn keep_request(&mut self, mut request: Arc<Request>) {
        if self.requests.len() < KEPT_MAX && Arc::get_mut(&mut request).is_some_and(Request::reset)
        {
            self.requests.push(request);
        }
    }

    /// Keeps a part for another time, if it is small.
    pub(super) fn keep_part(&mut self, mut part: Part) {
        if self.parts.len() < KEPT_MAX && part.reset() {
            self.parts.push(part);
        }
    }

    /// Gives the workers parts, where they have not taken many already.
    pub(super) fn give_parts(&mut self, to: &mut Vec<Part>) {
        if to.len() < KEPT_MAX {
            to.append(&mut self.parts);
        }
    }
}
