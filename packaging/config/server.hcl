# A server: weft server --config /etc/weft/server.d
#
# Each setting stands here with its default, commented out, unless a server must set it.
# Files of a directory are read in lexical order; later ones beat earlier ones, flags beat files.

# Where the log, snapshots, sealed keys and the first join token are kept.
data_dir = "/var/lib/weft/server"

# This server's name. Default: the host name.
# node_name = "server-1"

# The datacenter; fixed once the mesh exists.
# datacenter = "dc1"

# Where agents and other servers are served, over mutual TLS alone.
bind_addr = "0.0.0.0:8300"

# Under which address they reach this server; join tokens carry it.
advertise_addr = "10.0.0.1:8300"

# Whether this server only reads: no vote, for good; it serves stale reads and watches.
# read_replica = false

# To join the mesh of another server instead of founding one: a join token for servers.
# join_token_file = "/etc/weft/server-join-token"

# How long certificates of services live, from a minute up.
# leaf_lifetime = "24h"

# Within this time after its death a host leaves the answers: 3s to 10m. A shorter one is paid with
# more pings, and with hosts that look dead for a moment when their server's host dies.
# node_lease = "10s"

# How long a host that failed stays in the catalog: an hour or more.
# reconnect_timeout = "72h"

# What is done with a call that no intention speaks of: "deny", or "allow".
# default_intention_policy = "deny"

# Where metrics are served over plain HTTP, on loopback; nowhere when left out.
# telemetry_addr = "127.0.0.1:20201"

# Who may do what over the HTTP API (docs/acl.md). The same on every server.
acl {
  # enabled                = false
  # default_policy         = "deny" # or "allow": where no rule speaks
  # enable_key_list_policy = false  # whether listing keys needs "list"
  tokens {
    # A file with the secret (a UUID) of the first management token, instead of a bootstrap.
    # initial_management_file = "/etc/weft/management-token"
  }
}

# The HTTP API on the server itself. Hosts usually run an agent, which has it on port 8500, so
# nothing is served by default. Without TLS on loopback only; allowed_hosts are the names by
# which browsers may call it besides localhost.
http {
  # addr          = "127.0.0.1:8500"
  # allowed_hosts = ["weft.internal"]
}

# The same with TLS, under a certificate of your own. With ca_file, callers must show a
# certificate of one of these authorities. Files are read again when they change.
https {
  # addr      = "0.0.0.0:8501"
  # cert_file = "/etc/weft/tls/api.pem"
  # key_file  = "/etc/weft/tls/api-key.pem"
  # ca_file   = "/etc/weft/tls/callers-ca.pem"
}

# Writes of the API and requests that were refused are written down, one JSON object a line
# (docs/audit.md). Nothing is kept by default. With "enforced", what cannot be written down is
# not done.
audit {
  # path               = "/var/log/weft/server-audit.json"
  # rotate_bytes       = 25165824
  # rotate_max_files   = 15
  # delivery_guarantee = "best-effort" # or "enforced"
}

# Bounds, so that no caller can exhaust the server.
limits {
  # http_max_conns_per_client = 200    # connections of one IP address; 0 for no bound
  # kv_max_value_size         = 524288 # bytes of a value of the key/value store
  # session_ttl_min           = "10s"  # the shortest TTL of a session
  # txn_max_ops               = 128    # operations of one transaction
  # txn_max_req_len           = 524288 # bytes of its keys and values; at least kv_max_value_size
}

# Log and snapshots. Sizes are in bytes. docs/storage.md says what they mean.
storage {
  # snapshot_entries   = 16384
  # snapshot_interval  = "30s"
  # snapshot_log_bytes = 67108864
  # disk_reserve_bytes = 67108864
}

# Logs go to standard error. WEFT_LOG beats the level.
log {
  # level  = "info"
  # format = "text" # or "json"
}
