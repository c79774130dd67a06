//! What time brings: silence is noticed, retries come due, full passes are made.

use store::Fs;
use tokio::time::Instant;

use super::Engine;
use crate::env::Net;

impl<F: Fs, N: Net> Engine<F, N> {
    pub(super) fn tick(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        self.notice_silence();
        self.judge_patience();
        self.resume_due();
        self.close_stuck();
        for source in 0..self.peers.len() {
            self.want_records(source);
        }
        if self.full_pass_at <= Instant::now() {
            self.full_pass();
        }
        if let Some(depth) = self.scan_next.take_if(|_depth| !self.scanning) {
            self.scan(depth);
        }
    }

    /// Marks requests from which nothing has come for a while, so that others may be asked.
    fn notice_silence(&mut self) {
        let uptime = self.node.uptime();
        let patience = self.settings.timing.patience;
        for flight in self.flights.values() {
            if flight.pulse.silence(uptime) > patience {
                self.board.mark_late(flight.request);
            }
        }
    }

    /// Stops waiting for what others were to bring when they bring nothing.
    fn judge_patience(&mut self) {
        if !self.flights.is_empty() && !self.board.impatient {
            self.news_at = Instant::now();
        }
        self.board.impatient = self.news_at.elapsed() > self.settings.timing.patience;
    }

    /// A peer has something new that is wanted here: others do bring.
    pub(super) fn note_news(&mut self) {
        self.news_at = Instant::now();
        self.board.impatient = false;
    }
}
