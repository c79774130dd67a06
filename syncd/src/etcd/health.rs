//! Whether the members allow one more, and what has to go before.
//!
//! The rules, first that applies:
//!
//! 1. An alarm blocks everything.
//! 2. A learner, or a member that never started, is what is left of a try that failed: it goes. Whoever asks holds the
//!    right to change members, so nobody else is joining.
//! 3. A member of the joiner's name or address that does not answer is the joiner's former life: it goes when the quorum
//!    rule holds.
//! 4. Any other member that does not answer blocks: etcd itself refuses to add one then.
//! 5. Members that changed less than [`SETTLE`] ago: etcd refuses the next change for 5 s (measured: 3.6 and 5.1 s).
//!
//! The quorum rule (Cluster API's, `kubeadmcontrolplane/remediation.go`): without the member, the voters that answer are
//! still more than half of the voters, and at least one does.

use std::net::IpAddr;
use std::time::Duration;

use super::Alarm;
use super::Member;

/// How long members must have been the same before the next change.
pub const SETTLE: Duration = Duration::from_secs(6);

/// What one look at etcd has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// All members.
    pub members: Vec<SeenMember>,
    /// All alarms.
    pub alarms: Vec<Alarm>,
    /// For how long this process has seen these same members.
    pub unchanged_for: Duration,
}

/// A member, and whether it does its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenMember {
    /// The member.
    pub member: Member,
    /// It answers and knows a leader.
    pub answers: bool,
}

/// Who is to become a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joiner {
    /// Its node's name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
}

/// What the members allow now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One more member.
    Well,
    /// One more member, once this long has passed without another change.
    Settle(Duration),
    /// First of all, this one has to go.
    Remove(Member),
    /// Nothing, until somebody repairs something; one clause.
    Blocked(String),
}

/// Judges what was seen, for a joiner, or for nobody when only leftovers matter.
pub fn judge(seen: &Seen, joiner: &Joiner, settle: Duration) -> Verdict {
    if let Some(alarm) = seen.alarms.first() {
        let at = seen.name_of(alarm.member);
        return Verdict::Blocked(format!("etcd has raised the alarm {} at {at}", alarm.kind));
    }
    let mut former = seen.members.iter().filter(|seen| seen.is_left_over());
    if let Some(left) = former.next() {
        return seen.removal(left);
    }
    for silent in seen.members.iter().filter(|seen| !seen.answers) {
        if silent.is_of(joiner) {
            return seen.removal(silent);
        }
    }
    if let Some(silent) = seen.members.iter().find(|seen| !seen.answers) {
        return Verdict::Blocked(format!(
            "the etcd member {} does not answer; start that master again, or remove it for good",
            silent.member.title()
        ));
    }
    match settle.checked_sub(seen.unchanged_for) {
        Some(left) if !left.is_zero() => Verdict::Settle(left),
        Some(_) | None => Verdict::Well,
    }
}

impl Seen {
    /// Voters that have started.
    pub fn voters(&self) -> impl Iterator<Item = &SeenMember> {
        let is_voter = |seen: &&SeenMember| !seen.is_left_over();
        self.members.iter().filter(is_voter)
    }

    /// The voter of a node, when it answers.
    pub fn voter_at(&self, joiner: &Joiner) -> Option<&SeenMember> {
        self.voters()
            .find(|seen| seen.answers && seen.is_of(joiner))
    }

    fn removal(&self, going: &SeenMember) -> Verdict {
        if self.holds_quorum_without(going.member.id) {
            return Verdict::Remove(going.member.clone());
        }
        Verdict::Blocked(format!(
            "etcd would lose its quorum without the member {}; start that master again",
            going.member.title()
        ))
    }

    fn holds_quorum_without(&self, going: u64) -> bool {
        let left = || {
            let voters = self.members.iter().filter(|seen| !seen.member.is_learner);
            voters.filter(|seen| seen.member.id != going)
        };
        let well = left().filter(|seen| seen.answers).count();
        well >= 1 && well > left().count() / 2
    }

    fn name_of(&self, id: u64) -> &str {
        let found = self.members.iter().find(|seen| seen.member.id == id);
        found.map_or("a member", |seen| seen.member.title())
    }
}

impl SeenMember {
    /// A learner, or never started.
    pub fn is_left_over(&self) -> bool {
        self.member.is_learner || self.member.name.is_empty()
    }

    fn is_of(&self, joiner: &Joiner) -> bool {
        let at = self.member.peer_urls.iter().filter_map(|url| host(url));
        self.member.name == joiner.name || at.into_iter().any(|host| host == joiner.address)
    }
}

impl Member {
    /// Its name, or its address while it has none.
    pub fn title(&self) -> &str {
        if self.name.is_empty() {
            self.peer_urls
                .first()
                .map_or("without a name", String::as_str)
        } else {
            &self.name
        }
    }
}

