//! Every bound of the system, with its reason. No behaviour.

use std::time::Duration;

/// Bytes of a service or node name: fits a SPIFFE path segment and two DNS labels.
pub const NAME_BYTES_MAX: usize = 128;
/// Bytes of an instance or check id: room for `service:<name>-<uuid>-<port>` forms.
pub const ID_BYTES_MAX: usize = 256;
/// Bytes of a datacenter name: one DNS label (RFC 1035 §2.3.4) and one to spare.
pub const DATACENTER_BYTES_MAX: usize = 64;
/// Bytes of a trust domain (SPIFFE-ID §2.1).
pub const TRUST_DOMAIN_BYTES_MAX: usize = 255;
/// Bytes of a host name, or an address in its place (RFC 1035 §2.3.4).
pub const HOST_NAME_BYTES_MAX: usize = 255;
/// Bytes of a SPIFFE ID that every implementation must take (SPIFFE-ID §2.3).
pub const SPIFFE_ID_BYTES_MAX: usize = 2048;

/// Networks of load balancers that a proxy believes: each connection is compared with all.
pub const PROXY_NETWORKS_MAX: usize = 64;
/// Bytes of the path of a unix socket: the kernel's `sun_path` has 108, the last of them a zero.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Pairs of metadata of a node or service (Consul: 64).
pub const META_PAIRS_MAX: usize = 64;
/// Bytes of a metadata key (Consul: 128).
pub const META_KEY_BYTES_MAX: usize = 128;
/// Bytes of a metadata value (Consul: 512).
pub const META_VALUE_BYTES_MAX: usize = 512;
/// Tags of one instance: DNS answers are filtered by them, so their number costs each query.
pub const TAGS_MAX: usize = 256;
/// Named ports of one instance: each is a record of DNS and of the catalog.
pub const PORTS_PER_SERVICE_MAX: usize = 32;
/// Checks in one registration: an agent runs each of them.
pub const CHECKS_PER_REGISTRATION_MAX: usize = 64;
/// Entries of each list of what is captured and what is left out: each is a rule that packets pass.
pub const CAPTURE_LIST_MAX: usize = 256;
/// Upstreams of one sidecar: each is a listener, a chain and a set of watches.
pub const UPSTREAMS_PER_PROXY_MAX: usize = 1024;
/// Bytes kept of a check's output (Consul's `output_max_size`).
pub const CHECK_OUTPUT_BYTES_MAX: usize = 4096;
/// The shortest interval between two runs of a check (Consul: 1 s).
pub const CHECK_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Checks of hosts without an agent that one agent runs. Each is some kilobytes; beyond that another
/// agent is to take a part.
pub const EXTERNAL_CHECKS_PER_AGENT_MAX: usize = 16_384;

