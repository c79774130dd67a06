//! What happens to machines that want to become masters, each story told to its end.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use anyhow::Result;
use api::join::Attempt;
use api::join::Role;
use api::join::TurnWish;
use syncd::join::JoinError;
use tests::process::wait_for;
use tests::skip;

use super::Machine;
use super::QUICK;
use super::Scene;
use super::State;
use super::parts;

#[test]
fn two_masters_join_at_the_same_instant_ten_times() -> Result<()> {
    let parts = match parts() {
        Ok(parts) => parts,
        Err(why) => skip!("{why}"),
    };
    let scene = Scene::set(&parts)?;
    let [one, other] = [scene.daemon("m1")?, scene.daemon("m9")?];
    for round in 0..10 {
        let begun = Instant::now();
        let (mut m2, mut m3) = (Machine::new(2, 'a')?, Machine::new(3, 'b')?);
        // Every second time both ask one daemon.
        let second = if round % 2 == 0 { &other } else { &one };
        scene.join(&mut [(&one, &mut m2), (second, &mut m3)])?;
        assert_eq!(scene.members()?, ["m1", "m2", "m3"], "round {round}");
        scene.require_nothing_left()?;
        let last = [&m2, &m3].map(|machine| match &machine.state {
            State::Done(joined) => joined.etcd_members,
            State::Waits | State::Adds | State::Promotes | State::Registers => 0,
        });
        assert_eq!(BTreeSet::from(last), BTreeSet::from([2, 3]));
        assert!(
            [&m2, &m3]
                .iter()
                .any(|machine| machine.positions.contains(&1))
        );
        println!("round {round}: {:.1} s", begun.elapsed().as_secs_f64());
        scene.remove(vec![m3, m2])?;
    }
    Ok(())
}

#[test]
fn five_masters_grow_from_three_at_once() -> Result<()> {
    let parts = match parts() {
        Ok(parts) => parts,
        Err(why) => skip!("{why}"),
    };
    let scene = Scene::set(&parts)?;
    let [one, other] = [scene.daemon("m1")?, scene.daemon("m9")?];
    let mut machines = [2, 3, 4, 5].map(|number| Machine::new(number, 'a'));
    let [Ok(m2), Ok(m3), Ok(m4), Ok(m5)] = &mut machines else {
        anyhow::bail!("four machines");
    };
    scene.join(&mut [(&one, m2), (&other, m3), (&one, m4), (&other, m5)])?;
    assert_eq!(scene.members()?, ["m1", "m2", "m3", "m4", "m5"]);
    scene.require_nothing_left()
}

#[test]
fn a_machine_that_dies_in_the_middle_lets_the_next_one_in() -> Result<()> {
    let parts = match parts() {
        Ok(parts) => parts,
        Err(why) => skip!("{why}"),
    };
    let scene = Scene::set(&parts)?;
    let daemon = scene.daemon("m1")?;
    let mut dying = Machine::new(2, 'a')?;
    wait_for("m2 to have its learner", || {
        let stepped = scene.step(&mut [(&daemon, &mut dying)]);
        stepped.map_err(|error| format!("{error:#}"))?;
        dying.is_half_a_member()
    })?;
    drop(dying);
    let died = Instant::now();
    let mut next = Machine::new(3, 'b')?;
    scene.join(&mut [(&daemon, &mut next)])?;
    println!(
        "the next master was done {:.1} s later",
        died.elapsed().as_secs_f64()
    );
    assert_eq!(scene.members()?, ["m1", "m3"]);
    scene.require_nothing_left()?;
    // The dead machine comes back with a new try.
    let mut again = Machine::new(2, 'c')?;
    scene.join(&mut [(&daemon, &mut again)])?;
    assert_eq!(scene.members()?, ["m1", "m2", "m3"]);
    scene.require_nothing_left()
}

