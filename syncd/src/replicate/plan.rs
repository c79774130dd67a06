//! Decides what to ask of whom: pure, over a board of who holds what. It must never know a clock, a socket or a disk.
//!
//! 1. A piece that one member alone can serve is *sole*. Its stripe belongs to one of the members that lack it, the same
//!    one by every node's reckoning: that one asks for it at once, the others leave it alone and get it from there.
//!    So a first holder sends every piece once before it sends any twice.
//! 2. While a source has sole pieces to give, it is asked for nothing else; pieces with more holders come from the
//!    others, the rarest first.
//! 3. Who is through with its own stripes takes from the far end of the others' as long as plenty is left there.
//! 4. A request that has gone quiet may be asked a second time, of another holder.
//! 5. When nothing has arrived for a while (`impatient`), rules 1 and 2 are off: whoever has it is asked.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use api::sync::NodeName;
use bundle::Digest;
use store::Bitmap;

use crate::pieces;

/// Pieces of one stripe, the unit in which sole pieces are divided. Part of the protocol: all nodes must reckon alike.
pub(crate) const STRIPE: u64 = 4;

/// Rule 3 leaves this many pieces of others alone: about what they have in flight.
const STEAL_LEAVES: u64 = 8;

/// Everything that a decision rests on.
#[derive(Clone, Debug)]
pub(crate) struct Board {
    /// This node.
    pub(crate) me: NodeName,
    /// The other members, sorted by name; [`Want::held`] counts in this order.
    pub(crate) sources: Vec<Source>,
    /// What this node lacks, in the order in which it should come, the same at every node.
    pub(crate) wants: Vec<Want>,
    /// How many more partials may be opened.
    pub(crate) open_room: usize,
    /// Rule 5.
    pub(crate) impatient: bool,
}

/// A member that may serve.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Its name.
    pub(crate) name: NodeName,
    /// It answers.
    pub(crate) reachable: bool,
    /// Requests that it could take now.
    pub(crate) idle_streams: usize,
}

/// A blob that this node lacks.
#[derive(Clone, Debug)]
pub(crate) struct Want {
    /// The blob.
    pub(crate) blob: Digest,
    /// Number of its first stripe, counted over the whole bundle.
    pub(crate) first_stripe: u64,
    /// Worth dividing: small blobs are simply asked for.
    pub(crate) divided: bool,
    /// Its partial is open, or it needs none.
    pub(crate) open: bool,
    /// Not now: it failed and waits.
    pub(crate) paused: bool,
    /// Verified pieces.
    pub(crate) have: Bitmap,
    /// What each source holds.
    pub(crate) held: Vec<Held>,
    /// Sources that gave wrong bytes for it.
    pub(crate) banned: BTreeSet<usize>,
    /// Requests under way for each piece.
    pub(crate) asked: BTreeMap<u64, Vec<Asked>>,
}

/// What a source holds of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Nothing that is known.
    Nothing,
    /// These pieces.
    Some(Bitmap),
    /// The published blob.
    All,
}

/// One request for a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The source.
    pub(crate) source: usize,
    /// Nothing has come from it for a while.
    pub(crate) late: bool,
}

/// The decision: ask `source` for `count` pieces from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Request {
    /// Index into [`Board::sources`].
    pub(crate) source: usize,
    /// The blob.
    pub(crate) blob: Digest,
    /// First piece.
    pub(crate) first: u64,
    /// Pieces, at most to the end of the stripe.
    pub(crate) count: u64,
}

/// How one missing piece stands towards one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The source can't serve it.
    Elsewhere,
    /// It is under way, and should not be asked again.
    UnderWay,
    /// It is under way, but quiet, and the source is another holder.
    Quiet,
    /// Only the source has it, and it is this node's to fetch.
    Mine,
    /// Only the source has it, and another node is to fetch it.
    Theirs,
    /// So many members can serve it.
    Shared(usize),
}

/// The best pieces that one source could be asked for, by rule.
#[derive(Debug, Default)]
struct Picks {
    mine: Option<(usize, u64)>,
    theirs: Option<(usize, u64)>,
    theirs_last: Option<(usize, u64)>,
    theirs_left: u64,
    shared: Option<(usize, usize, u64)>,
    quiet: Option<(usize, u64)>,
    spreading: bool,
}