/// Sources of one intention entry: compiled and sent to each proxy of the destination.
pub const INTENTION_SOURCES_MAX: usize = 10_000;
/// Join tokens that are known at a time: each is made by an operator or by a server's start.
pub const JOIN_TOKENS_MAX: usize = 4_096;
/// Uses of one join token that are remembered, to tell operators and to know a repeated request.
pub const JOIN_REDEMPTIONS_KEPT: usize = 64;
/// How long a join token is remembered after its end, to say so to who comes with it.
pub const JOIN_TOKEN_KEPT: Duration = Duration::from_secs(24 * 3600);
/// The lifetime of a join token when none is asked for: time to copy it to a host.
pub const JOIN_TOKEN_LIFETIME_DEFAULT: Duration = Duration::from_secs(3600);
/// The longest lifetime of a join token: groups of hosts that grow by themselves hold one.
pub const JOIN_TOKEN_LIFETIME_MAX: Duration = Duration::from_secs(90 * 24 * 3600);
/// The longest lifetime of a join token for servers, whose holder gets the keys of the mesh.
pub const SERVER_TOKEN_LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// The shortest lifetime of a join token: clocks of hosts differ by some seconds.
pub const JOIN_TOKEN_LIFETIME_MIN: Duration = Duration::from_secs(10);
/// Bytes of an intention's description (Consul: 512).
pub const DESCRIPTION_BYTES_MAX: usize = 512;
/// Nodes of one discovery chain: each proxy that calls the service holds all of them.
pub const CHAIN_NODES_MAX: usize = 4_096;
/// Errors of one chain that are told.
pub const CHAIN_ERRORS_MAX: usize = 64;
/// Legs of one splitter with those of the splitters behind it.
pub const SPLITS_PER_CHAIN_MAX: usize = 1_000;
/// Routes of one service-router: tried in order for each request.
pub const ROUTES_PER_ROUTER_MAX: usize = 1_000;
/// Buckets of one service: a request may take a token of each, and each that tells callers apart has a
/// table of [`RATE_KEYS_MAX`] in every proxy.
pub const RATE_BUCKETS_MAX: usize = 16;
/// Callers, addresses or values of a header that one bucket tells apart: 32 KiB.
pub const RATE_KEYS_MAX: usize = 4_096;
/// Levels of importance of requests to one service: each is a label of a metric.
pub const PRIORITY_LEVELS_MAX: usize = 8;
/// Tokens of one bucket: what its part of a word holds.
pub const RATE_TOKENS_MAX: u32 = (1 << 20) - 1;
/// Conditions of one sort (headers, parameters, methods) on one route.
pub const CONDITIONS_PER_ROUTE_MAX: usize = 64;
/// Permissions of all sources of one intention entry: tried in order for each request.
pub const INTENTION_PERMISSIONS_MAX: usize = 10_000;
/// Regular expressions in one intention entry: 64 MiB of memory in each proxy of the destination
/// if each of them is as large as it may be.
pub const INTENTION_REGEXES_MAX: usize = 256;
/// Subsets of one service-resolver: each is a target with a watch of its own.
pub const SUBSETS_PER_RESOLVER_MAX: usize = 256;
/// Points of one ring of hashes: four MiB in each proxy that calls the service, and a hundred points each for
/// two thousand instances.
pub const RING_POINTS_MAX: u64 = 262_144;
/// Places of one failover: each is a target with a watch of its own.
pub const FAILOVER_TARGETS_MAX: usize = 64;
/// Services of one exported list, gateway or listener.
pub const ENTRY_SERVICES_MAX: usize = 10_000;
/// Listeners of one gateway: each is a socket.
pub const LISTENERS_PER_GATEWAY_MAX: usize = 1_024;
/// Paths of one service that are reached without mutual TLS: each is a listener.
pub const EXPOSED_PATHS_MAX: usize = 64;
/// Further attempts of one request: more of them turn one failure into an overload.
pub const RETRIES_MAX: u32 = 100;
/// Bytes of a certificate with those above it, or of its key, in a config entry.
pub const CERTIFICATE_BYTES_MAX: usize = 128 << 10;
/// Bytes of the name of a file (Linux: `PATH_MAX`).
pub const PATH_BYTES_MAX: usize = 4_096;
/// Providers of whom one intention or permission takes tokens: each is looked for in the request.
pub const JWT_PROVIDERS_PER_RULE_MAX: usize = 16;
/// Bytes of a token in a request: more than the headers of most servers hold.
pub const JWT_BYTES_MAX: usize = 16 << 10;
/// Verified tokens that one worker of a proxy remembers for a provider: some 30 MB.
pub const JWT_CACHE_SIZE_MAX: u32 = 16_384;
/// Bytes of a text in a config entry that is passed on as it is, such as a key set.
pub const OPAQUE_TEXT_BYTES_MAX: usize = 64 << 10;
/// Prepared queries: each DNS question for one looks through their names.
pub const QUERIES_MAX: usize = 65_536;
/// Bytes of one text of a prepared query, also after it was filled in.
pub const QUERY_TEXT_BYTES_MAX: usize = 1_024;
/// Bytes of the id of an intention, and of the dates that it was given.
pub const LEGACY_TEXT_BYTES_MAX: usize = 64;
/// Warnings that one write is answered with.
pub const ENTRY_WARNINGS_MAX: usize = 32;
/// The longest time-out of a config entry: longer ones are slips of the unit.
pub const ENTRY_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);
/// Steps of one rollout.
pub const ROLLOUT_STEPS_MAX: usize = 100;
/// The shortest interval of a rollout: each one ends with a write, and proxies tell what they have measured
/// each second.
pub const ROLLOUT_INTERVAL_MIN: Duration = Duration::from_secs(2);
/// The longest step of a rollout.
pub const ROLLOUT_STEP_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// The most failed intervals in a row that a rollout may bear.
pub const ROLLOUT_FAILURES_MAX: u32 = 1_000;
/// Webhooks of one rollout.
pub const ROLLOUT_WEBHOOKS_MAX: usize = 16;
/// The longest time for the answer of a webhook.
pub const ROLLOUT_WEBHOOK_MAX: Duration = Duration::from_secs(300);
/// Bytes of the reason that a rollout tells.
pub const ROLLOUT_REASON_BYTES_MAX: usize = 512;
/// Legs of one service-splitter.
pub const SPLITS_PER_SPLITTER_MAX: usize = 100;
/// Redirects followed and splitters nested while a discovery chain is compiled.
pub const CHAIN_DEPTH_MAX: usize = 32;
/// Bytes of a regular expression from configuration; the engine is linear in time, its
/// compiled size is bounded apart.
pub const REGEX_BYTES_MAX: usize = 1_024;
/// Bytes of a compiled regular expression.
pub const REGEX_COMPILED_BYTES_MAX: usize = 256 << 10;
/// Bytes of a filter expression.
pub const FILTER_BYTES_MAX: usize = 8_192;
/// Nesting of a filter expression: the parser recurses.
pub const FILTER_DEPTH_MAX: usize = 64;

