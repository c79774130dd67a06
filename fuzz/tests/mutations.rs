//! Every oracle over mutations of every honest document, the same ones in each run.

use sealift_fuzz::ORACLES;
use sealift_fuzz::seeds;

/// Mutations of one document.
const ROUNDS: u64 = 1500;

#[test]
fn every_target_has_an_honest_document() {
    for (target, _) in ORACLES {
        assert!(seeds::all().iter().any(|(of, _)| *of == target), "{target}");
    }
}

#[test]
fn no_mutation_of_an_honest_document_is_read_as_something_else() {
    for (number, (target, bytes)) in seeds::all().into_iter().enumerate() {
        let (_, oracle) = ORACLES
            .into_iter()
            .find(|(name, _)| *name == target)
            .unwrap();
        oracle(&bytes);
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ u64::try_from(number).unwrap());
        for _round in 0..ROUNDS {
            oracle(&mutate(&bytes, &mut random));
        }
    }
}

/// xorshift64: no more is needed, and it is the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }
}

/// Up to three changes: a flipped bit, another byte, a cut, a doubled part, an inserted or a removed one.
fn mutate(honest: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = honest.to_vec();
    for _change in 0..=random.below(3) {
        let place = random.below(bytes.len());
        let end = (place + random.below(24)).min(bytes.len());
        match random.below(6) {
            0 if !bytes.is_empty() => bytes[place] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[place] = random.byte(),
            2 => bytes.truncate(place),
            3 => {
                let part = bytes[place..end].to_vec();
                bytes.splice(place..place, part);
            }
            4 => bytes.insert(place, b"0\",:{}[]\n\\ \xff"[random.below(12)]),
            _ => drop(bytes.drain(place..end)),
        }
    }
    bytes
}
