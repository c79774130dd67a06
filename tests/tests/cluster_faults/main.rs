//! Power cuts, kills and partitions while a site is made: whatever happens, the same command again finishes the work.
//!
//! Each scenario makes the sites that it breaks. They take long, and run in `sudo cargo xtask cluster test` alone.

mod interrupted;
mod joins;

use std::process::ExitCode;

use anyhow::Result;
use tests::bed;
use tests::bed::Bed;
use tests::cluster_bundle::ClusterBundle;
use tests::cluster_parts::Parts;
use tests::real_site::RealSite;
use tests::scenarios;
use tests::scenarios::Scenario;
use tests::scenarios::When;
use tests::scenarios::step;

const SCENARIOS: [Scenario<()>; 6] = [
    Scenario {
        name: "an_install_cut_at_the_beginning_of_every_step_is_finished_by_a_rerun",
        when: When::Thorough,
        run: |()| interrupted::at_every_step(),
    },
    Scenario {
        name: "an_install_killed_at_twenty_random_moments_is_finished_by_a_rerun",
        when: When::Thorough,
        run: |()| interrupted::at_random_moments(),
    },
    Scenario {
        name: "a_machine_cut_in_every_phase_of_its_join_becomes_a_master_and_others_join_meanwhile",
        when: When::Thorough,
        run: |()| joins::cut_in_every_phase(),
    },
    Scenario {
        name: "a_join_is_finished_when_the_holder_of_the_lease_dies",
        when: When::Thorough,
        run: |()| joins::the_holder_dies(),
    },
    Scenario {
        name: "a_join_is_finished_after_a_partition",
        when: When::Thorough,
        run: |()| joins::a_partition(),
    },
    Scenario {
        name: "two_machines_join_three_masters_at_the_same_instant",
        when: When::Thorough,
        run: |()| joins::from_three_to_five(),
    },
];

fn main() -> ExitCode {
    scenarios::run(
        &SCENARIOS,
        || Parts::find().err().or_else(bed::obstacle),
        || (),
    )
}

/// A site without machines.
fn site() -> Result<RealSite> {
    let parts = Parts::find().map_err(anyhow::Error::msg)?;
    let bundle = step("the signed bundle", || ClusterBundle::build(&parts))?;
    RealSite::on(Bed::new()?, bundle)
}
