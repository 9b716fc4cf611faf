"""The readings of a WSGI and of an ASGI application, one JSON line for each request."""
import json
import os


def note(method, paths, fields, body):
    with open(os.environ["ORIGIN_LOG"], "a") as log:
        log.write(json.dumps({"method": method, "paths": paths, "fields": fields,
                              "body": body.decode("latin-1")}) + "\n")


def wsgi(environ, start_response):
    body = environ["wsgi.input"].read()
    if len(body) < int(environ.get("CONTENT_LENGTH") or 0):
        raise ConnectionError("the body broke off")
    fields = {name[5:].lower().replace("_", "-"): [value] for name, value in environ.items()
              if name.startswith("HTTP_")}
    path = environ["PATH_INFO"]
    try:
        path = path.encode("latin-1").decode()
    except UnicodeError:
        pass
    note(environ["REQUEST_METHOD"], [path], fields, body)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return
        body += message.get("body", b"")
        more = message.get("more_body", False)
    fields = {}
    for name, value in scope["headers"]:
        fields.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    note(scope["method"], [scope["path"]], fields, body)
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
