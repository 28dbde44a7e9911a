//! Threads that give way: what nobody waits for at this moment must not be felt by whom everybody waits for.
//!
//! Hashing, packing and digesting a whole database keep a processor busy for minutes. On threads like any
//! other they would take turns with those that answer clients, of some milliseconds each. The kernel lets the
//! others go first where their threads are nice ([`nice(2)`](https://man7.org/linux/man-pages/man2/nice.2.html)).

use std::io;

use rustix::process::setpriority_process;

/// As nice as a thread can be: it still gets about a 68th of a processor beside one that is not.
pub const NICEST: i32 = 19;

/// Starts a thread that gives way to all others of the machine, and answers what it came to once it is
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

/// Makes the calling thread give way to all others of the machine for as long as it lives.
///
/// Not for one that holds what others wait for, and not for one of a pool: nobody but a superuser can take
/// it back.
pub fn give_way() {
    // The kernel takes a thread's id where it takes a process's; to lower itself, one needs no right.
    if let Err(why) = setpriority_process(Some(rustix::thread::gettid()), NICEST) {
        tracing::debug!("a thread goes on at its process's priority: {why}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::getpriority_process;

    #[tokio::test]
    async fn a_background_thread_is_nice_and_its_parent_is_not() {
        let ours = getpriority_process(None).unwrap();
        let theirs = spawn("background", || {
            let id = rustix::thread::gettid();
            getpriority_process(Some(id)).unwrap()
        });
        assert_eq!(theirs.await.unwrap(), NICEST);
        assert_eq!(getpriority_process(None).unwrap(), ours);
        let died = spawn("background", || panic!("as a test")).await.unwrap_err();
        assert!(died.to_string().contains("`background` died"), "{died}");
    }
}
