//! What this node may do now, as workers ask it for each command.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use keyspace::{SLOTS, Slot, SlotSet};
use topology::ShardName;

use super::Refusal;

/// What the node does with commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Writes without a lease.
    Standalone = 0,
    /// Writes while its lease lasts.
    Primary = 1,
    /// Reads; writes stand still for a switch.
    Frozen = 2,
    /// Reads; was fenced for an epoch that has not come.
    Fenced = 3,
    /// Reads after READONLY.
    Standby = 4,
    /// Reads after READONLY; the record has not told it more.
    Unknown = 5,
    /// Nothing: its data is incomplete or away.
    Loading = 6,
    /// Reads; the log failed.
    Latched = 7,
}

impl Mode {
    const ALL: [Self; 8] = [
        Self::Standalone,
        Self::Primary,
        Self::Frozen,
        Self::Fenced,
        Self::Standby,
        Self::Unknown,
        Self::Loading,
        Self::Latched,
    ];
}

/// Proof that a write was admitted. Ask [`Authority::still_holds`] after its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "ask still_holds after the commit and before the reply"]
pub struct Permit {
    term: u64,
}

/// What this node may do. Cheap to clone; asking costs a few atomic loads, and a look at the boot
/// clock where there is a lease.
#[derive(Clone)]
pub struct Authority(Arc<Inner>);

struct Inner {
    mode: AtomicU8,
    /// When the lease ends, in nanoseconds of the boot clock.
    lease_end: AtomicU64,
    /// Whose promises hold the lease up; empty while the registry renews it.
    held_by: ArcSwap<BTreeSet<ShardName>>,
    /// Until when it refuses to be promoted by its own promises, in nanoseconds of the boot clock.
    promised_until: AtomicU64,
    /// Rises when the node stops being a primary: permits from before are void.
    term: AtomicU64,
    slots: [AtomicU64; SLOTS as usize / 64],
    routes: ArcSwap<Routes>,
}

/// Which other shard is primary of which slots, and where.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    pub(crate) primaries: BTreeMap<ShardName, (SlotSet, Option<String>)>,
    pub(crate) own: Option<ShardName>,
}

impl Authority {
    /// Of a node without a service: it writes every slot, without a lease.
    pub fn standalone() -> Self {
        Self::new(Mode::Standalone, &SlotSet::all())
    }

    /// Of a node of a service that has not learned its role.
    pub fn unknown() -> Self {
        Self::new(Mode::Unknown, &SlotSet::default())
    }

    fn new(mode: Mode, slots: &SlotSet) -> Self {
        let authority = Self(Arc::new(Inner {
            mode: AtomicU8::new(mode as u8),
            lease_end: AtomicU64::new(0),
            held_by: ArcSwap::default(),
            promised_until: AtomicU64::new(0),
            term: AtomicU64::new(0),
            slots: [const { AtomicU64::new(0) }; SLOTS as usize / 64],
            routes: ArcSwap::default(),
        }));
        authority.set_slots(slots);
        authority
    }

    /// Whether a write to this slot may run now.
    pub fn admit_write(&self, slot: Slot) -> Result<Permit, Refusal> {
        match self.mode() {
            Mode::Standalone => {}
            Mode::Primary if !self.owns(slot) => return Err(self.elsewhere(slot)),
            Mode::Primary if !self.has_lease() => return Err(Refusal::Lease),
            Mode::Primary => {}
            Mode::Frozen => return Err(Refusal::Frozen),
            Mode::Fenced => return Err(Refusal::Fenced),
            Mode::Standby => return Err(Refusal::Standby),
            Mode::Unknown => return Err(Refusal::Unknown),
            Mode::Loading => return Err(Refusal::Loading),
            Mode::Latched => return Err(Refusal::Latched),
        }
        Ok(Permit { term: self.0.term.load(Ordering::Acquire) })
    }

    /// After the commit and before the reply: whether the answer may be given. Where not, close
    /// the connection: another node may have taken over without this write.
    ///
    /// A freeze does not void a permit: what was committed before the end batch is drained.
    pub fn still_holds(&self, permit: &Permit) -> bool {
        let same = self.0.term.load(Ordering::Acquire) == permit.term;
        same && (self.mode() == Mode::Standalone || self.has_lease())
    }

