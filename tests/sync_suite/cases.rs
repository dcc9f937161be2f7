//! The list of the cases.

use super::rank::Rank;
use super::{agreement, batches, faults, ranks, scenarios};

/// What every rank does.
pub struct Case {
    pub name: &'static str,
    pub run: fn(&Rank),
}

macro_rules! cases {
    ($(#[$doc:meta])* $cases:ident: $($module:ident::$name:ident);+ $(;)?) => {
        $(#[$doc])*
        pub const $cases: &[Case] = &[$(Case {
            name: stringify!($name),
            run: $module::$name,
        }),+];
    };
}

cases! {
    /// What works, or fails on all ranks so that they can go on.
    CASES:
    batches::parts_of_a_batch_are_the_batch;
    batches::storage_types_layouts_and_epilogues;
    batches::ranks_without_values;
    batches::gradients_by_choice;
    batches::a_group_of_one_is_the_local_layer;
    scenarios::running_values_of_uneven_ranks;
    scenarios::one_sample_on_each_rank;
    scenarios::several_forwards_before_backward;
    scenarios::other_work_meanwhile;
    ranks::statistics_stay_with_their_group;
    ranks::a_tree_is_a_group;
    ranks::running_statistics_of_one_rank_or_of_all;
    ranks::precise_statistics_of_all_values;
    ranks::means_over_ranks;
    ranks::evaluation_needs_nobody;
    agreement::a_difference_is_named_on_all_ranks;
    agreement::an_error_on_one_rank_reaches_all;
    agreement::errors_go_through_a_tree;
    agreement::an_error_of_a_local_call_stays_local;
}

cases! {
    /// After these a rank may be missing, for all that an engine knows.
    FAULTS:
    faults::a_slow_rank_is_named_in_time;
}
