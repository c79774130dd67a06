//! Decisions as text, and whole swarms of planners that play against each other.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::pieces::from_runs;

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn blob(number: u8) -> Digest {
    Digest::of(&[number])
}

/// A board of node `me` in a cluster, that wants blobs of so many pieces each.
fn board(me: &str, others: &[&str], blobs: &[u64], streams: usize) -> Board {
    let mut stripe = 0;
    let mut wants = Vec::new();
    for (number, &pieces) in (0..).zip(blobs) {
        wants.push(Want {
            blob: blob(number),
            first_stripe: stripe,
            divided: true,
            open: true,
            paused: false,
            have: Bitmap::new(pieces),
            held: vec![Held::Nothing; others.len()],
            banned: BTreeSet::new(),
            asked: BTreeMap::new(),
        });
        stripe += pieces.div_ceil(STRIPE);
    }
    let source = |other: &&str| Source {
        name: name(other),
        reachable: true,
        idle_streams: streams,
    };
    Board {
        me: name(me),
        sources: others.iter().map(source).collect(),
        wants,
        open_room: 4,
        impatient: false,
    }
}

/// All decisions until there is no more to ask, one a line.
fn decisions(board: &mut Board) -> String {
    let mut text = String::new();
    while let Some(request) = board.next() {
        let at = board
            .wants
            .iter()
            .position(|want| want.blob == request.blob);
        writeln!(
            text,
            "{} blob {} pieces {:?}",
            board.sources[request.source].name,
            at.unwrap(),
            request.pieces()
        )
        .unwrap();
        board.ask(request);
    }
    text
}

fn hold(board: &mut Board, source: usize, held: &Held) {
    for want in &mut board.wants {
        want.held[source] = held.clone();
    }
}