    /// Whether a read of this slot may run; `readonly`: the connection said READONLY.
    pub fn admit_read(&self, slot: Slot, readonly: bool) -> Result<(), Refusal> {
        match self.mode() {
            Mode::Standalone => Ok(()),
            Mode::Loading => Err(Refusal::Loading),
            _ if !self.owns(slot) => Err(self.elsewhere(slot)),
            Mode::Standby if !readonly => Err(self.moved(slot).unwrap_or(Refusal::Standby)),
            Mode::Unknown if !readonly => Err(Refusal::Unknown),
            _ => Ok(()),
        }
    }

    /// Whether commands that name no slot (DBSIZE, SCAN, KEYS) may run.
    pub fn admit_scan(&self, readonly: bool) -> Result<(), Refusal> {
        match self.mode() {
            Mode::Loading => Err(Refusal::Loading),
            Mode::Standby if !readonly => Err(Refusal::Standby),
            Mode::Unknown if !readonly => Err(Refusal::Unknown),
            _ => Ok(()),
        }
    }

    /// Whether it accepts writes now: also whether it may delete what has expired.
    pub fn is_writable(&self) -> bool {
        match self.mode() {
            Mode::Standalone => true,
            Mode::Primary => self.has_lease(),
            _ => false,
        }
    }

    /// What the node does with commands.
    pub fn mode(&self) -> Mode {
        let mode = usize::from(self.0.mode.load(Ordering::Acquire));
        Mode::ALL.get(mode).copied().unwrap_or(Mode::Unknown)
    }

    /// Whether this node holds the slot.
    pub fn owns(&self, slot: Slot) -> bool {
        let slot = usize::from(slot.number());
        self.0.slots[slot / 64].load(Ordering::Relaxed) >> (slot % 64) & 1 == 1
    }

    /// How long it may still write; `None` without a lease.
    pub fn lease_left(&self) -> Option<Duration> {
        let end = Duration::from_nanos(self.0.lease_end.load(Ordering::Acquire));
        let needed = !matches!(self.mode(), Mode::Standalone);
        needed.then(|| end.saturating_sub(ops::clock::boot_now()))
    }

    fn has_lease(&self) -> bool {
        let end = self.0.lease_end.load(Ordering::Acquire);
        nanos(ops::clock::boot_now()) < end
    }

    fn elsewhere(&self, slot: Slot) -> Refusal {
        self.moved(slot).unwrap_or(Refusal::Elsewhere(slot.number()))
    }

    /// Where the slot's primary is, if that is another node whose address is known.
    fn moved(&self, slot: Slot) -> Option<Refusal> {
        let routes = self.0.routes.load();
        let mut others =
            routes.primaries.iter().filter(|(name, _)| Some(*name) != routes.own.as_ref());
        let (_, (_, address)) = others.find(|(_, (slots, _))| slots.contains(slot))?;
        Some(Refusal::Moved { slot: slot.number(), address: address.clone()? })
    }

    /// Which shard is primary of which slots, as far as it is known.
    pub(crate) fn routes(&self) -> arc_swap::Guard<Arc<Routes>> {
        self.0.routes.load()
    }

