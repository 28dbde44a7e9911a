//! The commands, as redis-server 7.0 has them (`COMMAND`), sorted by subject.

use super::{Class, Command, Fan, Keys, Local};

const fn at(position: usize) -> Keys {
    Keys::Range { first: position, last: position.cast_signed(), step: 1 }
}
const KEY: Keys = at(1);
const SECOND: Keys = at(2);
const TWO: Keys = Keys::Range { first: 1, last: 2, step: 1 };
const ALL: Keys = Keys::Range { first: 1, last: -1, step: 1 };
const PAIRS: Keys = Keys::Range { first: 1, last: -1, step: 2 };
const AFTER_ONE: Keys = Keys::Range { first: 2, last: -1, step: 1 };
const COUNTED: Keys = Keys::Counted { count: 1, also: None };
const SCRIPT: Keys = Keys::Counted { count: 2, also: None };
const TO_COUNTED: Keys = Keys::Counted { count: 2, also: Some(1) };

const fn r(name: &'static str, arity: i32, keys: Keys) -> Command {
    Command { name, arity, class: Class::Read, keys }
}
const fn w(name: &'static str, arity: i32, keys: Keys) -> Command {
    Command { name, arity, class: Class::Write, keys }
}
const fn l(name: &'static str, arity: i32, local: Local) -> Command {
    Command { name, arity, class: Class::Local(local), keys: Keys::None }
}
const fn f(name: &'static str, arity: i32, fan: Fan, keys: Keys) -> Command {
    Command { name, arity, class: Class::Fan(fan), keys }
}
const fn no(name: &'static str, why: &'static str) -> Command {
    Command { name, arity: -1, class: Class::Refused(why), keys: Keys::None }
}

const STATE: &str = "it needs a connection of its own, and this proxy shares its connections to the nodes among clients; connect to the node for it";
const BLOCKS: &str =
    "it would block a connection that other clients share; use the form that does not block";
const PUBSUB: &str = "this proxy does not carry publish and subscribe";
const ADMIN: &str = "it is for the operator of a node; connect to the node for it";