/// Nesting of a record in binary: the 128 levels of a JSON body with those of what carries it.
/// The decoder recurses, and a thread of a server has a stack of 2 MiB.
pub const RECORD_DEPTH_MAX: usize = 192;

/// Bytes of a request body of the HTTP API: the largest registration with a margin.
pub const API_BODY_BYTES_MAX: usize = 1 << 20;
/// Bytes of request bodies that one client of the HTTP API has on their way at once: 64 values of
/// the usual largest size.
pub const API_BODIES_BYTES_PER_SENDER_MAX: usize = 32 << 20;
/// The same of all clients of a server: an eighth of the memory of a small one.
pub const API_BODIES_BYTES_MAX: usize = 256 << 20;
/// Requests at once on one HTTP/2 connection of a client that is no member. Members
/// pass on those of a whole host; a client with more opens another connection, which are bounded.
pub const API_STREAMS_PER_CONNECTION_MAX: u32 = 128;
/// The wait of a blocking query when none is asked for (Consul: 5 min).
pub const BLOCKING_WAIT_DEFAULT: Duration = Duration::from_secs(300);
/// The longest wait of a blocking query (Consul: 10 min).
pub const BLOCKING_WAIT_MAX: Duration = Duration::from_secs(600);
/// Commands folded into one replicated entry: bounds the time of one apply.
pub const COMMANDS_PER_ENTRY_MAX: usize = 4_096;
/// Bytes of one replicated entry before a further command starts the next.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;
/// Bytes of one command, which has an entry to itself when it is larger than others may be
/// together: the largest transaction with a margin, a quarter of a message between servers.
pub const COMMAND_BYTES_MAX: usize = 16 << 20;
/// Bytes of one file of a server's log: some hundred thousand small writes, and made in advance
/// within a fraction of a second.
pub const LOG_SEGMENT_BYTES: u64 = 16 << 20;
/// Entries of a server's log after which a snapshot is written (Consul:
/// `raft_snapshot_threshold`); replaying as many takes well below a second.
pub const SNAPSHOT_ENTRIES_DEFAULT: u64 = 16_384;
/// Fewer entries between two snapshots would only write snapshots.
pub const SNAPSHOT_ENTRIES_MIN: u64 = 128;
/// The shortest time between two snapshots for the number of entries (Consul:
/// `raft_snapshot_interval`).
pub const SNAPSHOT_INTERVAL_DEFAULT: Duration = Duration::from_secs(30);
/// Bytes of a server's log after which a snapshot is written: read back within a second. The
/// log has at most twice that, or twice the size of a snapshot, plus what comes meanwhile.
pub const SNAPSHOT_LOG_BYTES_DEFAULT: u64 = 64 << 20;
/// Below the size of an entry each write would make a snapshot.
pub const SNAPSHOT_LOG_BYTES_MIN: u64 = 1 << 20;
/// Bytes of a snapshot that is restored: it lies in memory while it comes, beside the state.
pub const SNAPSHOT_BYTES_MAX: u64 = 512 << 20;
/// Bytes of one piece of it: half of what an entry may have.
pub const SNAPSHOT_PIECE_BYTES: usize = 512 << 10;
/// Bytes free on a server's disk below which it leads no writes: room for elections, votes and
/// the next files of the log.
pub const DISK_RESERVE_BYTES_DEFAULT: u64 = 64 << 20;
/// Groups of one server on their way to the leader whose answers are remembered: eight times what
/// a server sends at once.
pub const GROUPS_PER_ORIGIN_MAX: usize = 32;
/// Starts of servers whose groups are remembered: nine servers that restart every two minutes.
pub const GROUP_ORIGINS_MAX: usize = 64;
/// How long a start of a server is remembered that sends nothing: far longer than any request is
/// held.
pub const GROUP_ORIGIN_KEPT: Duration = Duration::from_secs(600);
/// Watches of one agent at one server: local proxies, their upstreams and DNS names in use.
pub const WATCHES_PER_AGENT_MAX: usize = 65_536;

