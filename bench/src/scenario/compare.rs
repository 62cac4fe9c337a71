//! `bench compare`: what differs between two results beyond what their own rounds differ among themselves.
//!
//! A figure has changed if no round of one result reaches into the rounds of the other. With five rounds each, chance
//! alone does that once in 126 times (the smallest p of the rank test of Mann and Whitney, two-sided); fewer rounds say
//! so more often, and the line under the table tells how often.

use std::path::PathBuf;

use anyhow::ensure;
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;

use super::outcome::{GroupOutcome, Outcome, RoundOutcome, median};
use super::table::{bytes, time};
use crate::measure::figures::say;

/// Smaller changes are nobody's business, however sure.
const SHARE_MIN: f64 = 0.02;

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct CompareArgs {
    /// The result before.
    pub before: PathBuf,
    /// The result after.
    pub after: PathBuf,
}

/// One figure of one group.
struct Figure {
    name: &'static str,
    of: fn(&RoundOutcome) -> f64,
    shown: fn(f64) -> String,
    more_is_better: bool,
}

const FIGURES: [Figure; 4] = [
    Figure {
        name: "messages/s",
        of: |round| round.messages_per_second,
        shown: |n| format!("{n:.0}"),
        more_is_better: true,
    },
    Figure { name: "bytes/s", of: |round| round.bytes_per_second, shown: bytes, more_is_better: true },
    Figure { name: "p50", of: |round| round.p50_us, shown: time, more_is_better: false },
    Figure { name: "p99", of: |round| round.p99_us, shown: time, more_is_better: false },
];

/// Which way a figure went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Noise,
    Better,
    Worse,
}

/// Compares two results and says what changed; `false` if anything became worse.
///
/// # Errors
/// If a file is no result, or they are of different scenarios.
pub fn compare(args: &CompareArgs) -> anyhow::Result<bool> {
    let (before, after) = (Outcome::read(&args.before)?, Outcome::read(&args.after)?);
    let (old, new) = (&before.scenario.name, &after.scenario.name);
    ensure!(old == new, "{old} and {new} are different scenarios");
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(["", "", "before", "after", "change", ""]);
    let (mut better, mut worse) = (0, 0);
    for group in &before.groups {
        let Some(other) = after.groups.iter().find(|other| other.name == group.name) else { continue };
        for figure in &FIGURES {
            // What comes by the clock is as much as was asked for.
            if group.open_loop && figure.more_is_better {
                continue;
            }
            let (row, change) = compare_figure(group, other, figure);
            better += usize::from(change == Change::Better);
            worse += usize::from(change == Change::Worse);
            table.add_row(row);
        }
    }
    say(&table.to_string());
    for (what, old, new) in [
        ("processor", &before.environment.processor, &after.environment.processor),
        ("kernel", &before.environment.kernel, &after.environment.kernel),
        ("build", &before.environment.build, &after.environment.build),
        ("nodes", &before.environment.nodes, &after.environment.nodes),
    ] {
        if old != new {
            say(&format!("not the same {what}: {old} before, {new} after"));
        }
    }
    let (old, new) = (before.scenario.time.rounds, after.scenario.time.rounds);
    say(&format!(
        "with {old} and {new} rounds chance alone shows a change in one figure of {:.0}",
        arrangements(old, new) / 2.0
    ));
    say(&format!("{better} better, {worse} worse, the rest is noise"));
    Ok(worse == 0)
}

fn compare_figure(before: &GroupOutcome, after: &GroupOutcome, figure: &Figure) -> ([String; 6], Change) {
    let of = |group: &GroupOutcome| group.rounds.iter().map(figure.of).collect::<Vec<_>>();
    let (old, new) = (of(before), of(after));
    let (old_median, new_median) = (median(old.iter().copied()), median(new.iter().copied()));
    let share = if old_median > 0.0 { new_median / old_median - 1.0 } else { 0.0 };
    let change = judge(&old, &new, share, figure.more_is_better);
    let word = match change {
        Change::Noise => "noise",
        Change::Better => "better",
        Change::Worse => "WORSE",
    };
    let row = [
        before.name.clone(),
        figure.name.to_owned(),
        (figure.shown)(old_median),
        (figure.shown)(new_median),
        format!("{:+.1}%", share * 100.0),
        word.to_owned(),
    ];
    (row, change)
}

fn judge(old: &[f64], new: &[f64], share: f64, more_is_better: bool) -> Change {
    let least = |numbers: &[f64]| numbers.iter().copied().fold(f64::INFINITY, f64::min);
    let most = |numbers: &[f64]| numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (higher, lower) = (least(new) > most(old), most(new) < least(old));
    if old.is_empty() || new.is_empty() || share.abs() < SHARE_MIN || !(higher || lower) {
        return Change::Noise;
    }
    if higher == more_is_better { Change::Better } else { Change::Worse }
}

/// In how many ways so many rounds can lie among so many others.
fn arrangements(old: u32, new: u32) -> f64 {
    (1..=new).map(|step| f64::from(old + step) / f64::from(step)).product()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_that_reach_into_each_other_are_noise() {
        assert_eq!(judge(&[1.0, 1.2, 1.1], &[1.15, 1.3, 1.4], 0.18, false), Change::Noise);
        assert_eq!(judge(&[1.0, 1.2, 1.1], &[1.25, 1.3, 1.4], 0.18, false), Change::Worse);
        assert_eq!(judge(&[1.0, 1.2, 1.1], &[1.25, 1.3, 1.4], 0.18, true), Change::Better);
        assert_eq!(judge(&[1.0, 1.0], &[1.01, 1.01], 0.01, true), Change::Noise);
    }

    #[test]
    fn chance_is_counted() {
        assert!((arrangements(5, 5) - 252.0).abs() < 1e-6);
        assert!((arrangements(3, 3) - 20.0).abs() < 1e-6);
    }
}
