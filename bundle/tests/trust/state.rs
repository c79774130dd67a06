//! The site's state: older things shown again, two of one number, other products, and the merge of two masters.

use bundle::index::BundleIndex;
use bundle::license::License;
use bundle::revocations::Revocations;
use bundle::root::Root;
use bundle::state::Downgrade;
use bundle::state::PolicyError;
use bundle::state::Replace;
use bundle::state::Site;
use bundle::state::TrustState;
use bundle::verify::Trust;
use bundle::verify::VerifiedIndex;
use proptest::prelude::*;

use crate::fixtures::BUNDLE_KEY;
use crate::fixtures::ROOT_KEYS;
use crate::fixtures::head;
use crate::fixtures::index;
use crate::fixtures::license;
use crate::fixtures::next_root;
use crate::fixtures::pinned;
use crate::fixtures::refused;
use crate::fixtures::release;
use crate::fixtures::revocations;
use crate::fixtures::root;
use crate::fixtures::signed_list;
use crate::fixtures::signed_root;
use crate::fixtures::trust;
use crate::fixtures::verified;
use crate::fixtures::verified_license;

fn accepted(releases: &[BundleIndex]) -> TrustState {
    let mut state = TrustState::default();
    for index in releases {
        state
            .accept_bundle(&verified(index), &Site::default())
            .unwrap();
    }
    state
}

/// Requires a refusal, and that it leaves the state as it was.
#[track_caller]
fn refuses(state: &TrustState, bundle: &VerifiedIndex, site: &Site, code: &str) -> PolicyError {
    let mut after = state.clone();
    let error = refused(after.accept_bundle(bundle, site), code);
    assert_eq!(&after, state);
    assert_eq!(state.judge_bundle(bundle, site), Err(error.clone()));
    error
}

#[test]
fn a_newer_release_is_accepted_and_the_same_again() {
    let state = accepted(&[release(41), release(42), release(42), release(100)]);
    let names = ["acme", "shop", "stable"].map(|name| name.parse().unwrap());
    let [vendor, product, channel] = &names;
    let newest = &state.newest(vendor, product, channel).unwrap().newest;
    assert_eq!(newest.position.sequence, 100);
    assert_eq!(newest.id, verified(&release(100)).id());
}

#[test]
fn an_older_release() {
    let state = accepted(&[release(42)]);
    refuses(
        &state,
        &verified(&release(41)),
        &Site::default(),
        "BUNDLE_ROLLBACK",
    );
    refuses(
        &state,
        &verified(&release(0)),
        &Site::default(),
        "BUNDLE_ROLLBACK",
    );
}

#[test]
fn an_older_release_reads_as_a_refusal_should() {
    let state = accepted(&[release(42)]);
    let old = BundleIndex {
        version: "1.3.0".parse().unwrap(),
        ..release(40)
    };
    let error = refuses(&state, &verified(&old), &Site::default(), "BUNDLE_ROLLBACK");
    let facts = bundle::fault::Fault::facts(&error);
    assert_eq!(
        error.to_string(),
        "this bundle is older than what the site has accepted"
    );
    assert_eq!(facts[0].value, "acme/shop 1.3.0, sequence 40");
    assert_eq!(facts[1].value, "acme/shop 1.4.0, sequence 42");
}

#[test]
fn another_channel_or_product_has_its_own_order() {
    let state = accepted(&[release(42)]);
    let beta = BundleIndex {
        channel: "beta".parse().unwrap(),
        ..release(1)
    };
    assert_eq!(
        state.judge_bundle(&verified(&beta), &Site::default()),
        Ok(())
    );
}

#[test]
fn two_releases_with_one_sequence() {
    let state = accepted(&[release(42)]);
    let twin = BundleIndex {
        version: "1.4.1".parse().unwrap(),
        ..release(42)
    };
    for downgrade in [Downgrade::Refused, Downgrade::Permitted] {
        let site = Site {
            downgrade,
            ..Site::default()
        };
        refuses(&state, &verified(&twin), &site, "BUNDLE_EQUIVOCATION");
    }
}

