# The agent of a host: weft agent --config /etc/weft/agent.d
#
# Each setting stands here with its default, commented out, unless a host must set it.
# Files of a directory are read in lexical order; later ones beat earlier ones, flags beat files.

# Where identity, services, certificates and what servers said last are kept. A restart needs
# nothing else, not even a server.
data_dir = "/var/lib/weft/agent"

# How to join, as long as data_dir holds no identity: a file with the token that
# `weft server` printed. It can be removed afterwards.
join_token_file = "/etc/weft/join-token"

# This host's name in the catalog. Default: the host name.
# node_name = "host-1"

# Free key-value pairs of the node.
# node_meta {
#   rack = "a1"
# }

# The datacenter that the agent must find itself in. Default: the cluster's.
# datacenter = "dc1"

# Servers, as host:port, instead of those that the join answer named.
# servers = ["10.0.0.1:8300", "10.0.0.2:8300", "10.0.0.3:8300"]

# Where local proxies listen for other hosts, and under which address those reach this host.
# bind_addr      = "0.0.0.0"
# advertise_addr = "10.0.0.11"

# Where this host is. DNS puts instances of the same zone first, then those of the region; services of
# this host that do not say their locality have this one.
# locality {
#   region = "eu-west-1"
#   zone   = "eu-west-1a"
# }

# How callers of the HTTP API are judged (docs/acl.md). Whether there are ACLs, agents learn from
# servers; "enabled" refuses callers until then.
acl {
  # enabled     = false
  # down_policy = "extend-cache" # while no server answers: what was said last; or "deny"
  tokens {
    # Files with the tokens of callers who show none, and of the agent itself.
    # default_file = "/etc/weft/default-token"
    # agent_file   = "/etc/weft/agent-token"
    # dns_file     = "/etc/weft/dns-token"
  }
}

# The HTTP API: "ip:port", "unix:///path", or "off".
http {
  # addr = "127.0.0.1:8500"

  # A unix socket beside the address, with its mode, owner and group.
  # socket       = "/run/weft/http.sock"
  # socket_mode  = "0660"
  # socket_user  = "root"
  # socket_group = "root"

  # Names that a Host header may have besides loopback names and IP addresses.
  # allowed_hosts = ["mesh.example.org"]

  # Connections of one address at once; 0 for no bound of its own.
  # max_conns_per_client = 0
}

# The HTTP API with TLS, for callers on other hosts. The files are read again when they change.
https {
  # addr      = "0.0.0.0:8501"
  # cert_file = "/etc/weft/api.pem"
  # key_file  = "/etc/weft/api.key"

  # Authorities that must have signed the certificate of every caller. Default: none is asked for.
  # ca_file = "/etc/weft/callers.pem"
}

# Writes of this host's API and requests that were refused are written down, one JSON object a
# line (docs/audit.md). Nothing is kept by default. With "enforced", what cannot be written down
# is not done.
audit {
  # path               = "/var/log/weft/agent-audit.json"
  # rotate_bytes       = 25165824
  # rotate_max_files   = 15
  # delivery_guarantee = "best-effort" # or "enforced"
}

# Whether checks may run commands on this host (docs/agents.md): those of everyone who may
# register one, or those in files only.
# enable_script_checks       = false
# enable_local_script_checks = false

# The socket of the Docker daemon, for docker checks.
# docker_socket = "/var/run/docker.sock"

# The checks of hosts without an agent (docs/agents.md): whether this agent takes a part of them.
external_checks {
  # enabled = false

  # The service by which those who do know of each other, and what marks the hosts.
  # service   = "weft-external-checks"
  # node_meta = { "external-node" = "true" }

  # How often hosts that are marked for it are looked for.
  # node_interval = "10s"

  # Results in a row before a check changes.
  # passing_threshold  = 0
  # critical_threshold = 0
}

# DNS, on UDP and TCP: "ip:port", or "off". docs/dns.md has the whole of it.
dns {
  # addr       = "127.0.0.1:8600"
  # more_addrs = ["[::1]:8600"]

  # The zone of the mesh, and a second one with the same content ("" for none).
  # domain     = "mesh"
  # alt_domain = "consul"

  # Resolvers for names of other zones; without any, such names are refused. Those of one zone
  # each beat the general ones.
  # recursors         = ["192.0.2.53"]
  # forward           = { "corp.example" = ["10.0.0.53"] }
  # recursor_timeout  = "2s"
  # recursor_strategy = "sequential"

  # Whether instances in state warning are left out as well.
  # only_passing = false

  # How long resolvers may cache answers: in general in seconds, of nodes, of services by name or
  # by prefix.
  # ttl_seconds = 0
  # node_ttl    = "10s"
  # service_ttl = { "web" = "5s", "db*" = "30s" }

  # What an answer has of records, and whether a cut one says so.
  # udp_answer_limit = 3
  # a_record_limit   = 0
  # enable_truncate  = true

  # How long names are answered while no server can be reached.
  # allow_stale = true
  # max_stale   = "87600h"

  # Answers a second over UDP to one other host, 0 for no limit.
  # rate_limit = 1000

  # Whether instances near this agent come first, by the locality of both.
  # prefer_near = true
}

# The unix socket on which local proxies are configured. Default: <data_dir>/proxy.sock.
proxy {
  # socket = "/run/weft/proxy.sock"
}

# The keys of the certificates of this host's services: ec (256 or 384 bits), ed25519, or rsa (2048 or
# 4096). Each renewal makes a fresh key.
leaf {
  # key_type = "ec"
  # key_bits = 256
}

# SPIFFE's Workload API (docs/workload-api.md): a unix socket on which programs with a SPIFFE library
# get the certificates of their services. Off without this section.
# workload_api {
#   socket = "/run/weft/workload.sock"
#   entry {
#     service = "web"
#     unit    = "web.service" # all that an entry gives must be so: uid, gid, unit, cgroup
#   }
# }

# One proxy for all services of this host, weft proxy --host (docs/proxy.md), and which process may
# be it: all that is given must be so; if nothing is, the agent's own user.
# host_proxy {
#   enabled = true
#   unit    = "weft-proxy.service" # or uid, gid, cgroup
# }

# Services of this host; others are registered over the HTTP API.
# service {
#   name = "web"
#   id   = "web-1"
#   port = 8080
#   check {
#     http     = "http://127.0.0.1:8080/health"
#     interval = "10s"
#   }
#   connect {
#     sidecar_service {
#       proxy {
#         upstreams = [{ destination_name = "api", local_bind_port = 9001 }]
#       }
#     }
#   }
# }

# Checks of this host itself, or of services by service_id. Services and checks are read again by
# `weft reload` or SIGHUP.
# check {
#   name     = "resolver"
#   udp      = "127.0.0.1:53"
#   interval = "30s"
# }

# Logs go to standard error. WEFT_LOG beats the level.
log {
  # level  = "info"
  # format = "text" # or "json"
}