impl Board {
    /// The next request to make, if there is any; [`Board::ask`] notes it down.
    pub(crate) fn next(&self) -> Option<Request> {
        let mut idle: Vec<usize> = (0..self.sources.len())
            .filter(|&at| self.idle_streams(at) > 0)
            .collect();
        idle.sort_by_key(|&at| std::cmp::Reverse(self.idle_streams(at)));
        idle.into_iter().find_map(|source| self.next_of(source))
    }

    /// Notes a request down as under way.
    pub(crate) fn ask(&mut self, request: Request) {
        if let Some(source) = self.sources.get_mut(request.source) {
            source.idle_streams = source.idle_streams.saturating_sub(1);
        }
        if let Some(want) = self.want_mut(&request.blob) {
            for piece in request.pieces() {
                want.asked.entry(piece).or_default().push(Asked {
                    source: request.source,
                    late: false,
                });
            }
        }
    }

    /// Takes a request, or what is left of it, off the board. The stream is idle only when the caller says so.
    pub(crate) fn settle(&mut self, request: Request) {
        if let Some(want) = self.want_mut(&request.blob) {
            for piece in request.pieces() {
                want.settle(piece, request.source);
            }
        }
    }

    /// Marks what is still under way of a request as quiet.
    pub(crate) fn mark_late(&mut self, request: Request) {
        let Some(want) = self.want_mut(&request.blob) else {
            return;
        };
        for piece in request.pieces() {
            for asked in want.asked.get_mut(&piece).into_iter().flatten() {
                asked.late |= asked.source == request.source;
            }
        }
    }

    /// The want for a blob, to change it.
    pub(crate) fn want_mut(&mut self, blob: &Digest) -> Option<&mut Want> {
        self.wants.iter_mut().find(|want| want.blob == *blob)
    }

    fn idle_streams(&self, source: usize) -> usize {
        self.sources
            .get(source)
            .filter(|source| source.reachable)
            .map_or(0, |source| source.idle_streams)
    }

    /// The best request to one source.
    fn next_of(&self, source: usize) -> Option<Request> {
        let picks = self.picks(source);
        let shared = picks.shared.map(|(_holders, at, piece)| (at, piece));
        if let Some(pick) = picks.mine {
            return self.request(source, pick, STRIPE);
        }
        if self.impatient {
            let pick = shared.or(picks.theirs).or(picks.quiet)?;
            return self.request(source, pick, STRIPE);
        }
        if let Some(pick) = shared.filter(|_pick| !picks.spreading) {
            return self.request(source, pick, STRIPE);
        }
        if let Some(pick) = picks
            .theirs_last
            .filter(|_pick| picks.theirs_left > STEAL_LEAVES)
        {
            return self.request(source, pick, 1);
        }
        self.request(source, picks.quiet?, 1)
    }

    /// Looks at every missing piece once.
    fn picks(&self, source: usize) -> Picks {
        let mut picks = Picks::default();
        let lacking = self.lacking(source);
        for (at, want) in self
            .wants
            .iter()
            .enumerate()
            .filter(|(_, want)| !want.paused)
        {
            if !want.holds_any(source) {
                continue;
            }
            for piece in pieces::missing(&want.have) {
                let standing = self.standing(want, piece, source, &lacking);
                picks.spreading |= want.divided
                    && lacking.len() > 1
                    && self.holders(want, piece) == 1
                    && want.holds(source, piece);
                if want.open || self.open_room > 0 || standing == Standing::Quiet {
                    picks.take(standing, at, piece);
                }
            }
        }
        picks
    }

