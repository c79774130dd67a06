//! From the events of fetching and writing to those of the terminal.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use api::event::Amount;
use api::event::Event;
use bundle::write::WriteEvent;

use crate::fetch::Events;
use crate::fetch::FetchEvent;
use crate::output::Output;

/// Shows what a fetch does.
pub(super) fn of_fetch(output: &Arc<Output>) -> Events {
    let output = Arc::clone(output);
    let done = Mutex::new(Amount::default());
    Events::to(move |event| {
        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            FetchEvent::Resolved { .. } => return,
            FetchEvent::Planned { blobs, bytes, .. } => {
                let items = u64::try_from(blobs).unwrap_or(u64::MAX);
                let total = Some(Amount { items, bytes });
                let step = "fetch".to_owned();
                output.event(&Event::Started { step, total });
                return;
            }
            FetchEvent::Received { bytes, .. } => done.bytes = done.bytes.saturating_add(bytes),
            FetchEvent::Lost { bytes, .. } => done.bytes = done.bytes.saturating_sub(bytes),
            FetchEvent::Done { .. } => done.items += 1,
        }
        let step = "fetch".to_owned();
        output.event(&Event::Progress { step, done: *done });
    })
}

/// Shows how far the writer is.
pub(super) fn of_write(output: &Output) -> impl Fn(WriteEvent) {
    let started = std::cell::Cell::new(false);
    move |event| {
        let WriteEvent::Progress {
            plain_bytes,
            plain_bytes_total,
        } = event;
        // The writer counts bytes alone.
        let amount = |bytes| Amount { items: 0, bytes };
        if !started.replace(true) {
            let total = Some(amount(plain_bytes_total));
            let step = "write".to_owned();
            output.event(&Event::Started { step, total });
        }
        let step = "write".to_owned();
        let done = amount(plain_bytes);
        output.event(&Event::Progress { step, done });
    }
}
