//! Who runs this tool, and whether another one's process still lives.

use std::path::Path;

use topology::operator::Actor;

/// More than a line about a process or the whole of a list of users has, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

fn read(path: impl AsRef<Path>) -> Option<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The user by name (passwd(5)), with the one who became it by sudo.
fn user() -> String {
    let uid = rustix::process::getuid().as_raw();
    let passwd = read("/etc/passwd").unwrap_or_default();
    let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let number = uid.to_string();
    let named = lines.find(|fields| fields.get(2) == Some(&number.as_str()));
    let name = named.and_then(|f| f.first().map(|n| (*n).to_owned()));
    let name = name.unwrap_or_else(|| format!("uid {uid}"));
    match std::env::var("SUDO_USER") {
        Ok(person) if person != name => format!("{person} as {name}"),
        _ => name,
    }
}

/// When a process started, in ticks since the boot (proc(5): field 22 of `stat`, counted behind the
/// name, which may have spaces); `None` if there is no such process.
fn started(pid: u32) -> Option<u64> {
    let stat = read(format!("/proc/{pid}/stat"))?;
    let behind_name = stat.rsplit_once(')')?.1;
    let mut fields = behind_name.split_whitespace();
    // A zombie is dead; nobody has asked yet how it ended.
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The boot, and the namespace of process ids.
fn machine() -> String {
    let boot = read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{} {}", boot.trim(), namespace.display())
}

/// This process.
pub(crate) fn me() -> Actor {
    let pid = std::process::id();
    let host = read("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    // sshd(8): the client's address, its port, and the server's.
    let from = std::env::var("SSH_CONNECTION").ok();
    Actor {
        user: user(),
        host,
        pid,
        started: started(pid).unwrap_or_default(),
        machine: machine(),
        from: from.and_then(|c| c.split(' ').next().map(str::to_owned)).filter(|f| !f.is_empty()),
    }
}

/// Whether this process is certainly gone: only what ran on this machine can be told.
pub(crate) fn is_dead(actor: &Actor) -> bool {
    !actor.machine.trim().is_empty()
        && actor.machine == machine()
        && started(actor.pid) != Some(actor.started)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_one_that_started_at_another_time_does_not() {
        let me = me();
        assert!(!me.user.is_empty() && me.started > 0, "{me:?}");
        assert!(!is_dead(&me));
        assert!(is_dead(&Actor { started: me.started + 1, ..me.clone() }));
        assert!(!is_dead(&Actor { machine: "another".to_owned(), started: 0, ..me }));
    }
}
