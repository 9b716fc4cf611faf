//! One row for each route: how it is called, and which right it needs.

use ::http::{Method, StatusCode};

/// The token that rows read, change and remove.
pub(super) const ACCESSOR: &str = "aaaaaaaa-0000-0000-0000-000000000001";

/// One route.
pub(super) struct Row {
    pub(super) method: Method,
    /// As in the router.
    pub(super) pattern: &'static str,
    /// As it is called, with its query.
    pub(super) path: &'static str,
    pub(super) body: &'static str,
    pub(super) needs: Needs,
    /// The answer to who has the right; `None` for anything but a refusal, where it depends on
    /// what was written before.
    pub(super) status: Option<StatusCode>,
}

/// What a route needs.
#[derive(Clone, Copy)]
pub(super) enum Needs {
    /// A token that is known, or none: everybody gets the same status.
    Nothing,
    /// These rules; 403 without.
    Right(&'static str),
    /// These rules to have `needle` in the answer, which is there either way.
    Shows { rules: &'static str, needle: &'static str },
}

impl Needs {
    pub(super) fn rules(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Right(rules) | Self::Shows { rules, .. } => rules,
        }
    }
}

impl Row {
    fn new(
        method: Method,
        (pattern, path): (&'static str, &'static str),
        body: &'static str,
        needs: Needs,
    ) -> Self {
        Self { method, pattern, path, body, needs, status: Some(StatusCode::OK) }
    }

    fn status(self, status: StatusCode) -> Self {
        Self { status: Some(status), ..self }
    }

    fn not_refused(self) -> Self {
        Self { status: None, ..self }
    }
}

fn get(paths: (&'static str, &'static str), needs: Needs) -> Row {
    Row::new(Method::GET, paths, "", needs)
}

fn put(paths: (&'static str, &'static str), body: &'static str, needs: Needs) -> Row {
    Row::new(Method::PUT, paths, body, needs)
}

fn delete(paths: (&'static str, &'static str), needs: Needs) -> Row {
    Row::new(Method::DELETE, paths, "", needs)
}

fn post(paths: (&'static str, &'static str), body: &'static str, needs: Needs) -> Row {
    Row::new(Method::POST, paths, body, needs)
}

fn same(path: &'static str) -> (&'static str, &'static str) {
    (path, path)
}

fn shows(rules: &'static str, needle: &'static str) -> Needs {
    Needs::Shows { rules, needle }
}

const ACL_READ: Needs = Needs::Right("acl = \"read\"");
const ACL_WRITE: Needs = Needs::Right("acl = \"write\"");
const SEE_WEB: &str = "service \"web\" { policy = \"read\" }\nnode \"n1\" { policy = \"read\" }";
const SEE_INTENTIONS: &str = "service \"web\" {\n policy = \"deny\"\n intentions = \"read\"\n}";
const WRITE_INTENTIONS: &str = "service \"web\" {\n policy = \"deny\"\n intentions = \"write\"\n}";
const READ_WEB: Needs = Needs::Right("service \"web\" { policy = \"read\" }");
const WRITE_WEB: Needs = Needs::Right("service \"web\" { policy = \"write\" }");

/// Every row.
pub(super) fn rows() -> Vec<Row> {
    let pages = [
        acl(),
        logins(),
        catalog(),
        config(),
        connect(),
        health(),
        kv(),
        operator(),
        others(),
        queries(),
        sessions(),
        ui(),
    ];
    pages.into_iter().flatten().collect()
}

