# The sidecar of a service: weft proxy --config /etc/weft/proxy.d/web.hcl
#
# Each setting stands here with its default, commented out, unless a sidecar must set it.
# What the sidecar does with traffic is not written here: that comes from the agent.

# The id of the service instance whose sidecar this is, as it is registered.
sidecar_for = "web-1"
# Instead of that, for all services of the host, if the agent's host_proxy allows it:
# host = true

# The agent's unix socket for proxies. Left out, the agent's HTTP API is asked for it
# (--http-addr or WEFT_HTTP_ADDR, 127.0.0.1:8500 by default).
# agent_socket = "/var/lib/weft/agent/proxy.sock"

# Where metrics and state are shown: "ip:port"; port 0 takes a free one.
# admin_addr = "127.0.0.1:19000"

# Worker threads. Default: one for each core, as far as the control group's limit goes, rounded up.
# workers = 2

# How long to wait for an agent, a registration and the first configuration.
# start_limit = "60s"

# How long requests in flight may take to end when the sidecar is told to end.
# drain_limit = "15s"

# How long it still takes connections then, while /ready says that it is not ready any more.
# drain_delay = "0s"

# A new process takes over from the running one without losing a connection (docs/proxy.md):
# whether this one does at its start, the folder of the socket between the two, and how long
# connections may go on in the old one. The folder is $RUNTIME_DIRECTORY by default, else weft in
# $XDG_RUNTIME_DIR, else one of its own in the folder for temporary files.
# take_over      = false
# runtime_dir    = "/run/weft"
# replaced_limit = "24h"

# "off", "text" or "json" (on the standard output) stand in place of what the mesh says about access
# logs (docs/access-logs.md).
# access_log = "off"

# Further names in which it is counted who calls whom (docs/metrics.md): "istio", "envoy".
# metric_dialects = []

# What one caller may take (docs/proxy.md).
limits {
  # head           = "15s"
  # idle           = "300s"
  # stall          = "300s"
  # tcp_idle       = "2h"
  # half_closed    = "10m"
  # handshake      = "10s"
  # streams        = 256
  # connections    = 0
  # body_bytes     = 0
  # overload_delay = "250ms"
}

# Whether requests and connections share connections to other proxies: auto or off (docs/mux.md).
# mux = "auto"

# Whether QUIC is spoken with other proxies: auto or off (docs/transport.md). Services say when, in
# MeshTransport of service-defaults.
# quic = "auto"

# Whoever is refused, would be refused or is cut off is written down, one JSON object a line
# (docs/audit.md), and this share of those who are let in. Nothing is kept by default.
audit {
  # path             = "/var/log/weft/web-audit.json"
  # rotate_bytes     = 25165824
  # rotate_max_files = 15
}
# audit_allowed_share = 0.01

# Logs go to standard error. WEFT_LOG beats the level.
log {
  # level  = "info"
  # format = "text" # or "json"
}
