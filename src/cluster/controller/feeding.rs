//! Feeding the caches of a controller: one watch for each kind of child.

use std::fmt::Debug;

use futures::channel::mpsc;
use futures::{FutureExt, TryStreamExt, future};
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::watcher::{self, Event};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::cluster::guard::Guarded;
use crate::cluster::index::{Child, OwnedIndex, OwnerKey};
use crate::cluster::scope::Scope;
use crate::cluster::watch::events::events;
use crate::cluster::watch::shared::Watches;
use crate::cluster::watch::{Filled, Shared, Trouble, feed, restarted};

/// Keeps one cache fed; ends with the controller.
pub struct Fed {
    pub(super) feeder: future::BoxFuture<'static, ()>,
    pub(super) filled: watch::Receiver<Filled>,
}

/// How caches of children are fed: objects that have a label, and the owners that their changes concern.
pub struct Feeding<C> {
    pub(super) client: kube::Client,
    pub(super) scope: Scope,
    pub(super) watches: Watches,
    pub(super) caches: Shared<C>,
    pub(super) triggers: mpsc::Sender<OwnerKey>,
    /// Plural of the owners.
    pub(super) of: &'static str,
}

impl<C: Send + 'static> Feeding<C> {
    /// Feeds the index of one kind of child from a watch of the objects that have `label`; `K` is the object as it is
    /// watched. One that cannot be read is a child of which only the metadata is known.
    pub fn watch<K, T>(&self, label: &str, pick: fn(&mut C) -> &mut OwnedIndex<T>) -> Fed
    where
        K: Watchable + Default,
        T: Child + From<K> + Send + Sync + 'static,
    {
        self.feed(label, pick, Guarded::<K>::or_bare)
    }

    /// The same for children of our own kinds, whose facts say so when the object cannot be read.
    pub fn watch_own<K, T>(&self, label: &str, pick: fn(&mut C) -> &mut OwnedIndex<T>) -> Fed
    where
        K: Watchable,
        T: Child + From<Guarded<K>> + Send + Sync + 'static,
    {
        self.feed(label, pick, |object: Guarded<K>| object)
    }

    fn feed<K, W, T>(&self, label: &str, pick: fn(&mut C) -> &mut OwnedIndex<T>, read: fn(Guarded<K>) -> W) -> Fed
    where
        K: Watchable,
        W: kube::Resource<DynamicType = ()> + Send + 'static,
        T: Child + From<W> + Send + Sync + 'static,
    {
        let (set, filled) = watch::channel(Filled::No);
        let (client, scope, watches) = (self.client.clone(), self.scope.clone(), self.watches.clone());
        let (caches, triggers) = (self.caches.clone(), self.triggers.clone());
        let selection = watcher::Config::default().labels(label);
        let of = format!("{} of {}", K::plural(&()), self.of);
        let feeder = async move {
            restarted(&of, &watches, || {
                let events = events(scope.api::<Guarded<K>>(&client), selection.clone(), watches.clone());
                let events = events.map_ok(move |event| map(event, read));
                let trouble = Trouble::of(of.clone(), watches.clone());
                feed(events, caches.clone(), pick, triggers.clone(), &set, trouble)
            })
            .await;
        };
        Fed { feeder: feeder.boxed(), filled }
    }
}

/// An object that can be watched.
pub trait Watchable:
    kube::Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug + Send + 'static
{
}

impl<K> Watchable for K where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + 'static
{
}

fn map<K, W>(event: Event<K>, read: fn(K) -> W) -> Event<W> {
    match event {
        Event::Apply(object) => Event::Apply(read(object)),
        Event::Delete(object) => Event::Delete(read(object)),
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(read(object)),
        Event::InitDone => Event::InitDone,
    }
}