#[test]
fn a_permit_goes_down_to_the_floor_and_no_further() {
    let floored = BundleIndex {
        rollback_floor: 40,
        ..release(42)
    };
    let state = accepted(&[floored]);
    let permitted = Site {
        downgrade: Downgrade::Permitted,
        ..Site::default()
    };
    refuses(
        &state,
        &verified(&release(40)),
        &Site::default(),
        "BUNDLE_ROLLBACK",
    );
    assert_eq!(
        state.judge_bundle(&verified(&release(40)), &permitted),
        Ok(())
    );
    refuses(
        &state,
        &verified(&release(39)),
        &permitted,
        "BUNDLE_ROLLBACK_FLOOR",
    );
}

#[test]
fn a_permitted_downgrade_does_not_lower_what_is_remembered() {
    let mut state = accepted(&[release(42)]);
    let permitted = Site {
        downgrade: Downgrade::Permitted,
        ..Site::default()
    };
    let before = state.clone();
    state
        .accept_bundle(&verified(&release(40)), &permitted)
        .unwrap();
    assert_eq!(state, before);
}

#[test]
fn a_stolen_key_can_not_lock_a_site_out_for_ever() {
    let mut state = accepted(&[release(u64::MAX)]);
    refuses(
        &state,
        &verified(&release(43)),
        &Site::default(),
        "BUNDLE_ROLLBACK",
    );
    let raised = Root {
        epoch: 2,
        ..next_root(2)
    };
    let next = BundleIndex {
        epoch: 2,
        root_version: 2,
        ..release(43)
    };
    let mut files = head(&next, &[BUNDLE_KEY]);
    files.roots.insert(2, signed_root(&raised, &ROOT_KEYS));
    let next = files.verify(&trust()).unwrap();
    state.accept_bundle(&next, &Site::default()).unwrap();
    let old = head(&release(u64::MAX), &[BUNDLE_KEY])
        .verify(next.trust())
        .unwrap();
    refuses(&state, &old, &Site::default(), "BUNDLE_ROLLBACK_FLOOR");
}

#[test]
fn a_bundle_for_another_product_or_platform() {
    let state = TrustState::default();
    let bundle = verified(&index());
    let other_product = Site {
        product: Some("till".parse().unwrap()),
        ..Site::default()
    };
    refuses(&state, &bundle, &other_product, "BUNDLE_PRODUCT");
    let other_platform = Site {
        platform: Some("linux/arm64".parse().unwrap()),
        ..Site::default()
    };
    refuses(&state, &bundle, &other_platform, "BUNDLE_PLATFORM");
    let right = Site {
        product: Some("shop".parse().unwrap()),
        platform: Some("linux/amd64".parse().unwrap()),
        ..Site::default()
    };
    assert_eq!(state.judge_bundle(&bundle, &right), Ok(()));
}

#[test]
fn a_release_from_the_future_is_accepted() {
    let future = BundleIndex {
        released_at: "2999-01-01T00:00:00Z".parse().unwrap(),
        ..release(43)
    };
    accepted(&[release(42), future]);
}

#[test]
fn an_older_or_other_root_than_the_site_has_had() {
    let mut state = TrustState::default();
    let second = pinned(&root())
        .advance(&signed_root(&next_root(2), &ROOT_KEYS))
        .unwrap();
    state.accept_trust(&Trust::new(second)).unwrap();
    let before = state.clone();
    refused(state.accept_trust(&trust()), "ROOT_ROLLBACK");
    let twin = Root {
        epoch: 7,
        ..next_root(2)
    };
    refused(
        state.accept_trust(&Trust::new(pinned(&twin))),
        "ROOT_EQUIVOCATION",
    );
    assert_eq!(state, before);
}

#[test]
fn older_other_or_missing_revocations() {
    let with = |list: &Revocations| {
        let file = signed_list(list, &ROOT_KEYS);
        trust().advance_revocations(&file).unwrap()
    };
    let mut state = TrustState::default();
    state.accept_trust(&with(&revocations(5))).unwrap();
    let before = state.clone();
    refused(
        state.accept_trust(&with(&revocations(4))),
        "REVOCATIONS_ROLLBACK",
    );
    let twin = Revocations {
        keep: [verified(&index()).id()].into(),
        ..revocations(5)
    };
    refused(state.accept_trust(&with(&twin)), "REVOCATIONS_EQUIVOCATION");
    refused(state.accept_trust(&trust()), "REVOCATIONS_MISSING");
    refused(
        state.accept_bundle(&verified(&index()), &Site::default()),
        "REVOCATIONS_MISSING",
    );
    assert_eq!(state, before);
}