#[test]
fn a_machine_that_was_killed_begins_again_without_its_old_learner() -> Result<()> {
    let parts = match parts() {
        Ok(parts) => parts,
        Err(why) => skip!("{why}"),
    };
    let scene = Scene::set(&parts)?;
    let daemon = scene.daemon("m1")?;
    let mut killed = Machine::new(2, 'a')?;
    wait_for("m2 to have its learner", || {
        let stepped = scene.step(&mut [(&daemon, &mut killed)]);
        stepped.map_err(|error| format!("{error:#}"))?;
        killed.is_half_a_member()
    })?;
    let before = scene.plane.members()?;
    drop(killed);
    // The same try, at once, with nothing of its data: its learner would never catch up.
    let mut again = Machine::new(2, 'a')?;
    scene.join(&mut [(&daemon, &mut again)])?;
    let after = scene.plane.members()?;
    assert_eq!(scene.members()?, ["m1", "m2"]);
    assert!(
        after
            .iter()
            .filter(|member| before.contains(member))
            .count()
            == 1
    );
    scene.require_nothing_left()
}

#[test]
fn a_machine_that_dies_together_with_its_master_lets_the_next_one_in() -> Result<()> {
    let parts = match parts() {
        Ok(parts) => parts,
        Err(why) => skip!("{why}"),
    };
    let scene = Scene::set(&parts)?;
    let [dying_daemon, other] = [scene.daemon("m1")?, scene.daemon("m9")?];
    let mut dying = Machine::new(2, 'a')?;
    wait_for("m2 to have its learner", || {
        let stepped = scene.step(&mut [(&dying_daemon, &mut dying)]);
        stepped.map_err(|error| format!("{error:#}"))?;
        dying.is_half_a_member()
    })?;
    drop(dying);
    drop(dying_daemon);
    assert!(scene.holder()?.starts_with("m2 "));
    let died = Instant::now();
    let mut next = Machine::new(3, 'b')?;
    scene.join(&mut [(&other, &mut next)])?;
    assert!(died.elapsed() >= QUICK.lease.duration);
    println!(
        "the next master was done {:.1} s later",
        died.elapsed().as_secs_f64()
    );
    assert_eq!(scene.members()?, ["m1", "m3"]);
    scene.require_nothing_left()
}

#[test]
fn a_machine_whose_master_dies_goes_on_through_another_one() -> Result<()> {
    let parts = match parts() {
        Ok(parts) => parts,
        Err(why) => skip!("{why}"),
    };
    let scene = Scene::set(&parts)?;
    let [dying, other] = [scene.daemon("m1")?, scene.daemon("m9")?];
    let mut m2 = Machine::new(2, 'a')?;
    let mut m3 = Machine::new(3, 'b')?;
    wait_for("m2 to want its vote", || {
        let stepped = scene.step(&mut [(&dying, &mut m2), (&dying, &mut m3)]);
        stepped.map_err(|error| format!("{error:#}"))?;
        m2.is_half_a_member().or_else(|_| m3.is_half_a_member())
    })?;
    drop(dying);
    scene.join(&mut [(&other, &mut m2), (&other, &mut m3)])?;
    assert_eq!(scene.members()?, ["m1", "m2", "m3"]);
    scene.require_nothing_left()
}

#[test]
fn a_machine_with_a_taken_name_is_refused_and_nobody_waits_for_it() -> Result<()> {
    let parts = match parts() {
        Ok(parts) => parts,
        Err(why) => skip!("{why}"),
    };
    let scene = Scene::set(&parts)?;
    let daemon = scene.daemon("m1")?;
    let twin = TurnWish {
        who: Attempt {
            node: "m1".parse()?,
            attempt: "d".repeat(32),
        },
        address: IpAddr::from([10, 1, 1, 1]),
        machine_id: "ANOTHER".to_owned(),
        doing: "joins".to_owned(),
        begins: true,
    };
    let refused = scene.runtime.block_on(daemon.turn(Role::Master, twin));
    assert!(matches!(refused, Err(JoinError::NameTaken(_))));
    assert_eq!(scene.members()?, ["m1"]);
    let mut m2 = Machine::new(2, 'a')?;
    scene.join(&mut [(&daemon, &mut m2)])?;
    assert_eq!(m2.positions.iter().max(), Some(&0));
    scene.require_nothing_left()
}
