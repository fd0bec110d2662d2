//! The shadow's data: loaded behind a gate that serves already, and kept current like the live ones.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing::Instrument;

use super::data::Requests;
use crate::drain::DrainWatch;
use crate::ops::shadow::{ShadowSettings, Stores};
use crate::policy::SharedView;
use crate::policy::shadow::{Part, Shadow, ShadowCounters};
use crate::ranges;
use crate::registry::reload::ReloadRequest;
use crate::registry::{self, Shrink};

/// The stores of what is the shadow's own; nothing is read yet.
pub fn stores(settings: Option<&ShadowSettings>) -> Stores {
    let Some(settings) = settings else { return Stores::default() };
    Stores {
        registry: settings.registry.clone().map(|own| Arc::new(registry::Store::new(own))),
        ranges: settings.ranges.clone().map(|own| Arc::new(ranges::Store::new(own))),
        counters: Some(Arc::new(ShadowCounters::default())),
    }
}

/// The shadow before its data are loaded.
pub fn first(settings: Option<&ShadowSettings>, stores: &Stores) -> Option<Arc<Shadow>> {
    let (settings, counters) = (settings?, stores.counters.clone()?);
    Some(Arc::new(Shadow {
        rules: Arc::new(settings.rules.clone()),
        registry: if settings.registry.is_some() { Part::Waiting } else { Part::Live },
        ranges: if settings.ranges.is_some() { Part::Waiting } else { Part::Live },
        counters,
    }))
}

/// Loads the shadow's data, publishes them beside the live ones, and keeps them current until the drain.
pub fn keep(
    stores: &Stores,
    tasks: &mut JoinSet<()>,
    view: &SharedView,
    (registry_asked, ranges_asked): (Requests, Requests),
    drain: &DrainWatch,
) {
    let change = |view: &SharedView, change: &dyn Fn(&mut Shadow)| {
        view.update(|view| {
            if let Some(shadow) = &view.shadow {
                let mut next = Shadow::clone(shadow);
                change(&mut next);
                view.shadow = Some(Arc::new(next));
            }
        });
    };
    // The log tells them from the live ones.
    let span = || tracing::info_span!("shadow");
    if let Some(store) = stores.registry.clone() {
        load(&registry_asked);
        let view = view.clone();
        let publish = move |snapshot| change(&view, &|shadow| shadow.registry = Part::Own(Arc::clone(&snapshot)));
        tasks.spawn(registry::reload::run(store, publish, registry_asked.receiver, drain.clone()).instrument(span()));
    }
    if let Some(store) = stores.ranges.clone() {
        load(&ranges_asked);
        let view = view.clone();
        let publish = move |ranges| change(&view, &|shadow| shadow.ranges = Part::Own(Arc::clone(&ranges)));
        tasks.spawn(ranges::reload::run(store, publish, ranges_asked.receiver, drain.clone()).instrument(span()));
    }
}

/// Asks for a load.
fn load(requests: &Requests) {
    let (answer, _) = oneshot::channel();
    // The queue of a gate that begins has room.
    let _ = requests.sender.try_send(ReloadRequest { shrink: Shrink::Refuse, answer });
}
