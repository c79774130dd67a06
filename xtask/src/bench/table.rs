//! The table of a bench: medians, spread, ratio, aim.

use std::fmt;
use std::time::Duration;

/// Rows as they were measured.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    what: String,
    ours: String,
    theirs: String,
    result: String,
    aim: String,
    is_met: bool,
}

impl Table {
    /// Our times against theirs; the aim is how many times faster we are.
    pub(super) fn compare(&mut self, what: &str, ours: &[Duration], theirs: &[Duration], aim: f64) {
        let ratio = median(theirs) / median(ours);
        self.rows.push(Row {
            what: what.to_owned(),
            ours: spread(ours),
            theirs: spread(theirs),
            result: format!("{ratio:.2} ×"),
            aim: format!("≥ {aim:.1} ×"),
            is_met: ratio >= aim,
        });
    }

    /// Our times against an ideal; the aim is the most that we may take of it.
    pub(super) fn against_ideal(&mut self, what: &str, ours: &[Duration], ideal: f64, aim: f64) {
        let ratio = median(ours) / ideal;
        self.rows.push(Row {
            what: what.to_owned(),
            ours: spread(ours),
            theirs: format!("{ideal:.2} s"),
            result: format!("{ratio:.2}"),
            aim: format!("≤ {aim:.2}"),
            is_met: ratio <= aim,
        });
    }

    /// Peak memory in KiB against the most that it may be, in MiB.
    pub(super) fn memory(&mut self, what: &str, peak_kib: u64, aim_mib: u64) {
        self.rows.push(Row {
            what: format!("peak memory, {what}"),
            ours: format!("{} MiB", peak_kib.div_ceil(1024)),
            theirs: "–".to_owned(),
            result: format!("{} MiB", peak_kib.div_ceil(1024)),
            aim: format!("≤ {aim_mib} MiB"),
            is_met: peak_kib > 0 && peak_kib.div_ceil(1024) <= aim_mib,
        });
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "| what | ours | theirs, or ideal | result | aim | |")?;
        writeln!(out, "|---|---|---|---|---|---|")?;
        for Row {
            what,
            ours,
            theirs,
            result,
            aim,
            is_met,
        } in &self.rows
        {
            let verdict = if *is_met { "met" } else { "MISSED" };
            writeln!(
                out,
                "| {what} | {ours} | {theirs} | {result} | {aim} | {verdict} |"
            )?;
        }
        Ok(())
    }
}

/// The middle one in seconds.
fn median(times: &[Duration]) -> f64 {
    let mut times = times.to_vec();
    times.sort();
    times
        .get(times.len() / 2)
        .map_or(f64::NAN, Duration::as_secs_f64)
}

fn spread(times: &[Duration]) -> String {
    let seconds = |time: Option<&Duration>| time.map_or(f64::NAN, Duration::as_secs_f64);
    let (least, most) = (seconds(times.iter().min()), seconds(times.iter().max()));
    format!("{:.2} s ({least:.2} to {most:.2})", median(times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_as_fast_as_theirs_meets_an_aim_of_two_and_misses_one_of_three() {
        let seconds = |values: [u64; 3]| values.map(Duration::from_secs);
        let mut table = Table::default();
        table.compare("a", &seconds([1, 9, 2]), &seconds([4, 3, 80]), 2.0);
        table.compare("b", &seconds([1, 9, 2]), &seconds([4, 3, 80]), 3.0);
        let text = table.to_string();
        assert!(text.contains(
            "| a | 2.00 s (1.00 to 9.00) | 4.00 s (3.00 to 80.00) | 2.00 × | ≥ 2.0 × | met |"
        ));
        assert!(text.contains("| ≥ 3.0 × | MISSED |"));
    }
}
