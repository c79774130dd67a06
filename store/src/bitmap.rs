//! A set of pieces of one blob.

use std::ops::Range;

/// Which of a known number of pieces are there.
#[derive(Clone, PartialEq, Eq)]
pub struct Bitmap {
    possible: u64,
    count: u64,
    words: Vec<u64>,
}

const WORD_BITS: u64 = 64;

impl Bitmap {
    /// Makes an empty set of so many possible pieces.
    pub fn new(possible: u64) -> Self {
        let words = usize::try_from(possible.div_ceil(WORD_BITS)).unwrap_or(usize::MAX);
        Self {
            possible,
            count: 0,
            words: vec![0; words],
        }
    }

    /// How many pieces there could be.
    pub const fn len(&self) -> u64 {
        self.possible
    }

    /// Whether no piece is there.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether all pieces are there.
    pub const fn is_full(&self) -> bool {
        self.count == self.possible
    }

    /// How many pieces are there.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Whether piece `index` is there; false when there is no such piece.
    pub fn contains(&self, index: u64) -> bool {
        let (word, bit) = place(index);
        index < self.possible && self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Adds a piece; true when it is new. A piece that can't exist is not added.
    pub fn insert(&mut self, index: u64) -> bool {
        let (word, bit) = place(index);
        match self.words.get_mut(word) {
            Some(word) if index < self.possible && *word & bit == 0 => {
                *word |= bit;
                self.count += 1;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Removes a piece; true when it was there.
    pub fn remove(&mut self, index: u64) -> bool {
        let (word, bit) = place(index);
        match self.words.get_mut(word) {
            Some(word) if *word & bit != 0 => {
                *word &= !bit;
                self.count -= 1;
                true
            }
            Some(_) | None => false,
        }
    }

    /// How many pieces are there from the first on without a gap.
    pub fn prefix(&self) -> u64 {
        let full = self.words.iter().take_while(|word| **word == u64::MAX);
        let full = u64::try_from(full.count()).unwrap_or(u64::MAX);
        let open = usize::try_from(full).ok().and_then(|at| self.words.get(at));
        let tail = open.map_or(0, |word| u64::from(word.trailing_ones()));
        (full * WORD_BITS + tail).min(self.possible)
    }

    /// The pieces that are there, as ascending runs that don't touch.
    pub fn runs(&self) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for index in self.iter() {
            match runs.last_mut() {
                Some(last) if last.end == index => last.end += 1,
                Some(_) | None => runs.push(index..index + 1),
            }
        }
        runs
    }

    /// The pieces that are there, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.words.iter().zip(0_u64..).flat_map(|(word, at)| {
            (0..WORD_BITS)
                .filter(move |bit| word >> bit & 1 == 1)
                .map(move |bit| at * WORD_BITS + bit)
        })
    }

    /// The pieces of `self` that `other` lacks.
    pub(crate) fn without(&self, other: &Self) -> Self {
        let mut rest = Self::new(self.possible);
        for index in self.iter().filter(|index| !other.contains(*index)) {
            rest.insert(index);
        }
        rest
    }
}

fn place(index: u64) -> (usize, u64) {
    let word = usize::try_from(index / WORD_BITS).unwrap_or(usize::MAX);
    (word, 1 << (index % WORD_BITS))
}

impl std::fmt::Debug for Bitmap {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} of {} {:?}", self.count, self.possible, self.runs())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_behaves_like_a_set(
            possible in 0_u64..300,
            steps in proptest::collection::vec((any::<bool>(), 0_u64..320), 0..400),
        ) {
            let mut bitmap = Bitmap::new(possible);
            let mut set = BTreeSet::new();
            for (add, index) in steps {
                if add {
                    prop_assert_eq!(bitmap.insert(index), index < possible && set.insert(index));
                } else {
                    prop_assert_eq!(bitmap.remove(index), set.remove(&index));
                }
            }
            set.retain(|index| *index < possible);
            prop_assert!(bitmap.iter().eq(set.iter().copied()));
            prop_assert!(bitmap.runs().into_iter().flatten().eq(set.iter().copied()));
            prop_assert_eq!(usize::try_from(bitmap.count()).unwrap(), set.len());
            let prefix = (0..=possible).find(|index| !set.contains(index));
            prop_assert_eq!(bitmap.prefix(), prefix.unwrap());
        }
    }

    #[test]
    fn a_full_one_has_no_gap() {
        for possible in [0, 1, 63, 64, 65, 128] {
            let mut bitmap = Bitmap::new(possible);
            assert!((0..possible).all(|index| bitmap.insert(index)));
            assert!(bitmap.is_full());
            assert_eq!(bitmap.prefix(), possible);
        }
    }
}