/// Bytes of one watched value: some ten thousand instances of one service.
pub const VIEW_BYTES_MAX: usize = 64 << 20;

/// Service names with instances that an agent's DNS keeps watched.
pub const DNS_KNOWN_NAMES_MAX: usize = 8_192;
/// Names without instances that it keeps watched: misspelt ones, and whatever a stranger asks.
pub const DNS_UNKNOWN_NAMES_MAX: usize = 2_048;
/// DNS queries that wait for the first value of a name; further ones fail at once.
pub const DNS_WAITING_QUERIES_MAX: usize = 512;
/// Callers that an agent's DNS serves over TCP at once; further ones wait in the system's queue.
pub const DNS_TCP_CALLERS_MAX: usize = 1_024;
/// DNS queries on their way to recursors; further ones fail at once.
pub const DNS_FORWARDED_QUERIES_MAX: usize = 512;
/// DNS queries that are not answered from a ready answer and are being worked on; further ones are
/// dropped, and asked again by who waits.
pub const DNS_QUERIES_AT_WORK_MAX: usize = 2_048;
/// DNS answers that are kept ready: a few types for each name that is watched.
pub const DNS_READY_ANSWERS_MAX: usize = 32_768;
/// What servers said to DNS questions that only they can answer, kept for a while.
pub const DNS_ASKED_ANSWERS_MAX: usize = 4_096;
/// Networks whose answers over UDP are counted, to bound what can be reflected to one.
pub const DNS_SOURCES_MAX: usize = 4_096;
/// Records of one DNS answer over TCP (Consul: 4,096): what 64 KiB hold of addresses.
pub const DNS_ANSWERS_MAX: usize = 4_096;
/// SRV records of one DNS answer over TCP (Consul: 1,024): they bring addresses along.
pub const DNS_SRV_ANSWERS_MAX: usize = 1_024;
/// Records of one DNS answer over UDP without EDNS, whatever is configured (Consul: 8).
pub const DNS_UDP_ANSWERS_MAX: usize = 8;