/// All of them. What is not here is unknown.
#[rustfmt::skip]
pub(crate) static TABLE: &[Command] = &[
    // strings
    r("GET", 2, KEY), w("SET", -3, KEY), w("SETNX", 3, KEY), w("SETEX", 4, KEY), w("PSETEX", 4, KEY),
    w("GETSET", 3, KEY), w("GETDEL", 2, KEY), w("GETEX", -2, KEY), w("APPEND", 3, KEY), r("STRLEN", 2, KEY),
    w("INCR", 2, KEY), w("DECR", 2, KEY), w("INCRBY", 3, KEY), w("DECRBY", 3, KEY), w("INCRBYFLOAT", 3, KEY),
    r("GETRANGE", 4, KEY), r("SUBSTR", 4, KEY), w("SETRANGE", 4, KEY), w("MSETNX", -3, PAIRS), r("LCS", -3, TWO),
    f("MGET", -2, Fan::Mget, ALL), f("MSET", -3, Fan::Mset, PAIRS),
    // bits and estimates
    r("GETBIT", 3, KEY), w("SETBIT", 4, KEY), r("BITCOUNT", -2, KEY), r("BITPOS", -3, KEY), w("BITOP", -4, AFTER_ONE),
    w("BITFIELD", -2, KEY), r("BITFIELD_RO", -2, KEY),
    w("PFADD", -2, KEY), w("PFCOUNT", -2, ALL), w("PFMERGE", -2, ALL),
    // keys
    f("DEL", -2, Fan::SumWrite, ALL), f("UNLINK", -2, Fan::SumWrite, ALL),
    f("EXISTS", -2, Fan::SumRead, ALL), f("TOUCH", -2, Fan::SumRead, ALL),
    r("TYPE", 2, KEY), w("EXPIRE", -3, KEY), w("PEXPIRE", -3, KEY), w("EXPIREAT", -3, KEY), w("PEXPIREAT", -3, KEY),
    r("EXPIRETIME", 2, KEY), r("PEXPIRETIME", 2, KEY), r("TTL", 2, KEY), r("PTTL", 2, KEY), w("PERSIST", 2, KEY),
    w("RENAME", 3, TWO), w("RENAMENX", 3, TWO), w("COPY", -3, TWO), r("DUMP", 2, KEY), w("RESTORE", -4, KEY),
    w("SORT", -2, Keys::Store), r("SORT_RO", -2, KEY), r("OBJECT", -3, SECOND), r("MEMORY", -3, SECOND),
    f("DBSIZE", 1, Fan::AllSum, Keys::None), f("KEYS", 2, Fan::AllJoin, Keys::None), f("RANDOMKEY", 1, Fan::AllAny, Keys::None),
    f("FLUSHALL", -1, Fan::AllWrite, Keys::None), f("FLUSHDB", -1, Fan::AllWrite, Keys::None), f("SCAN", -2, Fan::Scan, Keys::None),
    // hashes
    r("HGET", 3, KEY), w("HSET", -4, KEY), w("HSETNX", 4, KEY), w("HMSET", -4, KEY), r("HMGET", -3, KEY),
    w("HDEL", -3, KEY), r("HEXISTS", 3, KEY), r("HLEN", 2, KEY), r("HSTRLEN", 3, KEY), r("HKEYS", 2, KEY), r("HVALS", 2, KEY),
    r("HGETALL", 2, KEY), w("HINCRBY", 4, KEY), w("HINCRBYFLOAT", 4, KEY), r("HSCAN", -3, KEY), r("HRANDFIELD", -2, KEY),
    // lists
    w("LPUSH", -3, KEY), w("RPUSH", -3, KEY), w("LPUSHX", -3, KEY), w("RPUSHX", -3, KEY), w("LPOP", -2, KEY), w("RPOP", -2, KEY),
    r("LLEN", 2, KEY), r("LINDEX", 3, KEY), w("LSET", 4, KEY), r("LRANGE", 4, KEY), w("LTRIM", 4, KEY), w("LREM", 4, KEY),
    w("LINSERT", 5, KEY), r("LPOS", -3, KEY), w("LMOVE", 5, TWO), w("RPOPLPUSH", 3, TWO), w("LMPOP", -4, COUNTED),
    // sets
    w("SADD", -3, KEY), w("SREM", -3, KEY), r("SISMEMBER", 3, KEY), r("SMISMEMBER", -3, KEY), r("SCARD", 2, KEY),
    r("SMEMBERS", 2, KEY), w("SPOP", -2, KEY), r("SRANDMEMBER", -2, KEY), w("SMOVE", 4, TWO), r("SSCAN", -3, KEY),
    r("SINTER", -2, ALL), r("SUNION", -2, ALL), r("SDIFF", -2, ALL), r("SINTERCARD", -3, COUNTED),
    w("SINTERSTORE", -3, ALL), w("SUNIONSTORE", -3, ALL), w("SDIFFSTORE", -3, ALL),
    // sorted sets
    w("ZADD", -4, KEY), w("ZREM", -3, KEY), w("ZINCRBY", 4, KEY), r("ZSCORE", 3, KEY), r("ZMSCORE", -3, KEY), r("ZCARD", 2, KEY),
    r("ZCOUNT", 4, KEY), r("ZLEXCOUNT", 4, KEY), r("ZRANK", 3, KEY), r("ZREVRANK", 3, KEY), r("ZRANGE", -4, KEY),
    r("ZREVRANGE", -4, KEY), r("ZRANGEBYSCORE", -4, KEY), r("ZREVRANGEBYSCORE", -4, KEY), r("ZRANGEBYLEX", -4, KEY),
    r("ZREVRANGEBYLEX", -4, KEY), w("ZRANGESTORE", -5, TWO), w("ZREMRANGEBYRANK", 4, KEY), w("ZREMRANGEBYSCORE", 4, KEY),
    w("ZREMRANGEBYLEX", 4, KEY), w("ZPOPMIN", -2, KEY), w("ZPOPMAX", -2, KEY), r("ZRANDMEMBER", -2, KEY), r("ZSCAN", -3, KEY),
    r("ZUNION", -3, COUNTED), r("ZINTER", -3, COUNTED), r("ZDIFF", -3, COUNTED), r("ZINTERCARD", -3, COUNTED),
    w("ZUNIONSTORE", -4, TO_COUNTED), w("ZINTERSTORE", -4, TO_COUNTED), w("ZDIFFSTORE", -4, TO_COUNTED), w("ZMPOP", -4, COUNTED),
    // places
    w("GEOADD", -5, KEY), r("GEODIST", -4, KEY), r("GEOHASH", -2, KEY), r("GEOPOS", -2, KEY), w("GEORADIUS", -6, Keys::Store),
    r("GEORADIUS_RO", -6, KEY), w("GEORADIUSBYMEMBER", -5, Keys::Store), r("GEORADIUSBYMEMBER_RO", -5, KEY),
    r("GEOSEARCH", -7, KEY), w("GEOSEARCHSTORE", -8, TWO),
    // streams
    w("XADD", -5, KEY), w("XDEL", -3, KEY), w("XTRIM", -4, KEY), r("XLEN", 2, KEY), r("XRANGE", -4, KEY), r("XREVRANGE", -4, KEY),
    r("XREAD", -4, Keys::Streams), w("XREADGROUP", -7, Keys::Streams), w("XACK", -4, KEY), w("XCLAIM", -6, KEY),
    w("XAUTOCLAIM", -6, KEY), r("XPENDING", -3, KEY), w("XGROUP", -2, SECOND), r("XINFO", -2, SECOND), w("XSETID", -3, KEY),
    // scripts
    w("EVAL", -3, SCRIPT), w("EVALSHA", -3, SCRIPT), r("EVAL_RO", -3, SCRIPT), r("EVALSHA_RO", -3, SCRIPT),
    w("FCALL", -3, SCRIPT), r("FCALL_RO", -3, SCRIPT), f("SCRIPT", -2, Fan::AllWrite, Keys::None),
    // the proxy's own
    l("PING", -1, Local::Ping), l("ECHO", 2, Local::Echo), l("QUIT", -1, Local::Quit), l("RESET", 1, Local::Reset),
    l("SELECT", 2, Local::Select), l("HELLO", -1, Local::Hello), l("AUTH", -2, Local::Auth), l("CLIENT", -2, Local::Client),
    l("COMMAND", -1, Local::Command), l("INFO", -1, Local::Info), l("CONFIG", -2, Local::Config), l("TIME", 1, Local::Time),
    l("CLUSTER", -2, Local::Cluster), l("PROXY", -2, Local::Proxy), l("READONLY", 1, Local::Ok), l("READWRITE", 1, Local::Ok),
    l("LOLWUT", -1, Local::Lolwut), l("ROLE", 1, Local::Role), l("ACL", -2, Local::Acl), l("SLOWLOG", -2, Local::Slowlog),
    // not carried
    no("MULTI", STATE), no("EXEC", STATE), no("DISCARD", STATE), no("WATCH", STATE), no("UNWATCH", STATE), no("ASKING", STATE),
    no("MONITOR", STATE), no("WAIT", STATE), no("WAITAOF", STATE),
    no("BLPOP", BLOCKS), no("BRPOP", BLOCKS), no("BRPOPLPUSH", BLOCKS), no("BLMOVE", BLOCKS), no("BLMPOP", BLOCKS),
    no("BZPOPMIN", BLOCKS), no("BZPOPMAX", BLOCKS), no("BZMPOP", BLOCKS),
    no("SUBSCRIBE", PUBSUB), no("UNSUBSCRIBE", PUBSUB), no("PSUBSCRIBE", PUBSUB), no("PUNSUBSCRIBE", PUBSUB),
    no("SSUBSCRIBE", PUBSUB), no("SUNSUBSCRIBE", PUBSUB), no("PUBLISH", PUBSUB), no("SPUBLISH", PUBSUB), no("PUBSUB", PUBSUB),
    no("SHUTDOWN", ADMIN), no("DEBUG", ADMIN), no("SAVE", ADMIN), no("BGSAVE", ADMIN), no("BGREWRITEAOF", ADMIN), no("LASTSAVE", ADMIN),
    no("REPLICAOF", ADMIN), no("SLAVEOF", ADMIN), no("SYNC", ADMIN), no("PSYNC", ADMIN), no("REPLCONF", ADMIN), no("FAILOVER", ADMIN),
    no("MIGRATE", ADMIN), no("MODULE", ADMIN), no("SWAPDB", ADMIN), no("MOVE", ADMIN), no("LATENCY", ADMIN), no("FUNCTION", ADMIN),
];
