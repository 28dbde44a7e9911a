//! What may happen: who is struck, how, after which step of which switch, with which registry.

use std::fmt;

/// Who may be struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Actor {
    /// `godwit-switchover`.
    Tool,
    /// The old side's proxy.
    OldProxy,
    /// The new side's proxy.
    NewProxy,
    /// A primary of the old side that lives.
    OldNode,
    /// A node of the new side.
    NewNode,
    /// The sidecar of the first primary of the old side; of a failover, the one beside the dead node.
    OldSidecar,
    /// The sidecar that receives from it.
    NewSidecar,
    /// etcd's only member, for a while.
    Etcd,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blow {
    /// SIGKILL; started again when all is over.
    Kill,
    /// SIGSTOP at whatever moment, and SIGCONT when all is over.
    Freeze,
}

/// What kind of switch it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Switch {
    /// `run`: both sides are well.
    Planned,
    /// `failover`: a primary of the old side was killed just before.
    Unplanned,
}

/// Where the record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Registry {
    /// A directory.
    File,
    /// etcd with one member.
    Etcd,
}

/// One thing that may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// Where the record is.
    pub registry: Registry,
    /// Which switch.
    pub switch: Switch,
    /// Who.
    pub actor: Actor,
    /// What.
    pub blow: Blow,
    /// After which step of the tool.
    pub step: &'static str,
}

/// The tool's steps.
pub(super) const STEPS: [&str; 6] = ["freeze", "end", "drain", "commit", "promote", "register"];

/// `file/unplanned/old-sidecar/freeze/commit`: what a filter is matched with, and a directory's name.
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registry = match self.registry {
            Registry::File => "file",
            Registry::Etcd => "etcd",
        };
        let switch = match self.switch {
            Switch::Planned => "planned",
            Switch::Unplanned => "unplanned",
        };
        let blow = match self.blow {
            Blow::Kill => "kill",
            Blow::Freeze => "freeze",
        };
        write!(f, "{registry}/{switch}/{}/{blow}/{}", self.actor, self.step)
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tool => "tool",
            Self::OldProxy => "old-proxy",
            Self::NewProxy => "new-proxy",
            Self::OldNode => "old-node",
            Self::NewNode => "new-node",
            Self::OldSidecar => "old-sidecar",
            Self::NewSidecar => "new-sidecar",
            Self::Etcd => "etcd",
        })
    }
}

/// All that may happen with a registry.
pub fn cells(registry: Registry) -> Vec<Cell> {
    use Actor::{Etcd, NewNode, NewProxy, NewSidecar, OldNode, OldProxy, OldSidecar, Tool};
    let mut actors = vec![Tool, OldProxy, NewProxy, OldNode, NewNode, OldSidecar, NewSidecar];
    if registry == Registry::Etcd {
        actors.push(Etcd);
    }
    let mut all = Vec::new();
    for switch in [Switch::Planned, Switch::Unplanned] {
        for actor in &actors {
            for blow in [Blow::Kill, Blow::Freeze] {
                let cell = |step| Cell { registry, switch, actor: *actor, blow, step };
                all.extend(STEPS.map(cell));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cell_has_a_name_of_its_own() {
        let all: Vec<_> = [Registry::File, Registry::Etcd].into_iter().flat_map(cells).collect();
        assert_eq!(all.len(), 2 * 2 * 6 * (7 + 8));
        let names: std::collections::BTreeSet<_> = all.iter().map(Cell::to_string).collect();
        assert_eq!(names.len(), all.len());
        assert!(names.contains("etcd/unplanned/etcd/freeze/commit"), "{names:?}");
    }
}