fn numbered(sequence: u64) -> License {
    License {
        sequence,
        ..license()
    }
}

fn named(id: &str, supersedes: &[&str]) -> License {
    License {
        license_id: id.parse().unwrap(),
        supersedes: supersedes.iter().map(|id| id.parse().unwrap()).collect(),
        ..license()
    }
}

#[track_caller]
fn refuses_license(state: &TrustState, license: &License, code: &str) {
    let mut after = state.clone();
    let verified = verified_license(license);
    refused(after.accept_license(&verified, Replace::BySupersedes), code);
    assert_eq!(&after, state);
}

fn accepted_licenses(licenses: &[License]) -> TrustState {
    let mut state = TrustState::default();
    for license in licenses {
        let verified = verified_license(license);
        state
            .accept_license(&verified, Replace::BySupersedes)
            .unwrap();
    }
    state
}

fn current(state: &TrustState) -> Vec<String> {
    let licenses = state.current_licenses(&"acme".parse().unwrap(), &"shop".parse().unwrap());
    licenses.iter().map(ToString::to_string).collect()
}

#[test]
fn an_older_license_or_two_with_one_sequence() {
    let state = accepted_licenses(&[numbered(6), numbered(7), numbered(7)]);
    refuses_license(&state, &numbered(6), "LICENSE_ROLLBACK");
    let twin = License {
        grace_days: 999,
        ..numbered(7)
    };
    refuses_license(&state, &twin, "LICENSE_EQUIVOCATION");
}

#[test]
fn another_license_must_supersede_the_current_one() {
    let mut state = accepted_licenses(&[license()]);
    refuses_license(&state, &named("H-0200", &[]), "LICENSE_OTHER");
    let next = verified_license(&named("H-0200", &["H-0193"]));
    state.accept_license(&next, Replace::BySupersedes).unwrap();
    assert_eq!(current(&state), ["H-0200"]);
    refuses_license(&state, &numbered(8), "LICENSE_SUPERSEDED");
}

#[test]
fn two_licenses_that_supersede_each_other_do_not_take_turns() {
    let state = accepted_licenses(&[named("B", &["A"]), named("A2", &["B"])]);
    assert_eq!(current(&state), ["A2"]);
    refuses_license(&state, &named("A", &["A2"]), "LICENSE_SUPERSEDED");
    let again = License {
        sequence: 8,
        ..named("B", &["A2"])
    };
    refuses_license(&state, &again, "LICENSE_SUPERSEDED");
}

#[test]
fn an_operator_can_confirm_a_replacement_and_the_vendor_undo_it() {
    let mut state = accepted_licenses(&[license()]);
    let other = verified_license(&named("X", &[]));
    state.accept_license(&other, Replace::Confirmed).unwrap();
    assert_eq!(current(&state), ["X"]);
    refuses_license(&state, &license(), "LICENSE_SUPERSEDED");
    let again = License {
        sequence: 8,
        ..named("H-0193", &["X"])
    };
    let again = verified_license(&again);
    state.accept_license(&again, Replace::BySupersedes).unwrap();
    assert_eq!(current(&state), ["H-0193"]);
}