/// The address in `https://10.0.0.11:2380` or `https://[fd00::1]:2380`.
fn host(url: &str) -> Option<IpAddr> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split('/').next()?;
    let (host, _port) = authority.rsplit_once(':')?;
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    plain.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member in one word: `m1` answers, `m1!` does not, `m1~` is a learner, `?3` never started (its address ends in 3).
    fn member(word: &str) -> SeenMember {
        let name = word.trim_end_matches(['!', '~']);
        let number: u8 = name.trim_start_matches(['m', '?']).parse().unwrap();
        let started = !name.starts_with('?');
        SeenMember {
            member: Member {
                id: u64::from(number),
                name: if started {
                    name.to_owned()
                } else {
                    String::new()
                },
                peer_urls: vec![format!("https://10.0.0.{number}:2380")],
                client_urls: if started {
                    vec![format!("https://10.0.0.{number}:2379")]
                } else {
                    Vec::new()
                },
                is_learner: word.ends_with('~'),
            },
            answers: started && !word.ends_with('!'),
        }
    }

    fn verdict(members: &str, joiner: u8, unchanged_s: u64) -> String {
        let seen = Seen {
            members: members.split_whitespace().map(member).collect(),
            alarms: Vec::new(),
            unchanged_for: Duration::from_secs(unchanged_s),
        };
        let joiner = Joiner {
            name: format!("m{joiner}"),
            address: [10, 0, 0, joiner].into(),
        };
        match judge(&seen, &joiner, SETTLE) {
            Verdict::Well => "well".to_owned(),
            Verdict::Settle(left) => format!("wait {}", left.as_secs()),
            Verdict::Remove(member) => format!("remove {}", member.id),
            Verdict::Blocked(why) => why.split(' ').take(4).collect::<Vec<_>>().join(" "),
        }
    }

    #[test]
    fn one_more_member_is_let_in_when_all_is_well() {
        for (members, joiner, unchanged_s, wanted) in [
            // Growing.
            ("m1", 2, 60, "well"),
            ("m1 m2", 3, 60, "well"),
            ("m1 m2 m3", 4, 60, "well"),
            // The five seconds after a change.
            ("m1 m2", 3, 5, "wait 1"),
            ("m1 m2", 3, 6, "well"),
            ("m1 m2", 3, 0, "wait 6"),
            // What is left of a try: anybody's.
            ("m1 m2~", 2, 60, "remove 2"),
            ("m1 m2~", 3, 60, "remove 2"),
            ("m1 ?2", 3, 60, "remove 2"),
            ("m1 m2 ?3", 4, 60, "remove 3"),
            ("m1 m2 m3!~", 3, 0, "remove 3"),
            // The joiner's former life.
            ("m1 m2 m3!", 3, 60, "remove 3"),
            ("m1 m2!", 2, 60, "remove 2"),
            // Its member runs: it goes on where it was.
            ("m1 m2 m3", 3, 60, "well"),
            // Somebody else is away.
            ("m1 m2!", 3, 60, "the etcd member m2"),
            ("m1 m2! m3", 4, 60, "the etcd member m2"),
            // Two are away: without the joiner's old member there would still be no quorum.
            ("m1 m2! m3!", 3, 60, "etcd would lose its"),
            ("m1 m2! m3! m4 m5", 3, 60, "remove 3"),
        ] {
            assert_eq!(
                verdict(members, joiner, unchanged_s),
                wanted,
                "{members}, m{joiner} joins, unchanged for {unchanged_s} s"
            );
        }
    }

    #[test]
    fn a_member_is_known_by_its_address_too() {
        let mut old = member("m7!");
        old.member.peer_urls = vec!["https://10.0.0.3:2380".to_owned()];
        let seen = Seen {
            members: vec![member("m1"), member("m2"), old],
            alarms: Vec::new(),
            unchanged_for: SETTLE,
        };
        let joiner = Joiner {
            name: "m3".to_owned(),
            address: [10, 0, 0, 3].into(),
        };
        assert!(matches!(judge(&seen, &joiner, SETTLE), Verdict::Remove(member) if member.id == 7));
        assert_eq!(host("https://[fd00::1]:2380"), "fd00::1".parse().ok());
    }

    #[test]
    fn an_alarm_blocks() {
        let seen = Seen {
            members: vec![member("m1")],
            alarms: vec![Alarm {
                member: 1,
                kind: "NOSPACE".to_owned(),
            }],
            unchanged_for: SETTLE,
        };
        let joiner = Joiner {
            name: "m2".to_owned(),
            address: [10, 0, 0, 2].into(),
        };
        let verdict = judge(&seen, &joiner, SETTLE);
        assert_eq!(
            verdict,
            Verdict::Blocked("etcd has raised the alarm NOSPACE at m1".to_owned())
        );
    }
}
