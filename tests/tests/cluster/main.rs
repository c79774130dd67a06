//! Real Kubernetes on a bed, from one signed file: what a site lives through, in the order in which it does.
//!
//! All scenarios share one site. Each brings it as far as it needs it, so that any of them can be run alone.

mod copies;
mod first_master;
mod joining;
mod lost_master;
mod numbers;
mod outside;
mod refusals;
mod secrets;
mod story;

use std::process::ExitCode;

use tests::scenarios;
use tests::scenarios::Scenario;
use tests::scenarios::When;

use self::story::Story;

/// In the order in which they run.
const SCENARIOS: [Scenario<Story>; 11] = [
    Scenario {
        name: "one_file_makes_a_first_master_on_which_dns_and_the_application_answer",
        when: When::Always,
        run: first_master::answers,
    },
    Scenario {
        name: "a_rerun_of_a_finished_install_changes_nothing",
        when: When::Always,
        run: first_master::a_rerun_changes_nothing,
    },
    Scenario {
        name: "an_unfit_machine_is_refused_before_anything_is_changed",
        when: When::Thorough,
        run: refusals::unfit_machines,
    },
    Scenario {
        name: "two_masters_joined_at_the_same_instant_and_a_worker_make_four_ready_nodes",
        when: When::Always,
        run: joining::four_nodes,
    },
    Scenario {
        name: "every_master_holds_the_whole_bundle_and_the_license",
        when: When::Always,
        run: copies::are_on_every_master,
    },
    Scenario {
        name: "images_have_their_own_names_and_what_a_node_needs_is_pinned",
        when: When::Always,
        run: copies::images,
    },
    Scenario {
        name: "no_secret_is_in_a_process_list_a_log_or_a_config_map",
        when: When::Always,
        run: secrets::are_nowhere,
    },
    Scenario {
        name: "syncd_and_the_forwarder_take_at_most_60_mib_of_a_node",
        when: When::Always,
        run: numbers::memory,
    },
    Scenario {
        name: "a_machine_that_another_is_already_is_refused_by_the_masters",
        when: When::Thorough,
        run: refusals::twins,
    },
    Scenario {
        name: "the_first_master_dies_and_the_cluster_answers_scales_and_grows",
        when: When::Always,
        run: lost_master::first_master_dies,
    },
    Scenario {
        name: "no_node_has_sent_a_packet_to_the_outside",
        when: When::Always,
        run: outside::nothing_was_sent,
    },
];

fn main() -> ExitCode {
    scenarios::run(&SCENARIOS, story::obstacle, Story::default)
}