#[test]
fn two_receivers_ask_the_only_holder_for_different_stripes() {
    let mut second = board("m2", &["m1", "m3"], &[20], 9);
    hold(&mut second, 0, &Held::All);
    insta::assert_snapshot!(decisions(&mut second), @r"
    m1 blob 0 pieces 0..4
    m1 blob 0 pieces 8..12
    m1 blob 0 pieces 16..20
    ");
    let mut third = board("m3", &["m1", "m2"], &[20], 9);
    hold(&mut third, 0, &Held::All);
    insta::assert_snapshot!(decisions(&mut third), @r"
    m1 blob 0 pieces 4..8
    m1 blob 0 pieces 12..16
    m1 blob 0 pieces 19..20
    m1 blob 0 pieces 18..19
    m1 blob 0 pieces 17..18
    m1 blob 0 pieces 16..17
    ");
}

#[test]
fn what_another_receiver_has_is_not_asked_of_the_first_holder() {
    let mut second = board("m2", &["m1", "m3"], &[12], 9);
    hold(&mut second, 0, &Held::All);
    hold(&mut second, 1, &Held::Some(from_runs(12, &[(4, 2)])));
    insta::assert_snapshot!(decisions(&mut second), @r"
    m1 blob 0 pieces 0..4
    m3 blob 0 pieces 4..6
    m1 blob 0 pieces 8..12
    ");
}

#[test]
fn a_lone_receiver_asks_for_everything_in_order() {
    let mut second = board("m2", &["m1", "m3"], &[5, 2], 9);
    second.sources[1].reachable = false;
    hold(&mut second, 0, &Held::All);
    insta::assert_snapshot!(decisions(&mut second), @r"
    m1 blob 0 pieces 0..4
    m1 blob 0 pieces 4..5
    m1 blob 1 pieces 0..2
    ");
}

#[test]
fn the_rarest_piece_goes_first() {
    let mut second = board("m2", &["m1", "m3", "m4"], &[3], 1);
    hold(&mut second, 0, &Held::All);
    hold(&mut second, 1, &Held::All);
    second.wants[0].held[2] = Held::Some(from_runs(3, &[(0, 2)]));
    let request = second.next().unwrap();
    assert_eq!((request.first, request.count), (2, 1));
}

#[test]
fn a_quiet_request_is_asked_again_of_another_holder_once() {
    let mut second = board("m2", &["m1", "m3"], &[1], 3);
    hold(&mut second, 0, &Held::All);
    hold(&mut second, 1, &Held::All);
    let first = second.next().unwrap();
    second.ask(first);
    assert_eq!(second.next(), None);
    second.wants[0].asked.get_mut(&0).unwrap()[0].late = true;
    let again = second.next().unwrap();
    assert_ne!(again.source, first.source);
    second.ask(again);
    assert_eq!(second.next(), None);
}

#[test]
fn a_paused_blob_and_a_full_table_hold_up_no_other() {
    let mut second = board("m2", &["m1"], &[4, 4, 4], 9);
    hold(&mut second, 0, &Held::All);
    second.wants[0].paused = true;
    second.wants[1].open = false;
    second.open_room = 0;
    insta::assert_snapshot!(decisions(&mut second), @"m1 blob 2 pieces 0..4");
}

#[test]
fn a_source_that_lied_about_a_blob_is_not_asked_for_it_again() {
    let mut second = board("m2", &["m1", "m3"], &[4], 9);
    hold(&mut second, 0, &Held::All);
    hold(&mut second, 1, &Held::All);
    second.wants[0].banned.insert(0);
    insta::assert_snapshot!(decisions(&mut second), @"m3 blob 0 pieces 0..4");
}

/// What a swarm did until every node was complete.
#[derive(Debug, Default)]
struct Outcome {
    rounds: u64,
    /// Pieces that the first node sent again before it had sent each once.
    repeats: usize,
}

/// Plays a cluster in rounds; each node sends one piece and receives one piece a round, `slow` only every fourth.
fn play(nodes: &[&str], blobs: &[u64], start: &[Vec<Bitmap>], slow: Option<usize>) -> Outcome {
    let mut boards: Vec<Board> = Vec::new();
    for (me, held) in start.iter().enumerate() {
        let others: Vec<&str> = [&nodes[..me], &nodes[me + 1..]].concat();
        let mut board = board(nodes[me], &others, blobs, 1);
        for (want, have) in board.wants.iter_mut().zip(held) {
            want.have = have.clone();
        }
        boards.push(board);
    }
    let mut outcome = Outcome::default();
    let whole: u64 = blobs.iter().sum();
    let mut sent_once = BTreeSet::new();
    let lacks = |board: &Board| board.wants.iter().any(|want| !want.have.is_full());
    while boards.iter().any(lacks) {
        outcome.rounds += 1;
        assert!(outcome.rounds < 50 * whole + 100, "starved: {boards:#?}");
        let skip = slow.filter(|_| !outcome.rounds.is_multiple_of(4));
        let moved = round(&mut boards, usize::try_from(outcome.rounds).unwrap(), skip);
        for (_origin, blob, piece) in moved.iter().filter(|(sender, ..)| *sender == 0) {
            let repeated =
                !sent_once.insert((*blob, *piece)) && u64::try_from(sent_once.len()) != Ok(whole);
            outcome.repeats += usize::from(repeated);
        }
        for board in &mut boards {
            board.impatient = moved.is_empty();
        }
    }
    outcome
}

/// One round; gives what arrived: (sender, blob, piece).
fn round(boards: &mut [Board], number: usize, skip: Option<usize>) -> Vec<(usize, Digest, u64)> {
    let haves: Vec<Vec<Bitmap>> = boards
        .iter()
        .map(|board| board.wants.iter().map(|want| want.have.clone()).collect())
        .collect();
    let mut moved: Vec<(usize, Digest, u64)> = Vec::new();
    let count = boards.len();
    for me in (0..count)
        .map(|me| (me + number) % count)
        .filter(|me| Some(*me) != skip)
    {
        let board = &mut boards[me];
        let global = |source: usize| if source < me { source } else { source + 1 };
        for source in 0..count - 1 {
            for (want, have) in board.wants.iter_mut().zip(&haves[global(source)]) {
                want.held[source] = Held::Some(have.clone());
            }
            let busy = moved.iter().any(|(sender, ..)| *sender == global(source));
            board.sources[source].idle_streams = usize::from(!busy);
        }
        let Some(request) = board.next() else {
            continue;
        };
        let want = board.want_mut(&request.blob).unwrap();
        assert!(want.have.insert(request.first), "asked for what is there");
        moved.push((global(request.source), request.blob, request.first));
    }
    moved
}

fn empty(blobs: &[u64]) -> Vec<Bitmap> {
    blobs.iter().map(|&pieces| Bitmap::new(pieces)).collect()
}

fn full(blobs: &[u64]) -> Vec<Bitmap> {
    let whole = |&pieces: &u64| from_runs(pieces, &[(0, pieces)]);
    blobs.iter().map(whole).collect()
}

#[test]
fn the_first_holder_sends_each_piece_once_and_all_are_complete_in_the_time_of_one_copy() {
    let nodes = ["m1", "m2", "m3", "m4", "m5"];
    for receivers in 1..=4 {
        let blobs = [64, 3, 40];
        let mut start = vec![full(&blobs)];
        start.extend(vec![empty(&blobs); receivers]);
        let outcome = play(&nodes[..=receivers], &blobs, &start, None);
        assert_eq!(outcome.repeats, 0, "{receivers}");
        assert!(
            outcome.rounds <= 107 * 115 / 100,
            "{receivers}: {outcome:?}"
        );
    }
}

#[test]
fn a_slow_receiver_does_not_hold_up_the_other() {
    let blobs = [100];
    let start = vec![full(&blobs), empty(&blobs), empty(&blobs)];
    let outcome = play(&["m1", "m2", "m3"], &blobs, &start, Some(2));
    assert!(outcome.rounds <= 430, "{outcome:?}");
}

proptest! {
    #[test]
    fn every_piece_that_somebody_has_reaches_everybody(
        blobs in proptest::collection::vec(1_u64..20, 1..5),
        seeds in proptest::collection::vec(any::<u64>(), 2..5),
        slow in proptest::option::of(0_usize..5),
    ) {
        let nodes = ["m1", "m2", "m3", "m4"];
        let mut start: Vec<Vec<Bitmap>> = Vec::new();
        for seed in &seeds {
            let pick = |&pieces: &u64| {
                let mut set = Bitmap::new(pieces);
                for piece in (0..pieces).filter(|piece| seed >> (piece % 64) & 1 == 1) {
                    set.insert(piece);
                }
                set
            };
            start.push(blobs.iter().map(pick).collect());
        }
        start[0] = full(&blobs);
        play(&nodes[..seeds.len()], &blobs, &start, slow.filter(|slow| *slow < seeds.len()));
    }

    #[test]
    fn an_impatient_planner_uses_any_idle_holder(
        pieces in 1_u64..30,
        have in any::<u32>(),
        held in proptest::collection::vec(any::<u32>(), 1..4),
    ) {
        let others: Vec<&str> = ["m2", "m3", "m4"][..held.len()].to_vec();
        let mut board = board("m1", &others, &[pieces], 1);
        board.impatient = true;
        let bits = |bits: u32| {
            let mut set = Bitmap::new(pieces);
            for piece in (0..pieces).filter(|piece| bits >> piece & 1 == 1) {
                set.insert(piece);
            }
            set
        };
        board.wants[0].have = bits(have);
        for (source, held) in held.iter().enumerate() {
            board.wants[0].held[source] = Held::Some(bits(*held));
        }
        let served = |piece| held.iter().any(|held| held >> piece & 1 == 1);
        let possible = (0..pieces).any(|piece| have >> piece & 1 == 0 && served(piece));
        prop_assert_eq!(board.next().is_some(), possible);
    }
}
