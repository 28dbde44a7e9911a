//! Threads that give way: what nobody waits for at this moment must be felt little by whom everybody waits for.
//!
//! Hashing and packing a whole database keep a processor busy for seconds or hours. Such threads are
//! [nice](https://man7.org/linux/man-pages/man2/nice.2.html): beside one that is not they get about a tenth of
//! a processor. Not less: a snapshot that never ends, on a machine that is never idle, is worse than one that
//! is felt.
//!
//! The kernel compares within a group of processes: where each program is a container of its own, the
//! containers' shares of processors decide between them.

use std::io;

use rustix::process::setpriority_process;

/// How nice they are, of 19.
pub const NICE: i32 = 10;

/// Starts a thread that gives way to others, and answers what it came to once it is
/// awaited. The work goes on if nobody waits any more.
///
/// # Errors
/// The system had no thread to give, or the work panicked.
pub fn spawn<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = io::Result<T>> + Send {
    let (done, result) = tokio::sync::oneshot::channel();
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        give_way();
        // Whoever asked may be gone.
        let _ = done.send(work());
    });
    async move {
        started?;
        result.await.map_err(|_| io::Error::other(format!("the thread `{name}` died")))
    }
}

fn give_way() {
    // The kernel takes a thread's id where it takes a process's. One that is nicer already stays so: to
    // lower itself, it needs no right.
    let id = Some(rustix::thread::gettid());
    let lowered = rustix::process::getpriority_process(id)
        .and_then(|now| setpriority_process(id, now.max(NICE)));
    if let Err(why) = lowered {
        tracing::debug!("a thread goes on at its process's priority: {why}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::getpriority_process;

    fn nice() -> i32 {
        getpriority_process(Some(rustix::thread::gettid())).unwrap()
    }

    #[tokio::test]
    async fn a_background_thread_is_nice_and_its_parent_is_not() {
        let ours = nice();
        assert_eq!(spawn("background", nice).await.unwrap(), NICE.max(ours));
        assert_eq!(nice(), ours);
        let died = spawn("background", || panic!("as a test")).await.unwrap_err();
        assert!(died.to_string().contains("`background` died"), "{died}");
    }
}
