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

# To join the mesh of another server instead of founding one: a join token for servers.
# join_token_file = "/etc/weft/server-join-token"

# How long certificates of services live, from a minute up.
# leaf_lifetime = "24h"

# What is done with a call that no intention speaks of: "deny", or "allow".
# default_intention_policy = "deny"

# Where metrics are served over plain HTTP, on loopback; nowhere when left out.
# telemetry_addr = "127.0.0.1:20201"

# Logs go to standard error. WEFT_LOG beats the level.
log {
  # level  = "info"
  # format = "text" # or "json"
}
