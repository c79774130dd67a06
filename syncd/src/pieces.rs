//! Sets of pieces on the wire and on the board: runs of (first, count), and what is missing.

use store::Bitmap;

/// Reads runs of (first, count) for a blob of so many pieces; what lies outside the blob is ignored.
pub(crate) fn from_runs(pieces: u64, runs: &[(u64, u64)]) -> Bitmap {
    let mut set = Bitmap::new(pieces);
    for &(first, count) in runs {
        for piece in first..first.saturating_add(count).min(pieces) {
            set.insert(piece);
        }
    }
    set
}

/// The set as ascending runs of (first, count) that don't touch.
pub(crate) fn to_runs(set: &Bitmap) -> Vec<(u64, u64)> {
    let runs = set.runs().into_iter();
    runs.map(|run| (run.start, run.end - run.start)).collect()
}

/// The pieces that are not in the set, ascending.
pub(crate) fn missing(set: &Bitmap) -> impl Iterator<Item = u64> + '_ {
    (0..set.len()).filter(|&piece| !set.contains(piece))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn runs_from_a_peer_never_reach_outside_the_blob() {
        let set = from_runs(70, &[(60, u64::MAX), (u64::MAX, 5), (3, 0), (5, 1)]);
        assert_eq!(to_runs(&set), [(5, 1), (60, 10)]);
        assert!(from_runs(0, &[(0, 9)]).is_empty());
    }

    proptest! {
        #[test]
        fn runs_carry_a_set(pieces in 0_u64..200, picks in proptest::collection::vec(0_u64..220, 0..80)) {
            let mut set = Bitmap::new(pieces);
            for pick in picks {
                set.insert(pick);
            }
            prop_assert_eq!(u64::try_from(missing(&set).count()), Ok(pieces - set.count()));
            prop_assert_eq!(from_runs(pieces, &to_runs(&set)), set);
        }
    }
}
