//! From the events of fetching and writing, which run side by side, to the steps of the terminal, one after the other.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Instant;

use api::event::Amount;
use api::event::Event;
use bundle::write::WriteEvent;

use super::show;
use crate::fetch::Events;
use crate::fetch::FetchEvent;
use crate::output::Output;

/// Shows the fetch until it is over, and then the writing.
#[derive(Debug)]
pub(super) struct Progress {
    output: Arc<Output>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    images: usize,
    begun: Instant,
    planned: Amount,
    present: Amount,
    done: Amount,
    is_fetched: bool,
    is_writing_shown: bool,
}

impl Progress {
    pub(super) fn new(output: &Arc<Output>) -> Arc<Self> {
        let state = State {
            images: 0,
            begun: Instant::now(),
            planned: Amount::default(),
            present: Amount::default(),
            done: Amount::default(),
            is_fetched: false,
            is_writing_shown: false,
        };
        Arc::new(Self {
            output: Arc::clone(output),
            state: Mutex::new(state),
        })
    }

    /// Takes what a fetcher tells.
    pub(super) fn of_fetch(self: &Arc<Self>) -> Events {
        let progress = Arc::clone(self);
        Events::to(move |event| progress.fetch(&event))
    }

    fn fetch(&self, event: &FetchEvent) {
        let step = || "fetch".to_owned();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            FetchEvent::Resolved { .. } => {
                state.images += 1;
                return;
            }
            FetchEvent::Planned {
                blobs,
                bytes,
                blobs_present,
                bytes_present,
            } => {
                state.begun = Instant::now();
                state.planned = amount(*blobs, *bytes);
                state.present = amount(*blobs_present, *bytes_present);
                let (step, total) = (step(), Some(state.planned));
                self.output.event(&Event::Started { step, total });
                return;
            }
            FetchEvent::Received { bytes, .. } => {
                state.done.bytes = state.done.bytes.saturating_add(*bytes);
            }
            FetchEvent::Lost { bytes, .. } => {
                state.done.bytes = state.done.bytes.saturating_sub(*bytes);
            }
            FetchEvent::Done { .. } => state.done.items += 1,
            FetchEvent::Finished => {
                state.is_fetched = true;
                let took = state.begun.elapsed();
                self.output.event(&Event::Done {
                    step: step(),
                    summary: show::fetched(state.images, state.planned, state.present, took),
                    elapsed_ms: show::milliseconds(state.begun),
                });
                return;
            }
        }
        let (step, done) = (step(), state.done);
        self.output.event(&Event::Progress { step, done });
    }

    /// Takes what a writer tells.
    pub(super) fn write(&self, event: WriteEvent) {
        let WriteEvent::Progress {
            plain_bytes,
            plain_bytes_total,
        } = event;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.is_fetched {
            return;
        }
        let step = || "write".to_owned();
        if !std::mem::replace(&mut state.is_writing_shown, true) {
            let total = Some(amount(0, plain_bytes_total));
            self.output.event(&Event::Started {
                step: step(),
                total,
            });
        }
        let done = amount(0, plain_bytes);
        self.output.event(&Event::Progress { step: step(), done });
    }
}

fn amount(items: usize, bytes: u64) -> Amount {
    Amount {
        items: u64::try_from(items).unwrap_or(u64::MAX),
        bytes,
    }
}
