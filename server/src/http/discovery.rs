//! `/v1/discovery/prometheus`: every instance that the caller sees, as targets to scrape.
//!
//! Prometheus asks again and again instead of waiting; who waits by index is served as on every
//! other page.

use std::collections::BTreeSet;

use http::Response;
use weft_core::catalog::CheckStatus;
use weft_core::filter::SERVICE_INSTANCE;
use weft_core::index::Index;
use weft_core::name::ServiceName;
use weft_core::state::State;
use weft_core::watch::Topic;
use weft_proto::json::discovery::TargetGroup;
use weft_runtime::http::Body;

use super::error::ApiError;
use super::instances::has_tags;
use super::page::Page;
use super::request::{ApiRequest, has_meta, service_name};
use super::routes::Routes;
use super::{Context, page};

pub(super) fn routes(table: Routes) -> Routes {
    table.get("/v1/discovery/prometheus", |context, request| Box::pin(targets(context, request)))
}

/// `GET /v1/discovery/prometheus`
async fn targets(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let filter = request.query.filter(Some(&SERVICE_INSTANCE))?;
    let only_passing = request.query.passing()?;
    let node_meta = request.query.node_meta();
    let tags = request.query.values("tag").filter(|tag| !tag.is_empty());
    let tags: Vec<String> = tags.map(str::to_owned).collect();
    let port = request.query.value("port").filter(|name| !name.is_empty()).map(str::to_owned);
    let named = request.query.values("service").filter(|name| !name.is_empty());
    let named: Vec<ServiceName> = named.map(service_name).collect::<Result<_, _>>()?;
    let names = |state: &State| match named.is_empty() {
        false => (Index::default(), named.clone()),
        true => {
            let (index, tags) = state.services();
            (index, tags.into_keys().collect())
        }
    };
    let topics = |state: &State| {
        let (_, names) = names(state);
        let each = names.iter().map(Topic::service);
        let list = named.is_empty().then_some(Topic::ServiceList);
        list.into_iter().chain(each).collect::<BTreeSet<Topic>>()
    };
    let answer = |state: &State, rights: &crate::acl::Rights| {
        let (mut index, names) = names(state);
        let mut groups = Vec::new();
        for name in &names {
            let (changed, instances) = state.service_instances(name);
            index = index.max(changed);
            let wanted = instances.into_iter().filter(|instance| {
                rights.see_instance(instance)
                    && (!only_passing || instance.status() == CheckStatus::Passing)
                    && has_meta(&instance.node, &node_meta)
                    && has_tags(&instance.service, &tags)
                    && filter.as_ref().is_none_or(|filter| filter.matches_record(instance))
            });
            groups.extend(wanted.filter_map(|it| TargetGroup::of(&it, port.as_deref())));
        }
        Ok((index, Some(groups)))
    };
    Ok(page::read_page(context, request, Page { topics, answer }).await?.or_null(context))
}