/// Bytes of a key: etcd's and S3's usual bound; the tree of keys is at most as deep.
pub const KV_KEY_BYTES_MAX: usize = 1_024;
/// Bytes of a value, unless configured (Consul: 512 KB).
pub const KV_VALUE_BYTES_DEFAULT: usize = 512 << 10;
/// Bytes of a value, whatever is configured: half of what a command may have.
pub const KV_VALUE_BYTES_CEILING: usize = 8 << 20;
/// How long the removal of a key is remembered for those who wait for it (Consul: 15 min).
pub const KV_TOMBSTONE_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// In which steps removals are forgotten (Consul: 30 s): each step may wake who waits for a key
/// that does not exist.
pub const KV_TOMBSTONE_STEP: Duration = Duration::from_secs(30);
/// Removals forgotten with one command: bounds its time.
pub const KV_TOMBSTONES_PER_COMMAND_MAX: usize = 256;

/// Operations of one transaction, unless configured (Consul: 128, fixed).
pub const TXN_OPS_DEFAULT: usize = 128;
/// Operations of one transaction, whatever is configured: they are applied at one stretch.
pub const TXN_OPS_CEILING: usize = 4_096;
/// Bytes of the keys and values of one transaction, unless configured (Consul: 512 KB of body).
pub const TXN_BYTES_DEFAULT: usize = 512 << 10;
/// Bytes of the keys and values of one transaction, whatever is configured: one command has them.
pub const TXN_BYTES_CEILING: usize = 8 << 20;

/// User events that are kept (Consul: 256 at each agent).
pub const EVENTS_KEPT_MAX: usize = 256;
/// Bytes that come with a user event (Consul: 300, since 1.22).
pub const EVENT_PAYLOAD_BYTES_MAX: usize = 300;

/// Checks that one session depends on: each change of one looks at all of them.
pub const SESSION_CHECKS_MAX: usize = 64;
/// Bytes of a session's name: for people, as an id.
pub const SESSION_NAME_BYTES_MAX: usize = 512;
/// The longest that a lock stays closed after its session was ended (Consul: 60 s).
pub const SESSION_LOCK_DELAY_MAX: Duration = Duration::from_secs(60);
/// The lock delay of a session that asks for none (Consul: 15 s).
pub const SESSION_LOCK_DELAY_DEFAULT: Duration = Duration::from_secs(15);
/// The shortest TTL of a session, unless configured (Consul: 10 s).
pub const SESSION_TTL_MIN_DEFAULT: Duration = Duration::from_secs(10);
/// The longest TTL of a session (Consul: 24 h).
pub const SESSION_TTL_MAX: Duration = Duration::from_secs(24 * 3600);

/// Bytes of one HTTP/1 request head in the proxy (as nginx's and Envoy's usual bounds).
pub const HTTP_HEAD_BYTES_MAX: usize = 64 << 10;
/// Header lines of one HTTP message in the proxy (Envoy: 100; browsers and gRPC need less).
pub const HTTP_HEADERS_MAX: usize = 128;
/// Pieces in which HTTP/2 may bring the cookies of one request (RFC 9113 §8.2.3); browsers keep at
/// most some 180 cookies for a site.
pub const HTTP_COOKIE_CRUMBS_MAX: usize = 256;

