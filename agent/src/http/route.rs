//! The table of what is answered on this host.

use http::Method;
use weft_runtime::http::Router;

/// The table.
pub(super) type Routes = Router<Route>;

/// One thing that can be asked of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    CheckDeregister,
    CheckFail,
    CheckPass,
    CheckRegister,
    CheckUpdate,
    CheckWarn,
    Checks,
    ConnectAuthorize,
    ConnectLeaf,
    ConnectRoots,
    Flows,
    ForceLeave,
    HealthById,
    HealthByName,
    Host,
    Join,
    Leave,
    Maintenance,
    Members,
    Metrics,
    MetricsStream,
    Monitor,
    Mtls,
    Proxies,
    Reload,
    SelfPage,
    Service,
    ServiceDeregister,
    ServiceMaintenance,
    ServiceRegister,
    Services,
    Tap,
    Token,
    Version,
}

/// Makes the table.
///
/// **Source**: Consul: api-docs/agent. Ids may hold slashes, so they are what is left of the
/// path.
pub(super) fn table() -> Routes {
    let get = |routes: Routes, path: &str, route| routes.route(Method::GET, path, route);
    let put = |routes: Routes, path: &str, route| routes.route(Method::PUT, path, route);
    let routes = Routes::new();
    let routes = get(routes, "/v1/agent/self", Route::SelfPage);
    let routes = get(routes, "/v1/agent/host", Route::Host);
    let routes = get(routes, "/v1/agent/version", Route::Version);
    let routes = get(routes, "/v1/agent/members", Route::Members);
    let routes = get(routes, "/v1/agent/metrics", Route::Metrics);
    let routes = get(routes, "/v1/agent/metrics/stream", Route::MetricsStream);
    let routes = get(routes, "/v1/agent/monitor", Route::Monitor);
    let routes = get(routes, "/v1/agent/mtls", Route::Mtls);
    let routes = get(routes, "/v1/agent/proxies", Route::Proxies);
    let routes = get(routes, "/v1/agent/flows", Route::Flows);
    let routes = get(routes, "/v1/agent/tap", Route::Tap);
    let routes = put(routes, "/v1/agent/join/{*address}", Route::Join);
    let routes = put(routes, "/v1/agent/force-leave/{*node}", Route::ForceLeave);
    let routes = put(routes, "/v1/agent/maintenance", Route::Maintenance);
    let routes = put(routes, "/v1/agent/token/{slot}", Route::Token);
    let routes = put(routes, "/v1/agent/leave", Route::Leave);
    let routes = put(routes, "/v1/agent/reload", Route::Reload);
    let routes = get(routes, "/v1/agent/services", Route::Services);
    let routes = get(routes, "/v1/agent/service/{*id}", Route::Service);
    let routes = put(routes, "/v1/agent/service/register", Route::ServiceRegister);
    let routes = put(routes, "/v1/agent/service/deregister/{*id}", Route::ServiceDeregister);
    let routes = put(routes, "/v1/agent/service/maintenance/{*id}", Route::ServiceMaintenance);
    let routes = get(routes, "/v1/agent/health/service/id/{*id}", Route::HealthById);
    let routes = get(routes, "/v1/agent/health/service/name/{*name}", Route::HealthByName);
    let routes = get(routes, "/v1/agent/checks", Route::Checks);
    let routes = put(routes, "/v1/agent/check/register", Route::CheckRegister);
    let routes = put(routes, "/v1/agent/check/deregister/{*id}", Route::CheckDeregister);
    let routes = put(routes, "/v1/agent/check/pass/{*id}", Route::CheckPass);
    let routes = put(routes, "/v1/agent/check/warn/{*id}", Route::CheckWarn);
    let routes = put(routes, "/v1/agent/check/fail/{*id}", Route::CheckFail);
    let routes = put(routes, "/v1/agent/check/update/{*id}", Route::CheckUpdate);
    let routes = get(routes, "/v1/agent/connect/ca/roots", Route::ConnectRoots);
    let routes = get(routes, "/v1/agent/connect/ca/leaf/{*service}", Route::ConnectLeaf);
    routes.route(Method::POST, "/v1/agent/connect/authorize", Route::ConnectAuthorize).route(
        Method::PUT,
        "/v1/agent/connect/authorize",
        Route::ConnectAuthorize,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_runtime::http::Found;

    #[test]
    fn ids_may_hold_slashes_and_fixed_words_win() {
        let routes = table();
        for (method, path, expected, id) in [
            (Method::GET, "/v1/agent/service/a/b", Route::Service, "a/b"),
            (Method::GET, "/v1/agent/service/a%2Fb", Route::Service, "a/b"),
            (Method::PUT, "/v1/agent/service/register", Route::ServiceRegister, ""),
            (Method::PUT, "/v1/agent/service/deregister/x:1", Route::ServiceDeregister, "x:1"),
            (Method::PUT, "/v1/agent/check/pass/service:web", Route::CheckPass, "service:web"),
        ] {
            let Found::Handler { handler, params, .. } = routes.find(&method, path) else {
                panic!("{path} was not found")
            };
            assert_eq!((*handler, params.get("id")), (expected, id), "{path}");
        }
        let wrong = routes.find(&Method::GET, "/v1/agent/service/register");
        assert_eq!(wrong, Found::WrongMethod { allow: "PUT".to_owned() });
    }
}
