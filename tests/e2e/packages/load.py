"""An application behind one sidecar and callers before another one, inside a machine's network.

    python3 load.py APPLICATION-PORT UPSTREAM-PORT

For each line on standard input it prints `ANSWERED FAILED`. No request is sent twice. It ends with its input.
"""

import http.client
import http.server
import sys
import threading

CALLERS = 4
counts = {"answered": 0, "failed": 0}
lock = threading.Lock()


class Application(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = b"from the application"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def ask(connection):
    connection.request("GET", "/")
    answer = connection.getresponse()
    answer.read()
    return answer.status == 200, answer.getheader("Connection") == "close"


def call(port, keeps):
    """Calls without end; keeps its connection until the answer says that it is the last one."""
    connection = None
    while True:
        try:
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            is_good, is_last = ask(connection)
            if is_last or not keeps:
                connection.close()
                connection = None
        except OSError as error:
            print(f"a call failed: {error!r}", file=sys.stderr, flush=True)
            is_good, connection = False, None
        except http.client.HTTPException as error:
            print(f"a call failed: {error!r}", file=sys.stderr, flush=True)
            is_good, connection = False, None
        with lock:
            counts["answered" if is_good else "failed"] += 1


def main(application, upstream):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", application), Application)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    is_calling = False
    for line in sys.stdin:
        if line.strip() == "call" and not is_calling:
            is_calling = True
            for caller in range(CALLERS):
                threading.Thread(target=call, args=(upstream, caller % 2 == 0), daemon=True).start()
        elif line.strip() == "try":
            try:
                connection = http.client.HTTPConnection("127.0.0.1", upstream, timeout=60)
                is_good, _ = ask(connection)
                connection.close()
            except (OSError, http.client.HTTPException):
                is_good = False
            print("good" if is_good else "bad", flush=True)
            continue
        with lock:
            print(counts["answered"], counts["failed"], flush=True)


main(int(sys.argv[1]), int(sys.argv[2]))
