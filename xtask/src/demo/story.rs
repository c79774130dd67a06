//! How the demo tells what it does: numbered chapters, facts below them, times at the end.

use std::time::Instant;

use crate::say;

/// A story that is being told.
#[derive(Debug)]
pub(super) struct Story {
    began: Instant,
    chapter: usize,
}

impl Story {
    pub(super) fn begin(title: &str) -> Self {
        say!("\n{title}");
        Self {
            began: Instant::now(),
            chapter: 0,
        }
    }

    /// Begins the next chapter.
    pub(super) fn chapter(&mut self, title: &str) {
        self.chapter += 1;
        let seconds = self.began.elapsed().as_secs_f64();
        say!(
            "\n{}. {title}{:>w$}",
            self.chapter,
            format!("[{seconds:.1} s]"),
            w = 78_usize.saturating_sub(title.chars().count())
        );
    }

    /// Tells what somebody typed.
    #[expect(clippy::unused_self, reason = "a line belongs to its story")]
    pub(super) fn command(&self, line: &str) {
        say!("   $ {line}");
    }

    /// Tells facts, a line each; what a program printed goes through here unchanged.
    #[expect(clippy::unused_self, reason = "a line belongs to its story")]
    pub(super) fn fact(&self, text: &str) {
        for line in text.trim_end().lines() {
            say!("   {line}");
        }
    }

    /// Ends the story.
    pub(super) fn end(&self, moral: &str) {
        say!(
            "\n{moral}\nThe whole story took {:.0} s.",
            self.began.elapsed().as_secs_f64()
        );
    }
}

/// Bytes as people read them.
pub(super) fn megabytes(bytes: u64) -> String {
    let tenths = bytes / 100_000;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}
