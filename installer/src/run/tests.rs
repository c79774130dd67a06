//! Runs that are killed everywhere: at every record of the journal, and at every byte of it.

use std::cell::Cell;
use std::fs;

use super::*;

/// A step on a machine that is a row of cells: it may fail before it acts, or after.
struct Fake<'a> {
    id: &'static str,
    made: &'a Cell<u32>,
    fails: &'a Cell<Fail>,
}

#[derive(Clone, Copy, PartialEq)]
enum Fail {
    Never,
    Before(&'static str),
    After(&'static str),
}

#[derive(Debug, thiserror::Error)]
#[error("killed")]
struct Killed;

impl Fault for Killed {
    fn code(&self) -> &'static str {
        "KILLED"
    }

    fn blame(&self) -> Blame {
        Blame::Machine
    }
}

impl Step for Fake<'_> {
    fn id(&self) -> &'static str {
        self.id
    }

    fn input(&self) -> Digest {
        Digest::of(self.id.as_bytes())
    }

    fn probe(&self, _past: &Journal) -> Outcome<Option<String>> {
        Ok((self.made.get() == 1).then(|| "made".to_owned()))
    }

    fn apply(&self, _work: &mut Work<'_>) -> Outcome {
        if self.fails.get() == Fail::Before(self.id) {
            return Err(Killed.into());
        }
        self.made.set(self.made.get() + 1);
        if self.fails.get() == Fail::After(self.id) {
            return Err(Killed.into());
        }
        Ok(())
    }
}

const IDS: [&str; 3] = ["store", "syncd", "control-plane"];

struct Site {
    folder: tempfile::TempDir,
    cells: [Cell<u32>; 3],
    fails: Cell<Fail>,
}

impl Site {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            cells: Default::default(),
            fails: Cell::new(Fail::Never),
        }
    }

    fn journal(&self) -> Journal {
        Journal::open(&self.folder.path().join("node/install.journal"), "install").unwrap()
    }

    fn run(&self) -> Outcome<Done> {
        let steps: Vec<Box<dyn Step + '_>> = IDS
            .into_iter()
            .zip(&self.cells)
            .map(|(id, made)| {
                let step: Box<dyn Step + '_> = Box::new(Fake {
                    id,
                    made,
                    fails: &self.fails,
                });
                step
            })
            .collect();
        apply(&steps, &mut self.journal(), &Output::for_process(true))
    }

    fn made(&self) -> [u32; 3] {
        self.cells.each_ref().map(Cell::get)
    }
}

#[test]
fn a_run_that_is_killed_before_or_after_any_act_is_finished_by_the_next_and_nothing_is_made_twice()
{
    for id in IDS {
        for fail in [Fail::Before(id), Fail::After(id)] {
            let site = Site::new();
            site.fails.set(fail);
            assert_eq!(site.run().unwrap_err().fault().code(), "KILLED");
            assert_eq!(site.journal().stopped().unwrap().step.as_deref(), Some(id));
            site.fails.set(Fail::Never);
            site.run().unwrap();
            assert_eq!(site.made(), [1, 1, 1]);
            assert_eq!(site.journal().stopped(), None);
        }
    }
}

#[test]
fn a_run_with_nothing_to_do_writes_nothing() {
    let site = Site::new();
    assert_eq!(
        site.run().unwrap(),
        Done {
            applied: 3,
            found: 0
        }
    );
    let path = site.folder.path().join("node/install.journal");
    let before = fs::read(&path).unwrap();
    assert_eq!(
        site.run().unwrap(),
        Done {
            applied: 0,
            found: 3
        }
    );
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_failure_in_a_run_never_says_that_nothing_was_changed() {
    let site = Site::new();
    site.fails.set(Fail::Before("syncd"));
    assert_eq!(site.run().unwrap_err().effect(), api::Effect::Some);
}

#[test]
fn a_journal_that_is_cut_at_any_byte_is_a_beginning_of_itself_and_goes_on() {
    let site = Site::new();
    site.run().unwrap();
    let path = site.folder.path().join("node/install.journal");
    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let mut journal = site.journal();
        let lines = whole[..cut].split(|byte| *byte == b'\n').count() - 1;
        journal.write(&Record::note("syncd", "known")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), lines + 2, "cut at {cut}");
        assert!(site.journal().has_note("syncd", "known"), "cut at {cut}");
    }
}

#[test]
fn what_was_noted_before_a_step_was_undone_counts_no_more() {
    let site = Site::new();
    let mut journal = site.journal();
    let input = Digest::of(b"input");
    journal
        .write(&Record::started("control-plane", input))
        .unwrap();
    journal
        .write(&Record::note("control-plane", "api-ready"))
        .unwrap();
    assert!(journal.has_note("control-plane", "api-ready"));
    journal
        .write(&Record::note("control-plane", journal::UNDONE))
        .unwrap();
    assert!(!site.journal().has_note("control-plane", "api-ready"));
}

#[test]
fn a_damaged_line_is_named() {
    let site = Site::new();
    site.run().unwrap();
    let path = site.folder.path().join("node/install.journal");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("started", "stxrted", 1)).unwrap();
    let error = Journal::open(&path, "install").unwrap_err();
    assert_eq!(error.code(), "JOURNAL_DAMAGED");
    assert!(error.to_string().contains("line 2"), "{error}");
}
