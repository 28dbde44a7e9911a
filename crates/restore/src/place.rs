//! Where something is restored to.

use std::fs::{self, File};
use std::path::Path;

use anyhow::Context;
use ops::exit::{Exit, Stop};

/// Refuses a directory that has something in it; one that does not exist is empty.
///
/// # Errors
/// It is refused, or cannot be listed.
pub fn refuse_unless_empty(to: &Path) -> anyhow::Result<()> {
    let inside = match fs::read_dir(to) {
        Ok(mut inside) => inside.next().is_some(),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => false,
        Err(why) => return Err(why).with_context(|| format!("listing {}", to.display())),
    };
    if inside {
        let refusal = format!(
            "{} is not empty, and restoring never overwrites: give a new or an empty directory",
            to.display()
        );
        return Err(Stop::new(Exit::Refused, refusal).into());
    }
    Ok(())
}

/// Makes the names in a directory survive a power cut.
///
/// # Errors
/// The disk failed.
pub fn sync(dir: &Path) -> anyhow::Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).with_context(|| format!("syncing {}", dir.display()))
}

/// Removes a directory with all that is in it; one that is not there is no error.
///
/// # Errors
/// The disk failed.
pub fn remove(dir: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
            Err(why).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Takes the lock of a node's directory, so that no node runs on it while this lives.
///
/// # Errors
/// A node has it: refused.
pub fn lock(to: &Path) -> anyhow::Result<File> {
    let path = to.join("LOCK");
    let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let file = opened.with_context(|| format!("opening {}", path.display()))?;
    file.try_lock().map_err(|why| {
        let refusal = format!(
            "{} is in use ({why}): end the node or the sidecar that holds its LOCK first",
            to.display()
        );
        Stop::new(Exit::Refused, refusal)
    })?;
    Ok(file)
}
