//! `syncd status`: what the daemon knows.

use program::Outcome;
use program::Output;

use super::place::Place;
use crate::view::status_lines;

pub(super) fn run(place: &Place, output: &Output) -> Outcome {
    let status = place.daemon()?.status()?;
    output.result(&status, |lines| {
        for line in status_lines(&status) {
            lines.line(line);
        }
    })
}