    fn standing(&self, want: &Want, piece: u64, source: usize, lacking: &[&NodeName]) -> Standing {
        if !want.holds(source, piece) {
            return Standing::Elsewhere;
        }
        if let Some(asked) = want.asked.get(&piece).filter(|asked| !asked.is_empty()) {
            let quiet = asked.len() < 2 && asked.iter().all(|one| one.late && one.source != source);
            return if quiet {
                Standing::Quiet
            } else {
                Standing::UnderWay
            };
        }
        match self.holders(want, piece) {
            0 | 1 if !want.divided || Self::owner(want, piece, lacking) == Some(&self.me) => {
                Standing::Mine
            }
            0 | 1 => Standing::Theirs,
            holders => Standing::Shared(holders),
        }
    }

    /// The members that can't have a piece that only `source` holds, sorted.
    fn lacking(&self, source: usize) -> Vec<&NodeName> {
        let others = self.sources.iter().enumerate();
        let others = others.filter(|(at, other)| *at != source && other.reachable);
        let mut names: Vec<&NodeName> = others.map(|(_, other)| &other.name).collect();
        names.push(&self.me);
        names.sort();
        names
    }

    fn owner<'a>(want: &Want, piece: u64, lacking: &[&'a NodeName]) -> Option<&'a NodeName> {
        let stripe = want.first_stripe + piece / STRIPE;
        let members = u64::try_from(lacking.len()).ok()?;
        let at = usize::try_from(stripe.checked_rem(members)?).ok()?;
        lacking.get(at).copied()
    }

    /// How many reachable members say that they have a piece.
    fn holders(&self, want: &Want, piece: u64) -> usize {
        let sources = self.sources.iter().zip(&want.held);
        sources
            .filter(|(source, held)| source.reachable && held.contains(piece))
            .count()
    }

    /// A request that begins at `pick` and goes on while the pieces stand the same way.
    fn request(&self, source: usize, pick: (usize, u64), count_max: u64) -> Option<Request> {
        let (at, first) = pick;
        let want = self.wants.get(at)?;
        let lacking = self.lacking(source);
        let alike = |piece| self.standing(want, piece, source, &lacking);
        let stripe_end = (first / STRIPE + 1) * STRIPE;
        let end = stripe_end.min(want.have.len()).min(first + count_max);
        let run = (first + 1..end)
            .take_while(|&piece| !want.have.contains(piece) && alike(piece) == alike(first));
        Some(Request {
            source,
            blob: want.blob,
            first,
            count: 1 + u64::try_from(run.count()).unwrap_or(0),
        })
    }
}

impl Picks {
    fn take(&mut self, standing: Standing, at: usize, piece: u64) {
        match standing {
            Standing::Elsewhere | Standing::UnderWay => {}
            Standing::Quiet => self.quiet = self.quiet.or(Some((at, piece))),
            Standing::Mine => self.mine = self.mine.or(Some((at, piece))),
            Standing::Theirs => {
                self.theirs = self.theirs.or(Some((at, piece)));
                self.theirs_last = Some((at, piece));
                self.theirs_left += 1;
            }
            Standing::Shared(holders) => {
                let pick = (holders, at, piece);
                self.shared = Some(self.shared.map_or(pick, |best| best.min(pick)));
            }
        }
    }
}

impl Want {
    /// Whether a source could serve any of it.
    pub(crate) fn holds_any(&self, source: usize) -> bool {
        !self.banned.contains(&source) && self.held.get(source).is_some_and(Held::is_any)
    }

    fn holds(&self, source: usize, piece: u64) -> bool {
        let held = self.held.get(source);
        !self.banned.contains(&source) && held.is_some_and(|held| held.contains(piece))
    }

    fn settle(&mut self, piece: u64, source: usize) {
        if let Some(asked) = self.asked.get_mut(&piece) {
            asked.retain(|one| one.source != source);
            if asked.is_empty() {
                self.asked.remove(&piece);
            }
        }
    }
}

impl Held {
    fn is_any(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Some(pieces) => !pieces.is_empty(),
            Self::All => true,
        }
    }

    fn contains(&self, piece: u64) -> bool {
        match self {
            Self::Nothing => false,
            Self::Some(pieces) => pieces.contains(piece),
            Self::All => true,
        }
    }
}

impl Request {
    /// The pieces asked for.
    pub(crate) const fn pieces(&self) -> std::ops::Range<u64> {
        self.first..self.first + self.count
    }
}

#[cfg(test)]
mod tests;
