service {
  name = "web"
  port = 80
  check { http = "http://127.0.0.1:80/" interval = "10s" }
  connect { sidecar_service { proxy { upstreams = [{ destination_name = "api", local_bind_port = 9001 }] } } }
}
check { name = "resolver" udp = "127.0.0.1:53" interval = "30s" }
