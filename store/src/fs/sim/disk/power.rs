//! What goes wrong: planned and random errors, and the power.

use std::collections::BTreeSet;
use std::io;

use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::Disk;
use super::Failure;
use super::Node;
use super::ROOT;
use super::input_output_error;
use super::power_is_off;
use crate::fs::sim::Op;
use crate::fs::sim::Survival;

impl Disk {
    pub(in crate::fs::sim) fn plan_failure(&mut self, op: Op, path: &str, nth: u64) {
        self.failures.push(Failure {
            op,
            path: path.to_owned(),
            in_calls: nth,
        });
    }

    pub(super) fn may(&mut self, op: Op, path: &str) -> io::Result<()> {
        if self.off {
            return Err(power_is_off());
        }
        let mut due = None;
        for (number, failure) in self.failures.iter_mut().enumerate() {
            if failure.op == op && path.contains(&failure.path) {
                match failure.in_calls.checked_sub(1) {
                    Some(left) => failure.in_calls = left,
                    None => due = Some(number),
                }
            }
        }
        if let Some(number) = due {
            self.failures.remove(number);
            return Err(input_output_error());
        }
        let one_in = match op {
            Op::Read => self.rates.read,
            Op::Write => self.rates.write,
            Op::Sync | Op::SyncDir => self.rates.sync,
            Op::Open | Op::Name => 0,
        };
        if one_in > 0 && self.rng.random_range(0..one_in) == 0 {
            return Err(input_output_error());
        }
        Ok(())
    }

    /// Makes a change; in the call that loses the power it is made all the same, but nobody is told.
    pub(super) fn change<T>(
        &mut self,
        act: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        let done = act(self);
        self.count_change()?;
        done
    }

    pub(super) fn count_change(&mut self) -> io::Result<()> {
        let now = self.changes;
        self.changes += 1;
        if self.crash_at == Some(now) {
            self.off = true;
            return Err(power_is_off());
        }
        Ok(())
    }

    pub(in crate::fs::sim) fn power_on(&mut self, survival: Survival) {
        self.off = false;
        self.crash_at = None;
        self.life += 1;
        self.locks.clear();
        self.handles.clear();
        let mut rng = match survival {
            Survival::Everything => return,
            Survival::Nothing => None,
            Survival::Some(seed) => Some(StdRng::seed_from_u64(seed)),
        };
        for node in self.nodes.values_mut() {
            match node {
                Node::File(file) => file.crash(rng.as_mut()),
                Node::Directory(directory) => directory.crash(rng.as_mut()),
            }
        }
        self.collect();
    }

    /// Forgets files that no name leads to, on the medium or in memory, and that nobody has open.
    pub(super) fn collect(&mut self) {
        let mut live = self.reachable();
        live.extend(self.handles.values().map(|handle| handle.inode));
        for node in self.nodes.values() {
            if let Node::Directory(directory) = node {
                let pending = directory.pending.iter();
                live.extend(
                    pending
                        .flat_map(|change| [change.old, change.new])
                        .flatten(),
                );
            }
        }
        // What a forgotten directory still names is kept until the directory itself is gone for sure.
        let kept: Vec<u64> = live.iter().copied().collect();
        for inode in kept {
            self.reach(inode, &mut live);
        }
        self.nodes.retain(|inode, _| live.contains(inode));
    }

    pub(super) fn reachable(&self) -> BTreeSet<u64> {
        let mut live = BTreeSet::from([ROOT]);
        self.reach(ROOT, &mut live);
        live
    }

    fn reach(&self, inode: u64, live: &mut BTreeSet<u64>) {
        if let Some(Node::Directory(directory)) = self.nodes.get(&inode) {
            for child in directory.names.values() {
                live.insert(*child);
                self.reach(*child, live);
            }
        }
    }
}
