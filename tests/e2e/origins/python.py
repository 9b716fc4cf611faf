"""The readings of http.server, one JSON line for each request; it takes numbers as Python does."""
import http.server
import json
import os
import sys
import urllib.parse


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def body(self):
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return body
        length = int(self.headers.get("content-length", "0"))
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionError("the body broke off")
        return body

    def answer(self):
        body = self.body()
        # Its own reading of the path: the file that it would serve; and the way to a CGI program.
        path = self.translate_path(self.path)[len(self.directory):] or "/"
        paths = [path, urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)]
        fields = {}
        for name, value in self.headers.items():
            fields.setdefault(name.lower(), []).append(value)
        with open(sys.argv[2], "a") as log:
            log.write(json.dumps({"method": self.command, "paths": paths, "fields": fields,
                                  "body": body.decode("latin-1")}) + "\n")
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"ok")

    do_GET = do_HEAD = answer

    def log_message(self, *args):
        pass

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)


def handler(*args):
    return Handler(*args, directory=os.path.realpath(sys.argv[3]))


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128


Server(("127.0.0.1", int(sys.argv[1])), handler).serve_forever()