    pub(crate) fn set_mode(&self, mode: Mode) {
        let writes = |mode| matches!(mode, Mode::Primary | Mode::Frozen | Mode::Standalone);
        let before = self.mode();
        self.0.mode.store(mode as u8, Ordering::Release);
        if writes(before) && !writes(mode) {
            self.0.term.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The registry has renewed the lease up to `end`, or has given one that ends sooner than that there is.
    /// Whether promises had held it up till then.
    pub(crate) fn lease_by_registry(&self, end: Duration) -> bool {
        self.0.lease_end.fetch_max(nanos(end), Ordering::AcqRel);
        let news = !self.0.held_by.load().is_empty();
        if news {
            self.0.held_by.store(Arc::default());
        }
        news
    }

    /// These have promised what lets it write up to `end`. Whether that is news.
    pub(crate) fn lease_by(&self, of: &BTreeSet<ShardName>, end: Duration) -> bool {
        self.0.lease_end.fetch_max(nanos(end), Ordering::AcqRel);
        let news = **self.0.held_by.load() != *of;
        if news {
            self.0.held_by.store(Arc::new(of.clone()));
        }
        news
    }

    /// Whose promises hold the lease up; empty once it has ended, and while the registry renews it.
    pub fn held_by(&self) -> BTreeSet<ShardName> {
        let held = self.has_lease() && self.mode() == Mode::Primary;
        if held { (**self.0.held_by.load()).clone() } else { BTreeSet::new() }
    }

    /// This node has promised not to be promoted up to `end`. Whether there was no such promise `now`.
    pub(crate) fn promise_until(&self, end: Duration, now: Duration) -> bool {
        self.0.promised_until.fetch_max(nanos(end), Ordering::AcqRel) <= nanos(now)
    }

    /// How long it refuses to be promoted still, by what it has promised.
    pub fn promise_left(&self) -> Duration {
        let end = Duration::from_nanos(self.0.promised_until.load(Ordering::Acquire));
        end.saturating_sub(ops::clock::boot_now())
    }

    pub(crate) fn set_slots(&self, slots: &SlotSet) {
        let mut words = [0u64; SLOTS as usize / 64];
        for slot in slots.iter() {
            words[usize::from(slot.number()) / 64] |= 1 << (slot.number() % 64);
        }
        for (word, new) in self.0.slots.iter().zip(words) {
            word.store(new, Ordering::Relaxed);
        }
    }

    pub(crate) fn set_routes(&self, routes: Routes) {
        self.0.routes.store(Arc::new(routes));
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("mode", &self.mode())
            .field("lease_left", &self.lease_left())
            .finish_non_exhaustive()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(number: u16) -> Slot {
        Slot::new(number).unwrap()
    }

    #[test]
    fn a_primary_writes_its_slots_while_its_lease_lasts() {
        let authority = Authority::unknown();
        assert_eq!(authority.admit_write(slot(1)), Err(Refusal::Unknown));
        authority.set_slots(&"0-99".parse().unwrap());
        authority.set_mode(Mode::Primary);
        assert_eq!(authority.admit_write(slot(1)), Err(Refusal::Lease));
        let soon = ops::clock::boot_now() + Duration::from_secs(60);
        assert!(!authority.lease_by_registry(soon), "nobody had held it up");
        authority.lease_by_registry(Duration::from_secs(1));
        assert!(authority.has_lease(), "a late answer makes it no shorter");
        let permit = authority.admit_write(slot(1)).unwrap();
        assert_eq!(authority.admit_write(slot(100)), Err(Refusal::Elsewhere(100)));
        authority.set_mode(Mode::Frozen);
        assert_eq!(authority.admit_write(slot(1)), Err(Refusal::Frozen));
        assert!(authority.still_holds(&permit), "it was committed before the end batch");
        assert_eq!(authority.admit_read(slot(1), false), Ok(()));
        authority.set_mode(Mode::Standby);
        assert!(!authority.still_holds(&permit));
        assert_eq!(authority.admit_read(slot(1), false), Err(Refusal::Standby));
        assert_eq!(authority.admit_read(slot(1), true), Ok(()));
        authority.set_mode(Mode::Primary);
        assert!(!authority.still_holds(&permit), "a permit of an earlier term stays void");
    }

    #[test]
    fn promises_hold_a_lease_up_until_the_registry_does() {
        let authority = Authority::unknown();
        authority.set_mode(Mode::Primary);
        let (now, of) = (ops::clock::boot_now(), ["b/0".parse().unwrap()].into());
        assert!(!authority.is_writable());
        assert!(authority.lease_by(&of, now + Duration::from_secs(60)));
        assert!(!authority.lease_by(&of, now + Duration::from_secs(61)), "said once");
        assert_eq!((authority.is_writable(), authority.held_by()), (true, of));
        assert!(authority.lease_by_registry(now + Duration::from_secs(60)));
        assert!(authority.held_by().is_empty());
        assert!(authority.promise_until(now + Duration::from_secs(9), now));
        assert!(
            !authority.promise_until(now + Duration::from_secs(10), now),
            "the same run of them"
        );
        assert!(authority.promise_left() > Duration::from_secs(8));
        let ended = Authority::unknown();
        ended.set_mode(Mode::Primary);
        ended.lease_by(&["b/0".parse().unwrap()].into(), Duration::from_nanos(1));
        assert!(!ended.is_writable() && ended.held_by().is_empty());
    }

    #[test]
    fn a_slot_of_another_shard_is_moved_there() {
        let authority = Authority::unknown();
        let other: ShardName = "a/1".parse().unwrap();
        authority.set_slots(&"0-99".parse().unwrap());
        authority.set_mode(Mode::Primary);
        let slots = "100-16383".parse().unwrap();
        let primaries = [(other, (slots, Some("127.0.0.1:7001".to_owned())))].into();
        authority.set_routes(Routes { primaries, own: Some("a/0".parse().unwrap()) });
        let refusal = authority.admit_read(slot(100), false).unwrap_err();
        assert_eq!(refusal.to_string(), "MOVED 100 127.0.0.1:7001");
    }
}