fn acl() -> Vec<Row> {
    const TOKEN: (&str, &str) =
        ("/v1/acl/token/{accessor}", "/v1/acl/token/aaaaaaaa-0000-0000-0000-000000000001");
    const CLONE: (&str, &str) = (
        "/v1/acl/token/{accessor}/clone",
        "/v1/acl/token/aaaaaaaa-0000-0000-0000-000000000001/clone",
    );
    const ID: &str = "bbbbbbbb-0000-0000-0000-000000000001";
    const POLICY: (&str, &str) =
        ("/v1/acl/policy/{id}", "/v1/acl/policy/bbbbbbbb-0000-0000-0000-000000000001");
    const ROLE: (&str, &str) =
        ("/v1/acl/role/{id}", "/v1/acl/role/bbbbbbbb-0000-0000-0000-000000000001");
    const BUILTIN: (&str, &str) =
        ("/v1/acl/policy/{id}", "/v1/acl/policy/00000000-0000-0000-0000-000000000001");
    debug_assert!(POLICY.1.ends_with(ID) && ROLE.1.ends_with(ID));
    let missing = StatusCode::NOT_FOUND;
    let refused = StatusCode::BAD_REQUEST;
    vec![
        put(same("/v1/acl/bootstrap"), "", Needs::Nothing).status(StatusCode::FORBIDDEN),
        get(same("/v1/acl/policies"), ACL_READ),
        // The name is taken the second time: the right is asked first.
        put(same("/v1/acl/policy"), r#"{"Name":"global-management"}"#, ACL_WRITE).status(refused),
        get(BUILTIN, ACL_READ),
        put(POLICY, r#"{"Name":"row"}"#, ACL_WRITE).status(missing),
        delete(POLICY, ACL_WRITE),
        get(
            ("/v1/acl/policy/name/{*name}", "/v1/acl/policy/name/builtin/global-read-only"),
            ACL_READ,
        ),
        get(same("/v1/acl/replication"), Needs::Nothing),
        put(same("/v1/acl/role"), r#"{"Name":"r","Roles":[{"Name":"x"}]}"#, ACL_WRITE)
            .status(refused),
        get(ROLE, ACL_READ).status(missing),
        put(ROLE, r#"{"Name":"row"}"#, ACL_WRITE).status(missing),
        delete(ROLE, ACL_WRITE),
        get(("/v1/acl/role/name/{name}", "/v1/acl/role/name/none"), ACL_READ).status(missing),
        get(same("/v1/acl/roles"), ACL_READ),
        put(same("/v1/acl/token"), r#"{"Description":"row"}"#, ACL_WRITE),
        get(same("/v1/acl/token/self"), Needs::Nothing),
        get(TOKEN, ACL_READ),
        put(TOKEN, r#"{"Description":"row"}"#, ACL_WRITE),
        delete(TOKEN, ACL_WRITE),
        put(CLONE, "", ACL_WRITE),
        get(same("/v1/acl/tokens"), ACL_READ),
        post(same("/v1/internal/acl/authorize"), "[]", Needs::Nothing),
    ]
}

fn catalog() -> Vec<Row> {
    const REGISTER: &str = r#"{"Node":"n1","Address":"10.0.0.1",
        "Service":{"ID":"web-2","Service":"web","Port":81}}"#;
    vec![
        get(("/v1/catalog/connect/{service}", "/v1/catalog/connect/web"), Needs::Nothing),
        get(same("/v1/catalog/datacenters"), Needs::Nothing),
        put(
            same("/v1/catalog/deregister"),
            r#"{"Node":"n1","ServiceID":"web-1"}"#,
            WRITE_WEB_ALONE,
        ),
        get(("/v1/catalog/node/{node}", "/v1/catalog/node/n1"), shows(SEE_WEB, "10.0.0.1")),
        get(
            ("/v1/catalog/node-services/{node}", "/v1/catalog/node-services/n1"),
            shows(SEE_WEB, "web-1"),
        ),
        get(same("/v1/catalog/nodes"), shows("node \"n1\" { policy = \"read\" }", "n1")),
        get(
            ("/v1/catalog/gateway-services/{gateway}", "/v1/catalog/gateway-services/web"),
            READ_WEB,
        ),
        put(same("/v1/catalog/register"), REGISTER, WRITE_WEB),
        get(("/v1/catalog/service/{service}", "/v1/catalog/service/web"), shows(SEE_WEB, "web-1")),
        get(same("/v1/catalog/services"), shows("service \"web\" { policy = \"read\" }", "web")),
        get(
            ("/v1/internal/service-owners/{address}", "/v1/internal/service-owners/10.0.0.1"),
            Needs::Nothing,
        ),
    ]
}

/// Who may write the node may remove what is on it, so that both must be missing.
const WRITE_WEB_ALONE: Needs =
    Needs::Right("service \"web\" { policy = \"write\" }\nnode \"n1\" { policy = \"read\" }");

fn config() -> Vec<Row> {
    const WEB: (&str, &str) = ("/v1/config/{kind}/{name}", "/v1/config/service-defaults/web");
    const ENTRY: &str = r#"{"Kind":"service-defaults","Name":"web","Protocol":"tcp"}"#;
    vec![
        put(same("/v1/config"), ENTRY, WRITE_WEB),
        get(
            ("/v1/config/{kind}", "/v1/config/service-defaults"),
            shows("service \"web\" { policy = \"read\" }", "web"),
        ),
        get(WEB, READ_WEB),
        delete(WEB, WRITE_WEB),
    ]
}

fn connect() -> Vec<Row> {
    const EXACT: (&str, &str) =
        ("/v1/connect/intentions/exact", "/v1/connect/intentions/exact?source=api&destination=web");
    const ONE: (&str, &str) = (
        "/v1/connect/intentions/{id}",
        "/v1/connect/intentions/cccccccc-0000-0000-0000-000000000001",
    );
    const INTENTION: &str = r#"{"SourceName":"row","DestinationName":"web","Action":"deny"}"#;
    const CA: &str = r#"{"Provider":"consul","Config":{"LeafCertTTL":"24h"}}"#;
    vec![
        get(same("/v1/connect/ca/roots"), Needs::Nothing),
        get(same("/v1/connect/intentions"), shows(SEE_INTENTIONS, "\"web\"")),
        get(
            (
                "/v1/connect/intentions/check",
                "/v1/connect/intentions/check?source=api&destination=web",
            ),
            READ_WEB,
        ),
        get(EXACT, Needs::Right(SEE_INTENTIONS)),
        put(EXACT, r#"{"Action":"deny"}"#, Needs::Right(WRITE_INTENTIONS)),
        delete(EXACT, Needs::Right(WRITE_INTENTIONS)),
        get(
            (
                "/v1/connect/intentions/match",
                "/v1/connect/intentions/match?by=destination&name=web",
            ),
            Needs::Right(SEE_INTENTIONS),
        ),
        get(
            (
                "/v1/connect/intentions/explain",
                "/v1/connect/intentions/explain?source=api&destination=web&path=/",
            ),
            Needs::Right(SEE_INTENTIONS),
        ),
        get(same("/v1/connect/intentions/lint"), shows(SEE_INTENTIONS, "\"web\"")),
        post(same("/v1/connect/intentions"), INTENTION, Needs::Right(WRITE_INTENTIONS))
            .not_refused(),
        get(ONE, Needs::Nothing).status(StatusCode::NOT_FOUND),
        put(ONE, INTENTION, Needs::Right(WRITE_INTENTIONS)).not_refused(),
        // What is not there is removed without a right.
        delete(ONE, Needs::Nothing),
        get(same("/v1/connect/ca/configuration"), Needs::Right("operator = \"read\"")),
        put(same("/v1/connect/ca/configuration"), CA, Needs::Right("operator = \"write\"")),
        get(same("/v1/connect/ca/crl"), Needs::Nothing),
        get(same("/v1/connect/ca/revocations"), Needs::Right("operator = \"read\"")),
        put(
            same("/v1/connect/ca/revocations"),
            r#"{"SerialNumber":"aa:bb"}"#,
            Needs::Right("operator = \"write\""),
        ),
        delete(
            ("/v1/connect/ca/revocations", "/v1/connect/ca/revocations?key=cc:dd"),
            Needs::Right("operator = \"write\""),
        )
        .status(StatusCode::NOT_FOUND),
        put(same("/v1/connect/ca/rotate"), "", Needs::Right("operator = \"write\"")),
        get(("/v1/discovery-chain/{service}", "/v1/discovery-chain/web"), READ_WEB),
        post(("/v1/discovery-chain/{service}", "/v1/discovery-chain/web"), "", READ_WEB),
        get(
            ("/v1/discovery-chain/{service}/explain", "/v1/discovery-chain/web/explain?path=/"),
            READ_WEB,
        ),
        get(same("/v1/rollouts"), Needs::Nothing),
        get(("/v1/rollout/{service}", "/v1/rollout/web"), READ_WEB).status(StatusCode::NOT_FOUND),
        put(("/v1/rollout/{service}/{signal}", "/v1/rollout/web/pause"), "", WRITE_WEB)
            .status(StatusCode::NOT_FOUND),
    ]
}

fn health() -> Vec<Row> {
    vec![
        get(("/v1/health/checks/{service}", "/v1/health/checks/web"), shows(SEE_WEB, "alive")),
        get(("/v1/health/connect/{service}", "/v1/health/connect/web"), Needs::Nothing),
        get(("/v1/health/ingress/{service}", "/v1/health/ingress/web"), Needs::Nothing),
        get(("/v1/health/node/{node}", "/v1/health/node/n1"), shows(SEE_WEB, "alive")),
        get(("/v1/health/service/{service}", "/v1/health/service/web"), shows(SEE_WEB, "web-1")),
        get(("/v1/health/state/{state}", "/v1/health/state/any"), shows(SEE_WEB, "alive")),
        get(same("/v1/discovery/prometheus"), shows(SEE_WEB, "web-1")),
    ]
}

fn kv() -> Vec<Row> {
    const SEED: (&str, &str) = ("/v1/kv/{*key}", "/v1/kv/seed");
    const READ: &str = "key \"seed\" { policy = \"read\" }";
    const WRITE: &str = "key \"seed\" { policy = \"write\" }";
    const ALL: Needs = Needs::Right("key_prefix \"\" { policy = \"write\" }");
    let refused = StatusCode::BAD_REQUEST;
    vec![
        get(SEED, Needs::Right(READ)),
        put(SEED, "x", Needs::Right(WRITE)),
        delete(SEED, Needs::Right(WRITE)),
        get(("/v1/kv/", "/v1/kv/?recurse"), shows(READ, "seed")),
        put(same("/v1/kv/"), "x", Needs::Nothing).status(refused),
        delete(("/v1/kv/", "/v1/kv/?recurse"), ALL),
        get(("/v1/kv", "/v1/kv?keys"), shows(READ, "seed")),
        put(same("/v1/kv"), "x", Needs::Nothing).status(refused),
        delete(("/v1/kv", "/v1/kv?recurse"), ALL),
    ]
}

fn logins() -> Vec<Row> {
    const METHOD: (&str, &str) = ("/v1/acl/auth-method/{name}", "/v1/acl/auth-method/row");
    const RULE: (&str, &str) =
        ("/v1/acl/binding-rule/{id}", "/v1/acl/binding-rule/bbbbbbbb-0000-0000-0000-000000000001");
    const KUBERNETES: &str = r#"{"Name":"row","Type":"kubernetes",
        "Config":{"Host":"http://127.0.0.1:1","ServiceAccountJWT":"x"}}"#;
    const BIND: &str = r#"{"AuthMethod":"row","BindType":"role","BindName":"a"}"#;
    const PREVIEW: (&str, &str) = (
        "/v1/acl/templated-policy/preview/{*name}",
        "/v1/acl/templated-policy/preview/builtin/dns",
    );
    const TEMPLATE: (&str, &str) =
        ("/v1/acl/templated-policy/name/{*name}", "/v1/acl/templated-policy/name/builtin/dns");
    vec![
        get(same("/v1/acl/auth-methods"), ACL_READ),
        put(same("/v1/acl/auth-method"), KUBERNETES, ACL_WRITE).not_refused(),
        get(METHOD, ACL_READ).not_refused(),
        put(METHOD, KUBERNETES, ACL_WRITE).not_refused(),
        get(same("/v1/acl/binding-rules"), ACL_READ),
        put(same("/v1/acl/binding-rule"), BIND, ACL_WRITE).not_refused(),
        get(RULE, ACL_READ).not_refused(),
        put(RULE, BIND, ACL_WRITE).not_refused(),
        delete(RULE, ACL_WRITE),
        delete(METHOD, ACL_WRITE),
        get(same("/v1/acl/templated-policies"), ACL_READ),
        get(TEMPLATE, ACL_READ),
        post(PREVIEW, "{}", ACL_READ),
        post(same("/v1/acl/login"), "{}", Needs::Nothing).status(StatusCode::BAD_REQUEST),
        put(same("/v1/acl/login"), "{}", Needs::Nothing).status(StatusCode::BAD_REQUEST),
        post(same("/v1/acl/logout"), "", Needs::Nothing).status(StatusCode::FORBIDDEN),
        put(same("/v1/acl/logout"), "", Needs::Nothing).status(StatusCode::FORBIDDEN),
    ]
}

fn operator() -> Vec<Row> {
    const READ: Needs = Needs::Right("operator = \"read\"");
    const WRITE: Needs = Needs::Right("operator = \"write\"");
    const AUTOPILOT: &str = "/v1/operator/autopilot/configuration";
    const TRANSFER: &str = "/v1/operator/raft/transfer-leader";
    const JOIN: &str = "/v1/operator/join-token";
    const SERVER_TOKEN: &str = "operator = \"write\"\nacl = \"write\"";
    vec![
        get(same(AUTOPILOT), READ),
        put(same(AUTOPILOT), r#"{"CleanupDeadServers":true}"#, WRITE),
        get(same("/v1/operator/autopilot/health"), READ).not_refused(),
        get(same("/v1/operator/autopilot/state"), READ).not_refused(),
        post(same(JOIN), "{}", WRITE),
        put(same(JOIN), r#"{"Role":"agent","Uses":0,"TTL":"1m"}"#, WRITE),
        post((JOIN, JOIN), r#"{"Role":"server"}"#, Needs::Right(SERVER_TOKEN)),
        get(same("/v1/operator/join-tokens"), READ),
        delete(("/v1/operator/join-token/{id}", "/v1/operator/join-token/0"), WRITE).not_refused(),
        get(same("/v1/operator/raft/configuration"), READ),
        delete(("/v1/operator/raft/peer", "/v1/operator/raft/peer?id=1"), WRITE).not_refused(),
        put(same(TRANSFER), "", WRITE).not_refused(),
        post(same(TRANSFER), "", WRITE).not_refused(),
        get(same("/v1/operator/usage"), READ),
    ]
}

fn others() -> Vec<Row> {
    const DIGEST: &str = "/v1/operator/raft/digest";
    vec![
        get(same(DIGEST), Needs::Right("operator = \"read\"")),
        get(same("/v1/snapshot"), ACL_WRITE),
        put(same("/v1/snapshot"), "none", ACL_WRITE).status(StatusCode::BAD_REQUEST),
        get(same("/v1/agent/metrics"), Needs::Right("agent \"s1\" { policy = \"read\" }")),
        get(same("/v1/exported-services"), Needs::Nothing),
        get(same("/v1/status/leader"), Needs::Nothing),
        get(same("/v1/status/peers"), Needs::Nothing),
    ]
}

fn queries() -> Vec<Row> {
    const ONE: (&str, &str) = ("/v1/query/{id}", "/v1/query/dddddddd-0000-0000-0000-000000000001");
    const EXECUTE: (&str, &str) = ("/v1/query/{id}/execute", "/v1/query/seed/execute");
    const EXPLAIN: (&str, &str) = ("/v1/query/{id}/explain", "/v1/query/seed/explain");
    const READ: &str = "query \"seed\" { policy = \"read\" }";
    const WRITE: Needs = Needs::Right("query \"row\" { policy = \"write\" }");
    const QUERY: &str = r#"{"Name":"row","Service":{"Service":"web"}}"#;
    let missing = StatusCode::NOT_FOUND;
    vec![
        get(same("/v1/query"), shows(READ, "\"seed\"")),
        post(same("/v1/query"), QUERY, WRITE).not_refused(),
        get(ONE, Needs::Nothing).status(missing),
        put(ONE, QUERY, WRITE).not_refused(),
        delete(ONE, Needs::Nothing).not_refused(),
        get(EXECUTE, Needs::Right(READ)),
        get(EXPLAIN, Needs::Right(READ)),
    ]
}

fn ui() -> Vec<Row> {
    const NODE: (&str, &str) = ("/v1/internal/ui/node/{node}", "/v1/internal/ui/node/n1");
    const INTENTIONS: (&str, &str) =
        ("/v1/internal/ui/gateway-intentions/{gateway}", "/v1/internal/ui/gateway-intentions/web");
    const SERVICES: (&str, &str) = (
        "/v1/internal/ui/gateway-services-nodes/{gateway}",
        "/v1/internal/ui/gateway-services-nodes/web",
    );
    const TOPOLOGY: (&str, &str) =
        ("/v1/internal/ui/service-topology/{service}", "/v1/internal/ui/service-topology/web");
    vec![
        get(same("/v1/internal/ui/catalog-overview"), Needs::Right("operator = \"read\"")),
        get(INTENTIONS, READ_WEB).not_refused(),
        get(SERVICES, READ_WEB).not_refused(),
        get(NODE, shows(SEE_WEB, "10.0.0.1")),
        get(same("/v1/internal/ui/nodes"), shows(SEE_WEB, "n1")),
        get(TOPOLOGY, READ_WEB).not_refused(),
        get(same("/v1/internal/ui/services"), shows(SEE_WEB, "\"web\"")),
    ]
}

/// Sessions, transactions, events, coordinates: what names a thing asks for it, what is not
/// there is told to everyone alike.
fn sessions() -> Vec<Row> {
    const ID: &str = "/v1/session/info/eeeeeeee-0000-0000-0000-000000000001";
    const END: &str = "/v1/session/destroy/eeeeeeee-0000-0000-0000-000000000001";
    const RENEW: &str = "/v1/session/renew/eeeeeeee-0000-0000-0000-000000000001";
    const WHERE: &str = r#"{"Node":"n1","Coord":{"Vec":[0,0,0,0,0,0,0,0],"Error":1.5,
        "Adjustment":0,"Height":0.00001}}"#;
    vec![
        get(same("/v1/coordinate/datacenters"), Needs::Nothing),
        get(("/v1/coordinate/node/{node}", "/v1/coordinate/node/n1"), Needs::Nothing).not_refused(),
        get(same("/v1/coordinate/nodes"), Needs::Nothing),
        put(
            same("/v1/coordinate/update"),
            WHERE,
            Needs::Right("node \"n1\" { policy = \"write\" }"),
        )
        .not_refused(),
        put(
            ("/v1/event/fire/{*name}", "/v1/event/fire/row"),
            "",
            Needs::Right("event \"row\" { policy = \"write\" }"),
        ),
        get(
            ("/v1/event/list", "/v1/event/list?name=row"),
            shows("event \"row\" { policy = \"read\" }", "\"row\""),
        ),
        put(
            same("/v1/session/create"),
            r#"{"Node":"n1","Checks":[],"NodeChecks":[]}"#,
            Needs::Right("session \"n1\" { policy = \"write\" }"),
        ),
        put(("/v1/session/destroy/{id}", END), "", Needs::Nothing).not_refused(),
        get(("/v1/session/info/{id}", ID), Needs::Nothing).not_refused(),
        get(same("/v1/session/list"), shows("session \"n1\" { policy = \"read\" }", "\"n1\"")),
        get(
            ("/v1/session/node/{node}", "/v1/session/node/n1"),
            shows("session \"n1\" { policy = \"read\" }", "\"n1\""),
        ),
        put(("/v1/session/renew/{id}", RENEW), "", Needs::Nothing).not_refused(),
        put(same("/v1/txn"), "[]", Needs::Nothing).not_refused(),
    ]
}
