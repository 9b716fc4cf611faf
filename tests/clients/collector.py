"""A collector of traces and logs made of OpenTelemetry's own Python packages: OTLP over HTTP and gRPC,
and Zipkin's JSON. Writes one line of JSON for each span and each record of a log that it got.

    collector.py HTTP_PORT GRPC_PORT
"""

import http.server
import json
import sys
import threading
from concurrent import futures

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

LOCK = threading.Lock()


def tell(span):
    with LOCK:
        print("span " + json.dumps(span), flush=True)


def tell_line(line):
    with LOCK:
        print("line " + json.dumps(line), flush=True)


def value(any_value):
    return getattr(any_value, any_value.WhichOneof("value"))


def take(way, request):
    for resource in request.resource_spans:
        about = {pair.key: value(pair.value) for pair in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                tell({
                    "way": way,
                    "service": about["service.name"],
                    "trace": span.trace_id.hex(),
                    "id": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "name": span.name,
                    "kind": trace_pb2.Span.SpanKind.Name(span.kind),
                    "us": (span.end_time_unix_nano - span.start_time_unix_nano) // 1000,
                    "start": span.start_time_unix_nano // 1000,
                    "is_error": span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
                    "attributes": {pair.key: value(pair.value) for pair in span.attributes},
                })
    return trace_service_pb2.ExportTraceServiceResponse()


def take_lines(way, request):
    for resource in request.resource_logs:
        about = {pair.key: value(pair.value) for pair in resource.resource.attributes}
        for scope in resource.scope_logs:
            for line in scope.log_records:
                tell_line({
                    "way": way,
                    "resource": about,
                    "by": scope.scope.name,
                    "trace": line.trace_id.hex(),
                    "span": line.span_id.hex(),
                    "severity": logs_pb2.SeverityNumber.Name(line.severity_number),
                    "start": line.time_unix_nano // 1000,
                    "observed": line.observed_time_unix_nano // 1000,
                    "body": value(line.body),
                    "attributes": {pair.key: value(pair.value) for pair in line.attributes},
                })
    return logs_service_pb2.ExportLogsServiceResponse()


class GrpcLogs(logs_service_pb2_grpc.LogsServiceServicer):
    def Export(self, request, context):
        return take_lines("otlp-grpc", request)


class Grpc(trace_service_pb2_grpc.TraceServiceServicer):
    def Export(self, request, context):
        return take("otlp-grpc", request)


class Http(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        answer, kind = b"", self.headers["content-type"]
        if self.path == "/v1/traces" and kind == "application/x-protobuf":
            request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
            answer = take("otlp-http", request).SerializeToString()
            self.send_response(200)
        elif self.path == "/v1/logs" and kind == "application/x-protobuf":
            request = logs_service_pb2.ExportLogsServiceRequest.FromString(body)
            answer = take_lines("otlp-http", request).SerializeToString()
            self.send_response(200)
        elif self.path == "/api/v2/spans" and kind == "application/json":
            for span in json.loads(body):
                tell({
                    "way": "zipkin",
                    "service": span["localEndpoint"]["serviceName"],
                    "trace": span["traceId"],
                    "id": span["id"],
                    "parent": span.get("parentId", ""),
                    "name": span["name"].upper(),
                    "kind": "SPAN_KIND_" + span["kind"],
                    "us": span["duration"],
                    "start": span["timestamp"],
                    "is_error": "error" in span["tags"],
                    "attributes": span["tags"],
                })
            self.send_response(202)
        else:
            self.send_response(404)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Grpc(), server)
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(GrpcLogs(), server)
    server.add_insecure_port("127.0.0.1:" + sys.argv[2])
    server.start()
    print("collecting", flush=True)
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Http).serve_forever()


main()