/// Bytes of a policy's name (Consul: 128).
pub const ACL_POLICY_NAME_BYTES_MAX: usize = 128;
/// Bytes of a role's name (Consul: 256).
pub const ACL_ROLE_NAME_BYTES_MAX: usize = 256;
/// Bytes of an auth method's name (Consul: 128).
pub const ACL_AUTH_METHOD_NAME_BYTES_MAX: usize = 128;
/// Auth methods: each names keys that may have to be fetched.
pub const ACL_AUTH_METHODS_MAX: usize = 1_000;
/// Binding rules: those of a method are all looked at in a login.
pub const ACL_BINDING_RULES_MAX: usize = 10_000;
/// Bytes of a binding rule's name, before it is filled in.
pub const ACL_BIND_NAME_BYTES_MAX: usize = 512;
/// Bytes of the rules of one policy: some thousand rules, of which each token that has the
/// policy holds a copy while it is in use.
pub const ACL_RULES_BYTES_MAX: usize = 256 << 10;
/// Rules of one policy.
pub const ACL_RULES_MAX: usize = 4_096;
/// Policies, roles, identities and templates of one token or role, counted together.
pub const ACL_GRANTS_MAX: usize = 256;
/// Tokens of a cluster: each login makes one, so that this bounds what a runaway client costs.
pub const ACL_TOKENS_MAX: usize = 1_000_000;
/// Policies of a cluster.
pub const ACL_POLICIES_MAX: usize = 100_000;
/// Roles of a cluster.
pub const ACL_ROLES_MAX: usize = 100_000;
/// Expired tokens removed by one command: bounds the time of one apply.
pub const ACL_TOKENS_PER_REAP_MAX: usize = 1_024;
/// The shortest lifetime of a token that ends (Consul: 1 min).
pub const ACL_TOKEN_LIFETIME_MIN: Duration = Duration::from_secs(60);
/// The longest lifetime of a token that ends (Consul: 24 h).
pub const ACL_TOKEN_LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// Services of one host proxy: each has listeners on every worker thread, and a stream of its own to
/// the agent.
pub const HOSTED_PROXIES_MAX: usize = 1_000;
/// Entries of a host that say which processes speak for which service: all are looked at when one
/// asks.
pub const WORKLOAD_ENTRIES_MAX: usize = 1_000;
/// Connections of one user to the SPIFFE Workload API: each process needs one.
pub const WORKLOAD_CONNECTIONS_PER_USER_MAX: usize = 1_000;
/// Connections to the SPIFFE Workload API in all.
pub const WORKLOAD_CONNECTIONS_MAX: usize = 4_000;

/// The lifetime of a leaf certificate.
pub const LEAF_LIFETIME_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// Leaf certificates that one server signs in a second: more would take a core from everything
/// else that it does.
pub const LEAF_SIGNATURES_PER_SECOND: u32 = 2_000;
/// Revocations at once: each is in every trust bundle, some 100 bytes.
pub const REVOCATIONS_MAX: usize = 1_000;
/// Sources of connections without mutual TLS that a proxy tells its agent of, "other" included.
pub const PLAINTEXT_SOURCES_MAX: usize = 65;
/// The shortest leaf lifetime: renewal starts at 60 % of it and needs time for retries.
pub const LEAF_LIFETIME_MIN: Duration = Duration::from_secs(60);
/// The longest leaf lifetime (Consul: 1 year).
pub const LEAF_LIFETIME_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// Roots that are trusted at once: each is in every bundle, and signs each new root.
pub const CA_ROOTS_MAX: usize = 8;
/// Roots that went in due course and are remembered: everybody sees each of them go.
pub const CA_RETIRED_MAX: usize = 16;
/// Bytes of a certificate or key of an authority as PEM, its chain included.
pub const CA_PEM_BYTES_MAX: usize = 64 * 1024;
/// The longest lifetime of a root: what a certificate can say ends in 9999.
pub const ROOT_LIFETIME_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// The lifetime of an agent's or server's own certificate: an agent that was down for shorter
/// comes back without a token.
pub const MEMBER_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// The lifetime of a server's intermediate certificate.
pub const INTERMEDIATE_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// The lifetime of a root certificate.
pub const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
