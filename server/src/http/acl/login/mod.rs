//! `/v1/acl/auth-method…`, `/v1/acl/binding-rule…`, `/v1/acl/templated-polic…`: who may log in,
//! and what it grants.
//!
//! **Source**: Consul: api-docs/acl/auth-methods, api-docs/acl/binding-rules,
//! api-docs/acl/templated-policies.

mod binding_rule;
mod method;
mod session;
mod template;

use super::{enabled, show, token};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::request::ApiRequest;
use crate::http::routes::Routes;

pub(super) fn routes(table: Routes) -> Routes {
    session::routes(template::routes(binding_rule::routes(method::routes(table))))
}
