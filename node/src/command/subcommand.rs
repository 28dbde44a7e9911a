//! Commands that are several: CLIENT ID and CLIENT KILL are commands of their own to ACLs, to
//! statistics and to COMMAND.
//!
//! A row says what one of them is; who runs it, its group and its keys it has of its container, if
//! the row does not say otherwise. Rows whose container is in no family are not there.

use super::{DataHandler, Flags, Handler, Keys, Spec};
use crate::server;

/// One subcommand.
pub(crate) struct Sub {
    /// `container|name`.
    pub(crate) name: &'static str,
    /// How many arguments with both names; negative: at least so many.
    pub(crate) arity: i32,
    /// Its properties.
    pub(crate) flags: Flags,
    /// What runs it, where that is not what runs its container.
    pub(crate) runs: Option<Handler>,
    /// Its name and arguments, as HELP shows them.
    pub(crate) usage: &'static str,
    /// What it is for.
    pub(crate) summary: &'static str,
}

impl Sub {
    const fn new(
        name: &'static str,
        arity: i32,
        flags: Flags,
        usage: &'static str,
        summary: &'static str,
    ) -> Self {
        Self { name, arity, flags, runs: None, usage, summary }
    }

    /// One that the I/O thread of its connection runs, whoever runs its container.
    const fn of_io(self, runs: server::SessionHandler) -> Self {
        Self { runs: Some(Handler::Session(runs)), ..self }
    }

    /// One that workers run, whoever runs its container.
    const fn of_workers(self, runs: DataHandler) -> Self {
        Self { runs: Some(Handler::Data(runs)), ..self }
    }

    /// Its container's name.
    pub(crate) fn container(&self) -> &'static str {
        self.name.split_once('|').map_or(self.name, |(container, _)| container)
    }

    /// The command that it is.
    pub(super) fn spec(&self, container: &Spec) -> Spec {
        let has_keys = self.flags.has(Flags::READONLY) || self.flags.has(Flags::WRITE);
        let keys = if has_keys { container.keys } else { Keys::NONE };
        let handler = self.runs.unwrap_or(container.handler);
        let Self { name, arity, flags, .. } = *self;
        Spec { name, arity, flags, keys, group: container.group, handler }
    }
}

const NONE: Flags = Flags::NONE;
const R: Flags = Flags::READONLY;
const W: Flags = Flags::WRITE;
const WD: Flags = W.and(Flags::DENYOOM);
const LS: Flags = Flags::LOADING.and(Flags::STALE);
const N: Flags = LS.and(Flags::NO_SCRIPT);
const A: Flags = N.and(Flags::ADMIN);
const SLOW: Flags = LS.and(Flags::ADMIN);
const P: Flags = LS.and(Flags::PUBSUB);
const S: Flags = Flags::STALE;
const NS: Flags = Flags::NO_SCRIPT;
const BUSY: Flags = NS.and(Flags::ALLOW_BUSY);
const FW: Flags = NS.and(W);

const fn help(name: &'static str) -> Sub {
    Sub::new(name, 2, LS, "HELP", "Print this help.").of_io(server::help)
}

