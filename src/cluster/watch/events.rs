//! The events of a watch: lists that need little memory, and no object that could break the watch.
//!
//! An initial list comes as a stream of events where the apiserver has that (`sendInitialEvents`, on by default in Kubernetes
//! 1.34 and later, off in 1.33: <https://kubernetes.io/docs/reference/using-api/api-concepts/#streaming-lists>), so that one
//! object at a time is held as text. kube's watcher goes on asking an apiserver that refuses; here the list is then asked for
//! in small pages, for as long as the watch lives.

use std::fmt::Debug;
use std::future::ready;
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use kube::Resource;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Error, Event, watcher};
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::shared::Watches;
use crate::cluster::guard::Guarded;

/// Objects of a page. A page is held twice, as bytes and as text, before its objects are read: with objects of 1.5 MB, and
/// [`Watches`]' lists at a time, that is 60 MB.
const PAGE: u32 = 5;
/// Without anything for so long, a streamed list is given up, and asked for in pages: a proxy may hold streams back.
const LONGEST_SILENCE: Duration = Duration::from_secs(30);

type Events<K> = BoxStream<'static, watcher::Result<Event<Guarded<K>>>>;

/// The events of the selected objects of a kind, for ever. An error is one of the stream, never of an object, and is followed
/// by a pause that grows from one error to the next and begins anew with the next event.
pub fn events<K>(
    api: Api<Guarded<K>>,
    selection: Config,
    watches: Watches,
) -> impl Stream<Item = watcher::Result<Event<Guarded<K>>>> + Send
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let sieve = watches.clone();
    let listing = Listing { api, selection, watches, list: None, is_listing: true, streams: true, events: None };
    stream::unfold(listing, Listing::next)
        .filter_map(move |event| ready(readable(event, &sieve)))
        // After the filter: what is wrong with an object must not delay the next one.
        .default_backoff()
}

/// Leaves out what cannot belong to any object, and counts what cannot be read.
fn readable<K: Resource<DynamicType = ()>>(
    event: watcher::Result<Event<Guarded<K>>>,
    watches: &Watches,
) -> Option<watcher::Result<Event<Guarded<K>>>> {
    match &event {
        // The stream goes on after it.
        Err(error) if is_of_one_line(error) => {
            watches.nameless::<K>();
            return None;
        }
        Ok(Event::InitApply(object) | Event::Apply(object) | Event::Delete(object)) => {
            // kube's store panics on an object without a name.
            if object.meta().name.as_deref().unwrap_or_default().is_empty() {
                watches.nameless::<K>();
                return None;
            }
            if object.0.is_err() && !matches!(event, Ok(Event::Delete(_))) {
                watches.unreadable(object);
            }
        }
        Ok(Event::Init | Event::InitDone) | Err(_) => {}
    }
    Some(event)
}

/// A watch, and how it lists.
struct Listing<K> {
    api: Api<Guarded<K>>,
    selection: Config,
    watches: Watches,
    /// Held while a list comes in.
    list: Option<OwnedSemaphorePermit>,
    /// Whether a list is asked for or comes in.
    is_listing: bool,
    /// Whether lists are streamed.
    streams: bool,
    events: Option<Events<K>>,
}

impl<K> Listing<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    async fn next(mut self) -> Option<(watcher::Result<Event<Guarded<K>>>, Self)> {
        loop {
            let (api, selection, streams) = (&self.api, &self.selection, self.streams);
            let events = self.events.get_or_insert_with(|| begin(api, selection, streams));
            let next = events.next();
            let event = if self.is_listing && self.streams {
                match timeout(LONGEST_SILENCE, next).await {
                    Ok(event) => event?,
                    Err(_) => {
                        self.list_in_pages(&format!("nothing has come for {LONGEST_SILENCE:?}"));
                        continue;
                    }
                }
            } else {
                next.await?
            };
            match &event {
                Err(Error::WatchStartFailed(kube::Error::Api(status))) if self.streams && refuses(status.code) => {
                    self.list_in_pages("the apiserver does not serve them");
                    continue;
                }
                // Nothing of the list is in memory yet.
                Ok(Event::Init) => {
                    (self.list, self.is_listing) = (None, true);
                    self.list = self.watches.place_for_list().await;
                }
                Ok(Event::InitDone) => (self.list, self.is_listing) = (None, false),
                Err(error) if !is_of_one_line(error) => self.list = None,
                Ok(Event::InitApply(_) | Event::Apply(_) | Event::Delete(_)) | Err(_) => {}
            }
            return Some((event, self));
        }
    }

    fn list_in_pages(&mut self, why: &str) {
        tracing::info!("{} are listed in pages rather than streamed: {why}", K::plural(&()));
        (self.streams, self.list, self.events) = (false, None, None);
    }
}

fn begin<K>(api: &Api<Guarded<K>>, selection: &Config, streams: bool) -> Events<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let selection = selection.clone();
    let selection = if streams { selection.streaming_lists() } else { selection.page_size(PAGE) };
    watcher(api.clone(), selection).boxed()
}

/// Whether an apiserver answers so that lacks streamed lists: 422 where the feature is off, 400 where the parameter is unknown.
fn refuses(code: u16) -> bool {
    matches!(code, 400 | 422)
}

/// Whether a line of the stream is no event. kube takes any JSON object for a Status then, of which nothing is set.
fn is_of_one_line(error: &Error) -> bool {
    match error {
        Error::WatchFailed(kube::Error::SerdeError(_)) => true,
        Error::WatchFailed(kube::Error::Api(status)) => status.code == 0,
        _ => false,
    }
}