#[test]
fn signed_times_raise_the_floor_of_the_time() {
    let state = accepted_licenses(&[license()]);
    assert_eq!(state.clock_floor().unwrap().time(), license().issued_at);
    let mut state = accepted(&[release(42)]);
    assert_eq!(state.clock_floor().unwrap().time(), index().released_at);
    state.raise_time_floor("2020-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(state.clock_floor().unwrap().time(), index().released_at);
}

#[test]
fn a_state_is_read_as_it_was_written_and_in_no_other_spelling() {
    let mut state = accepted(&[release(42)]);
    let license = verified_license(&named("X", &["Y"]));
    state.accept_license(&license, Replace::Confirmed).unwrap();
    let bytes = state.to_bytes().unwrap();
    assert_eq!(TrustState::parse(&bytes).unwrap(), state);
    for end in 0..bytes.len() {
        assert!(TrustState::parse(&bytes[..end]).is_err(), "cut at {end}");
    }
    let text = String::from_utf8(bytes).unwrap();
    for (from, to) in [
        ("state/v1", "state/v2"),
        ("acme/shop/stable", "acme/shop"),
        ("acme/shop/stable", "acme/shop/stable/x"),
        ("acme/shop/stable", "acme/../stable"),
        ("\"sequence\":42", "\"sequence\":-42"),
        ("\"sequence\":42", "\"sequence\":42,\"sequence\":43"),
    ] {
        let edited = text.replacen(from, to, 1);
        assert_ne!(edited, text);
        assert!(TrustState::parse(edited.as_bytes()).is_err(), "{to}");
    }
}

/// One thing that a site may hear of.
#[derive(Clone, Debug)]
enum Heard {
    Bundle(u64, u64, bool),
    License(u8, u64, Option<u8>, bool),
    Root(bool),
    Time(i64),
}

fn heard() -> impl Strategy<Value = Heard> {
    let bundle = (0..4_u64, 0..4_u64, any::<bool>());
    let license = (
        0..3_u8,
        0..4_u64,
        proptest::option::of(0..3_u8),
        any::<bool>(),
    );
    prop_oneof![
        bundle.prop_map(|(sequence, floor, twin)| Heard::Bundle(sequence, floor, twin)),
        license.prop_map(|(id, sequence, old, sure)| Heard::License(id, sequence, old, sure)),
        any::<bool>().prop_map(Heard::Root),
        (0..2_000_000_000_i64).prop_map(Heard::Time),
    ]
}

/// The state of a site that has heard all this; what is refused is passed over.
fn site_of(heard: &[Heard]) -> TrustState {
    let mut state = TrustState::default();
    for one in heard {
        hear(&mut state, one);
    }
    state
}

fn hear(state: &mut TrustState, heard: &Heard) {
    match heard {
        Heard::Bundle(sequence, floor, twin) => {
            let bundle = BundleIndex {
                rollback_floor: *floor.min(sequence),
                version: if *twin { "1.4.1" } else { "1.4.0" }.parse().unwrap(),
                ..release(*sequence)
            };
            let _refused = state.accept_bundle(&verified(&bundle), &Site::default());
        }
        Heard::License(id, sequence, old, sure) => {
            let old = old.filter(|old| old != id);
            let old = old.map(|old| format!("L{old}"));
            let license = License {
                sequence: *sequence,
                ..named(
                    &format!("L{id}"),
                    &old.iter().map(String::as_str).collect::<Vec<_>>(),
                )
            };
            let replace = if *sure {
                Replace::Confirmed
            } else {
                Replace::BySupersedes
            };
            let _refused = state.accept_license(&verified_license(&license), replace);
        }
        Heard::Root(newer) => {
            let root = if *newer { next_root(2) } else { root() };
            let _refused = state.accept_trust(&Trust::new(pinned(&root)));
        }
        Heard::Time(seconds) => {
            let time = bundle::timestamp::Timestamp::from_unix_seconds(*seconds).unwrap();
            state.raise_time_floor(time);
        }
    }
}

fn history() -> impl Strategy<Value = Vec<Heard>> {
    proptest::collection::vec(heard(), 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn masters_that_hear_of_each_other_in_any_order_agree(
        a in history(), b in history(), c in history(),
    ) {
        let (a, b, c) = (site_of(&a), site_of(&b), site_of(&c));
        prop_assert_eq!(a.clone().merge(&b), b.clone().merge(&a));
        prop_assert_eq!(a.clone().merge(&b).merge(&c), a.clone().merge(&b.clone().merge(&c)));
        prop_assert_eq!(&a.clone().merge(&a), &a);
        prop_assert_eq!(&a.clone().merge(&TrustState::default()), &a);
        let all = a.merge(&b).merge(&c);
        prop_assert_eq!(&TrustState::parse(&all.to_bytes().unwrap()).unwrap(), &all);
    }

    #[test]
    fn a_state_only_grows(history in history(), next in heard()) {
        let before = site_of(&history);
        let mut after = before.clone();
        hear(&mut after, &next);
        prop_assert_eq!(before.merge(&after), after);
    }
}
