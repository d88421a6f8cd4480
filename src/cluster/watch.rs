//! Feeding caches from watches.

use std::sync::{Arc, Mutex, PoisonError};

use futures::channel::mpsc;
use futures::{SinkExt, Stream, StreamExt};
use kube::runtime::watcher::{self, Event};
use kube::{Resource, ResourceExt};
use tokio::sync::watch as flag;

use super::index::{Child, OwnedIndex, OwnerKey};

/// Owners that have to be looked at again, on their way to the queue. The queue takes them as fast as they come and
/// keeps each once, so this only smooths bursts.
pub const TRIGGER_BUFFER: usize = 1024;

/// A cache behind a lock: `pick` finds the index of one kind in it.
pub type Shared<C> = Arc<Mutex<C>>;

/// Keeps the index of one kind of child current from its watch.
///
/// Every change is announced as the owner it concerns. `synced` turns true with the first complete list. Ends only when
/// nobody listens to `triggers` any more: a watch that breaks is logged, and starts again by itself.
pub async fn feed<K, T, C>(
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    caches: Shared<C>,
    pick: fn(&mut C) -> &mut OwnedIndex<T>,
    mut triggers: mpsc::Sender<OwnerKey>,
    synced: flag::Sender<bool>,
) where
    K: Resource,
    T: Child + From<K>,
{
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!("a watch broke and is started again: {error}");
                continue;
            }
        };
        let complete = matches!(event, Event::InitDone);
        let concerned = {
            let mut caches = caches.lock().unwrap_or_else(PoisonError::into_inner);
            take_in(pick(&mut caches), event)
        };
        if complete {
            synced.send_replace(true);
        }
        for key in concerned {
            if triggers.send(key).await.is_err() {
                return;
            }
        }
    }
}

fn take_in<K: Resource, T: Child + From<K>>(index: &mut OwnedIndex<T>, event: Event<K>) -> Vec<OwnerKey> {
    match event {
        Event::Init => {
            index.begin_relist();
            Vec::new()
        }
        Event::InitApply(object) | Event::Apply(object) => index.apply(T::from(object)),
        Event::InitDone => index.finish_relist(),
        Event::Delete(object) => {
            index.delete(&object.namespace().unwrap_or_default(), &object.name_any()).into_iter().collect()
        }
    }
}