/// All of them, each container's together.
pub(crate) static SUBCOMMANDS: &[Sub] = &[
    Sub::new("acl|cat", -2, N, "CAT [<category>]", "List categories, or the commands of one."),
    Sub::new("acl|deluser", -3, A, "DELUSER <username> [<username> ...]", "Delete users."),
    Sub::new(
        "acl|dryrun",
        -4,
        A,
        "DRYRUN <username> <command> [<arg> ...]",
        "Say whether a user may run a command, without running it.",
    ),
    Sub::new(
        "acl|genpass",
        -2,
        N,
        "GENPASS [<bits>]",
        "Generate a password of 256 or so many bits.",
    ),
    Sub::new("acl|getuser", 3, A, "GETUSER <username>", "Show what a user may do."),
    help("acl|help"),
    Sub::new("acl|list", 2, A, "LIST", "Show all users as lines of an ACL file."),
    Sub::new("acl|load", 2, A, "LOAD", "Read the ACL file again."),
    Sub::new("acl|log", -2, A, "LOG [<count> | RESET]", "Show or forget what was denied."),
    Sub::new("acl|save", 2, A, "SAVE", "Write the ACL file."),
    Sub::new(
        "acl|setuser",
        -3,
        A,
        "SETUSER <username> <attribute> [<attribute> ...]",
        "Create a user, or change what it may do.",
    ),
    Sub::new("acl|users", 2, A, "USERS", "List the names of all users."),
    Sub::new("acl|whoami", 2, N, "WHOAMI", "Name the user of this connection."),
    Sub::new(
        "client|caching",
        3,
        N,
        "CACHING (YES|NO)",
        "Track the keys of the next command, or do not.",
    ),
    Sub::new("client|getname", 2, N, "GETNAME", "The name of this connection."),
    Sub::new(
        "client|getredir",
        2,
        N,
        "GETREDIR",
        "The client that invalidations are redirected to.",
    ),
    help("client|help"),
    Sub::new("client|id", 2, N, "ID", "The id of this connection."),
    Sub::new("client|info", 2, N, "INFO", "What CLIENT LIST says of this connection."),
    Sub::new(
        "client|kill",
        -3,
        A,
        "KILL <ip:port> | <option> <value> [<option> <value> ...]",
        "End connections, by address, id, type, user.",
    ),
    Sub::new("client|list", -2, A, "LIST [TYPE <type>] [ID <id> [<id> ...]]", "List connections."),
    Sub::new(
        "client|no-evict",
        3,
        A,
        "NO-EVICT (ON|OFF)",
        "Protect this connection from eviction.",
    ),
    Sub::new(
        "client|no-touch",
        3,
        N,
        "NO-TOUCH (ON|OFF)",
        "Do not count this connection's accesses.",
    ),
    Sub::new(
        "client|pause",
        -3,
        A,
        "PAUSE <timeout> [WRITE|ALL]",
        "Hold all, or only writing, clients.",
    ),
    Sub::new(
        "client|reply",
        3,
        N,
        "REPLY (ON|OFF|SKIP)",
        "Choose which answers this connection gets.",
    ),
    Sub::new("client|setinfo", 4, N, "SETINFO <option> <value>", "Name the client's library."),
    Sub::new("client|setname", 3, N, "SETNAME <name>", "Name this connection."),
    Sub::new(
        "client|tracking",
        -3,
        N,
        "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]] [OPTIN] [OPTOUT] [NOLOOP]",
        "Tell this client of changes to keys that it caches.",
    ),
    Sub::new(
        "client|trackinginfo",
        2,
        N,
        "TRACKINGINFO",
        "How this connection's keys are tracked.",
    ),
    Sub::new(
        "client|unblock",
        -3,
        A,
        "UNBLOCK <clientid> [TIMEOUT|ERROR]",
        "Wake a client that waits in a blocking command.",
    ),
    Sub::new("client|unpause", 2, A, "UNPAUSE", "Let held clients go on."),
    Sub::new(
        "cluster|countkeysinslot",
        3,
        S,
        "COUNTKEYSINSLOT <slot>",
        "Count the keys of a slot.",
    )
    .of_workers(server::count_keys),
    Sub::new(
        "cluster|getkeysinslot",
        4,
        S,
        "GETKEYSINSLOT <slot> <count>",
        "Names of keys of a slot.",
    )
    .of_workers(server::get_keys),
    help("cluster|help"),
    Sub::new("cluster|info", 2, S, "INFO", "The state of the cluster."),
    Sub::new("cluster|keyslot", 3, S, "KEYSLOT <key>", "The slot of a key."),
    Sub::new("cluster|links", 2, S, "LINKS", "Links to peers: none, nodes here do not gossip."),
    Sub::new("cluster|myid", 2, S, "MYID", "This node's id."),
    Sub::new("cluster|myshardid", 2, S, "MYSHARDID", "The id of this node's shard."),
    Sub::new("cluster|nodes", 2, S, "NODES", "The nodes and their slots, as lines."),
    Sub::new("cluster|shards", 2, S, "SHARDS", "The shards, their slots and nodes."),
    Sub::new("cluster|slots", 2, S, "SLOTS", "Ranges of slots and their nodes."),
    Sub::new("command|count", 2, LS, "COUNT", "How many commands there are."),
    Sub::new("command|docs", -2, LS, "DOCS [<command-name> ...]", "What commands are for."),
    Sub::new("command|getkeys", -3, LS, "GETKEYS <full-command>", "The keys of a command."),
    Sub::new(
        "command|getkeysandflags",
        -3,
        LS,
        "GETKEYSANDFLAGS <full-command>",
        "The keys of a command, and what it does with each.",
    ),
    help("command|help"),
    Sub::new(
        "command|info",
        -2,
        LS,
        "INFO [<command-name> ...]",
        "Arity, flags, keys and categories of commands.",
    ),
    Sub::new(
        "command|list",
        -2,
        LS,
        "LIST [FILTERBY (MODULE|ACLCAT|PATTERN) <value>]",
        "The names of commands.",
    ),
    Sub::new("config|get", -3, A, "GET <pattern> [<pattern> ...]", "Show parameters."),
    help("config|help"),
    Sub::new("config|resetstat", 2, A, "RESETSTAT", "Begin statistics anew."),
    Sub::new("config|rewrite", 2, A, "REWRITE", "Keep the parameters for the next start."),
    Sub::new(
        "config|set",
        -4,
        A,
        "SET <directive> <value> [<directive> <value> ...]",
        "Change parameters.",
    ),
    Sub::new("function|delete", 3, FW, "DELETE <library name>", "Delete a library."),
    Sub::new("function|dump", 2, NS, "DUMP", "All libraries, serialized."),
    Sub::new("function|flush", -2, FW, "FLUSH [ASYNC|SYNC]", "Delete all libraries."),
    help("function|help"),
    Sub::new("function|kill", 2, BUSY, "KILL", "End the function that runs."),
    Sub::new("function|list", -2, NS, "LIST [LIBRARYNAME PATTERN] [WITHCODE]", "List libraries."),
    Sub::new(
        "function|load",
        -3,
        FW.and(Flags::DENYOOM),
        "LOAD [REPLACE] <FUNCTION CODE>",
        "Create a library.",
    ),
    Sub::new(
        "function|restore",
        -3,
        FW.and(Flags::DENYOOM),
        "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
        "Create the libraries of a dump.",
    ),
    Sub::new(
        "function|stats",
        2,
        BUSY,
        "STATS",
        "What runs now, and how many libraries there are.",
    ),
    Sub::new("latency|doctor", 2, A, "DOCTOR", "Latency, in words."),
    Sub::new("latency|graph", 3, A, "GRAPH <event>", "The samples of an event, drawn."),
    help("latency|help"),
    Sub::new("latency|histogram", -2, A, "HISTOGRAM [COMMAND ...]", "How long commands took."),
    Sub::new("latency|history", 3, A, "HISTORY <event>", "The samples of an event."),
    Sub::new("latency|latest", 2, A, "LATEST", "The last sample of each event."),
    Sub::new("latency|reset", -2, A, "RESET [<event> ...]", "Forget samples."),
    Sub::new("memory|doctor", 2, NONE, "DOCTOR", "Memory, in words.").of_io(server::memory),
    help("memory|help"),
    Sub::new("memory|malloc-stats", 2, NONE, "MALLOC-STATS", "What the allocator says of itself.")
        .of_io(server::memory),
    Sub::new("memory|purge", 2, NONE, "PURGE", "Ask the allocator to give memory back.")
        .of_io(server::memory),
    Sub::new("memory|stats", 2, NONE, "STATS", "Where memory is.").of_io(server::memory),
    Sub::new("memory|usage", -3, R, "USAGE <key> [SAMPLES <count>]", "How many bytes a key takes."),
    Sub::new("object|encoding", 3, R, "ENCODING <key>", "How Redis would store this key."),
    Sub::new(
        "object|freq",
        3,
        R,
        "FREQ <key>",
        "How often this key is used, where that is counted.",
    ),
    help("object|help"),
    Sub::new("object|idletime", 3, R, "IDLETIME <key>", "How long this key was not used."),
    Sub::new(
        "object|refcount",
        3,
        R,
        "REFCOUNT <key>",
        "How many references there are to this value.",
    ),
    Sub::new("pubsub|channels", -2, P, "CHANNELS [<pattern>]", "Channels that have subscribers."),
    help("pubsub|help"),
    Sub::new("pubsub|numpat", 2, P, "NUMPAT", "How many patterns have subscribers."),
    Sub::new(
        "pubsub|numsub",
        -2,
        P,
        "NUMSUB [<channel> ...]",
        "How many subscribers channels have.",
    ),
    Sub::new(
        "pubsub|shardchannels",
        -2,
        P,
        "SHARDCHANNELS [<pattern>]",
        "Sharded channels that have subscribers.",
    ),
    Sub::new(
        "pubsub|shardnumsub",
        -2,
        P,
        "SHARDNUMSUB [<shardchannel> ...]",
        "How many subscribers sharded channels have.",
    ),
    Sub::new("script|debug", 3, NS, "DEBUG (YES|SYNC|NO)", "The debugger of scripts."),
    Sub::new("script|exists", -3, NS, "EXISTS <sha1> [<sha1> ...]", "Whether scripts are known."),
    Sub::new("script|flush", -2, NS, "FLUSH [ASYNC|SYNC]", "Forget all scripts."),
    help("script|help"),
    Sub::new("script|kill", 2, BUSY, "KILL", "End the script that runs."),
    Sub::new("script|load", 3, NS.and(S), "LOAD <script>", "Keep a script without running it."),
    Sub::new("slowlog|get", -2, SLOW, "GET [<count>]", "The last slow commands."),
    help("slowlog|help"),
    Sub::new("slowlog|len", 2, SLOW, "LEN", "How many slow commands are kept."),
    Sub::new("slowlog|reset", 2, SLOW, "RESET", "Forget slow commands."),
    Sub::new(
        "xgroup|create",
        -5,
        WD,
        "CREATE <key> <groupname> <id|$> [MKSTREAM] [ENTRIESREAD <n>]",
        "Create a consumer group.",
    ),
    Sub::new(
        "xgroup|createconsumer",
        5,
        WD,
        "CREATECONSUMER <key> <groupname> <consumer>",
        "Create a consumer.",
    ),
    Sub::new(
        "xgroup|delconsumer",
        5,
        W,
        "DELCONSUMER <key> <groupname> <consumer>",
        "Remove a consumer.",
    ),
    Sub::new("xgroup|destroy", 4, W, "DESTROY <key> <groupname>", "Remove a consumer group."),
    help("xgroup|help"),
    Sub::new(
        "xgroup|setid",
        -5,
        W,
        "SETID <key> <groupname> <id|$> [ENTRIESREAD <n>]",
        "Set what a group read last.",
    ),
    Sub::new("xinfo|consumers", 4, R, "CONSUMERS <key> <groupname>", "The consumers of a group."),
    Sub::new("xinfo|groups", 3, R, "GROUPS <key>", "The groups of a stream."),
    help("xinfo|help"),
    Sub::new(
        "xinfo|stream",
        -3,
        R,
        "STREAM <key> [FULL [COUNT <count>]]",
        "What there is to know of a stream.",
    ),
];
