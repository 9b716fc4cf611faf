//! What a route does with a request, as people read it: by the names of its entry.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::RouteAction;
use crate::config_entry::HeaderChanges;
use crate::time::Span;

impl RouteAction {
    /// Returns what it does, by the names of fields of a `Destination`; what says nothing is left out.
    pub fn shown(&self) -> Map<String, Value> {
        let mut shown = Map::new();
        put(&mut shown, "PrefixRewrite", self.prefix_rewrite.as_ref());
        put(&mut shown, "PathRewrite", self.path_rewrite.as_ref());
        put(&mut shown, "HostRewrite", self.host_rewrite.as_ref());
        put(&mut shown, "Redirect", self.redirect.as_ref());
        put(&mut shown, "Response", self.response.as_ref());
        put(&mut shown, "Fault", self.fault.as_ref());
        put(&mut shown, "Mirror", self.mirror.as_ref());
        let text = |limit: Option<Duration>| limit.map(|limit| Span(limit).to_string());
        put(&mut shown, "RequestTimeout", text(self.request_timeout).as_ref());
        put(&mut shown, "IdleTimeout", text(self.idle_timeout).as_ref());
        put(&mut shown, "PerTryTimeout", text(self.per_try_timeout).as_ref());
        for (name, changes) in
            [("RequestHeaders", &self.request_headers), ("ResponseHeaders", &self.response_headers)]
        {
            let changes = Some(changes).filter(|it| **it != HeaderChanges::default());
            put(&mut shown, name, changes);
        }
        if let Ok(Value::Object(retries)) = serde_json::to_value(&self.retries) {
            // Its fields stand beside the others, as in the entry.
            shown.extend(retries);
        }
        shown
    }
}

fn put<T: Serialize>(shown: &mut Map<String, Value>, name: &str, field: Option<&T>) {
    // Fields of an entry have text keys alone, so this cannot fail.
    if let Some(Ok(value)) = field.map(serde_json::to_value) {
        shown.insert(name.to_owned(), value);
    }
}
