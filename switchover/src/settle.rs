//! After COMMIT there is only forward: new primaries, proxies, the way back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use topology::members::{ProxyMember, Role};
use topology::record::Cause;
use topology::service::MEMBER_BEAT;
use topology::{Record, ServiceView, ShardName};

use crate::guards::no_standby;
use crate::heard::SILENT_MAX;
use crate::operation::Operation;
use crate::report::{ProxyAck, ms};
use crate::wait::{Look, Waited, all, until};

/// One that lives and does not route by the new epoch for so long is named.
const PROXY_WAIT: Duration = Duration::from_secs(10);

fn is_promoted(view: &ServiceView, record: &Record, shard: &ShardName) -> bool {
    let role =
        view.nodes.get(shard).is_some_and(|n| n.role == Role::Primary && n.epoch >= record.epoch);
    role && view.leases.get(shard).is_some_and(|lease| lease.epoch >= record.epoch)
}

/// What is to be said of a proxy that has not acknowledged the epoch.
fn late(proxy: &ProxyMember, silence: Duration) -> String {
    let id = &proxy.id;
    match silence > MEMBER_BEAT {
        true => format!(
            "proxy {id} has said nothing for {:.1} s; it is waited for until {SILENT_MAX:?}",
            silence.as_secs_f64()
        ),
        false => format!("proxy {id} routes by epoch {}", proxy.epoch),
    }
}

impl Operation<'_> {
    /// Waits until it is complete; an error says what is not.
    pub(crate) async fn settle(&mut self, no_wait_reverse: bool) -> Result<(), String> {
        let patience = self.tool.config.settle_timeout;
        self.promoted(patience).await?;
        self.registered(patience.min(PROXY_WAIT)).await?;
        // Of a failover the old side may be gone for good; it follows when it returns.
        let unplanned = self.freeze.cause == Cause::Failover;
        match no_wait_reverse || unplanned {
            true => Ok(()),
            false => self.reversed(patience).await,
        }
    }

    async fn promoted(&mut self, patience: Duration) -> Result<(), String> {
        let mut view = self.view.clone();
        let record = self.record.clone();
        let promoted = until(self.tool, &mut view, Instant::now() + patience, |view| {
            let (done, late): (Vec<_>, Vec<_>) =
                record.primaries.iter().partition(|s| is_promoted(view, &record, s));
            done.into_iter().for_each(|shard| self.mark(shard, "promoted"));
            let late = late.into_iter();
            all((), late.map(|s| format!("{s} does not accept writes yet")).collect())
        });
        let waited = promoted.await;
        if let Waited::TimedOut(missing) = waited {
            return Err(missing);
        }
        self.report.pause_ms = Some(ms(self.frozen.elapsed()));
        if self.report.operation == "failover" {
            self.report.failover_ms = Some(ms(self.began.elapsed()));
        }
        self.done("promote", true).await;
        Ok(())
    }

    async fn registered(&mut self, patience: Duration) -> Result<(), String> {
        let mut view = self.view.clone();
        let (epoch, frozen) = (self.record.epoch, self.frozen);
        let mut acknowledged = BTreeMap::new();
        let heard = &mut self.heard;
        let registered = until(self.tool, &mut view, Instant::now() + patience, |view| {
            let now = Instant::now();
            heard.look(view, now);
            let (has, has_not): (Vec<_>, Vec<_>) =
                view.proxies.values().partition(|proxy| proxy.epoch >= epoch);
            for proxy in has {
                acknowledged.entry(proxy.id.clone()).or_insert_with(|| ms(frozen.elapsed()));
            }
            let silence = |proxy: &ProxyMember| heard.silence(&proxy.id, now);
            // Whoever is dead routes nowhere; its key is there for a while.
            match has_not.iter().all(|proxy| silence(proxy) >= SILENT_MAX) {
                true => Look::Done(has_not.into_iter().map(|proxy| proxy.id.clone()).collect()),
                false => Look::Missing(
                    has_not.into_iter().map(|p| late(p, silence(p))).collect::<Vec<_>>().join("; "),
                ),
            }
        });
        let waited = registered.await;
        let ack = |(id, pause_ms)| ProxyAck { id, pause_ms };
        self.report.proxies = acknowledged.into_iter().map(ack).collect();
        match waited {
            Waited::Done(silent) => self.silent(silent),
            Waited::TimedOut(_) => {
                let view = view.borrow();
                let late = view.proxies.values().filter(|proxy| proxy.epoch < epoch);
                self.report.proxies_missing = late.map(|proxy| proxy.id.clone()).collect();
                return Err(format!(
                    "these proxies do not route by it yet: {}",
                    self.report.proxies_missing.join(", ")
                ));
            }
            Waited::Over => {}
        }
        self.done("register", true).await;
        Ok(())
    }

    /// Names those that were not waited for.
    fn silent(&mut self, silent: Vec<String>) {
        if !silent.is_empty() {
            self.tool.progress(format!(
                "not waited for: {}, which have said nothing for {SILENT_MAX:?} or more (dead? one that comes back routes by the new epoch)",
                silent.join(", ")
            ));
        }
        self.report.proxies_silent = silent;
    }

    /// Waits until the old side follows, so that a switch back finds nothing to refuse.
    async fn reversed(&mut self, patience: Duration) -> Result<(), String> {
        let mut view = self.view.clone();
        let record = self.record.clone();
        let reversed = until(self.tool, &mut view, Instant::now() + patience, |view| {
            let mut missing = Vec::new();
            for source in &record.primaries {
                for target in record.followers_of(source) {
                    let streams = view.sidecars.get(source).map(|s| &s.streams);
                    let stream = streams.and_then(|s| s.get(&target.to_string()));
                    if stream.is_none_or(|s| s.state != "streaming") {
                        let state = stream.map_or("not begun", |s| &s.state);
                        let reason =
                            stream.and_then(|s| s.reason.as_deref()).unwrap_or("no reason given");
                        missing.push(format!(
                            "{target} does not follow {source} yet ({state}: {reason})"
                        ));
                    } else {
                        missing.extend(no_standby(view, source, &target));
                    }
                }
            }
            all((), missing)
        });
        let waited: Waited<()> = reversed.await;
        if let Waited::TimedOut(missing) = waited {
            return Err(missing);
        }
        self.done("reverse", true).await;
        Ok(())
    }
}
