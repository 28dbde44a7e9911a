//! The names by which sidecars and snapshotters know each other's certificates.
//!
//! They are DNS names below `.godwit`, which no resolver needs to know: every tool that makes
//! certificates can put them in, and `*.a.shop.godwit` covers all shards of a cluster.

/// The name of the sidecar of a shard: `0.a.shop.godwit` for `a/0` of the service `shop`.
pub fn of_shard(service: &str, cluster: &str, shard: u32) -> String {
    format!("{shard}.{cluster}.{service}.godwit")
}

/// The name of who takes snapshots of a service: `snapshotter.shop.godwit`.
pub fn of_snapshotter(service: &str) -> String {
    format!("snapshotter.{service}.godwit")
}
