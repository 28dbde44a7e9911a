//! Threads that give way: what nobody waits for at this moment must not be felt by whom everybody waits for.
//!
//! Hashing, packing and digesting a whole database keep a processor busy for seconds or hours. On threads
//! like any other they would take turns with those that answer clients, of some milliseconds each; being nice
//! makes the turns rarer, but the kernel still lets one end before it looks who woke up. Threads of the class
//! for what is idle ([`sched(7)`](https://man7.org/linux/man-pages/man7/sched.7.html)) are stopped at once.
//!
//! The kernel compares within a group of processes: where each program is a container of its own, the
//! containers' shares of processors decide between them.
#![allow(unsafe_code)] // one call that neither std nor rustix has

use std::io;

use rustix::process::{Pid, setpriority_process};

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
        if let Err(why) = give_way(None) {
            tracing::debug!(name, "a thread goes on at its process's priority: {why}");
        }
        // Whoever asked may be gone.
        let _ = done.send(work());
    });
    async move {
        started?;
        result.await.map_err(|_| io::Error::other(format!("the thread `{name}` died")))
    }
}

/// Makes a thread run only when no other wants to, for as long as it lives: the calling one, or that of this
/// id. Threads that it starts from then on do the same.
///
/// Not for one that holds what others wait for, and not for one of a pool: nobody but a superuser can take
/// it back.
///
/// # Errors
/// There is no such thread, or the system forbids it.
pub fn give_way(thread: Option<Pid>) -> io::Result<()> {
    let id = thread.map_or(0, |id| id.as_raw_nonzero().get());
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel reads `param` during the call alone, and checks the id.
    match unsafe { libc::sched_setscheduler(id, libc::SCHED_IDLE, &raw const param) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes the calling thread nice, for as long as it lives: for one that shares locks with those that clients
/// wait for, and so must not stand still while it holds them.
pub fn be_nice() {
    // The kernel takes a thread's id where it takes a process's; to lower itself, one needs no right.
    if let Err(why) = setpriority_process(Some(rustix::thread::gettid()), NICEST) {
        tracing::debug!("a thread goes on at its process's priority: {why}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::getpriority_process;

    /// The policy is the 41st field of `/proc/PID/stat`, the third from the last that every kernel has.
    fn policy() -> String {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let after_name = stat.rsplit_once(") ").unwrap().1;
        after_name.split(' ').nth(38).unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_background_thread_is_idle_and_its_parent_is_not() {
        let (ours, idle) = (policy(), libc::SCHED_IDLE.to_string());
        assert_eq!(spawn("background", policy).await.unwrap(), idle);
        let child = || std::thread::spawn(policy).join().unwrap();
        assert_eq!(spawn("background", child).await.unwrap(), idle);
        assert_eq!(policy(), ours);
        let died = spawn("background", || panic!("as a test")).await.unwrap_err();
        assert!(died.to_string().contains("`background` died"), "{died}");
    }

    #[test]
    fn a_nice_thread_is_nice_alone() {
        let ours = getpriority_process(None).unwrap();
        let nice = std::thread::spawn(|| {
            be_nice();
            getpriority_process(Some(rustix::thread::gettid())).unwrap()
        });
        assert_eq!(nice.join().unwrap(), NICEST);
        assert_eq!(getpriority_process(None).unwrap(), ours);
    }
}
