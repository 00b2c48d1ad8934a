//! Places for streams: so many in all, and so many of one caller.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::EventsConfig;
use crate::limits::CallerKey;

/// All places.
pub(super) struct Places {
    config: EventsConfig,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_caller: HashMap<CallerKey, usize>,
}

/// One of them, given back on drop.
pub(super) struct Place {
    places: Arc<Places>,
    caller: CallerKey,
}

impl Places {
    pub(super) fn new(config: EventsConfig) -> Arc<Self> {
        Arc::new(Self { config, taken: Mutex::default() })
    }

    /// A place, if there is one for this caller.
    pub(super) fn take(self: &Arc<Self>, caller: CallerKey) -> Option<Place> {
        let EventsConfig { streams_max, caller_streams_max } = self.config;
        let mut taken = self.lock();
        let own = taken.by_caller.get(&caller).copied().unwrap_or(0);
        if taken.all >= streams_max || (caller_streams_max > 0 && own >= caller_streams_max) {
            return None;
        }
        taken.all += 1;
        *taken.by_caller.entry(caller).or_default() += 1;
        Some(Place { places: Arc::clone(self), caller })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all -= 1;
        if let Entry::Occupied(mut own) = taken.by_caller.entry(self.caller) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}
