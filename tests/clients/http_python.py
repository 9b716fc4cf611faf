"""httpx over HTTP/1.1 and HTTP/2, and frames of HTTP/2 by the h2 package, before two proxies.

    http_python.py serve PORT
    http_python.py call PORT
"""
import asyncio
import hashlib
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import httpx

BIG = bytes(range(256)) * 8192


class Origin(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def answer(self):
        body = b''
        if 'chunked' in self.headers.get('transfer-encoding', ''):
            while size := int(self.rfile.readline().split(b';')[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            while (line := self.rfile.readline()) not in (b'\r\n', b''):
                body += b'|' + line.strip().lower()
        else:
            body = self.rfile.read(int(self.headers.get('content-length', 0)))
        if self.path == '/trailers':
            self.send_response(200)
            self.send_header('Transfer-Encoding', 'chunked')
            self.send_header('Trailer', 'X-Sum')
            self.end_headers()
            self.wfile.write(b'4\r\nbody\r\n0\r\nX-Sum: 42\r\n\r\n')
            return
        said = BIG if self.path == '/big' else body if self.path == '/said' else hashlib.sha256(body).hexdigest().encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_POST = do_PUT = answer

    def log_message(self, *_):
        pass


def with_httpx(base):
    with httpx.Client(timeout=20) as client:
        for _ in range(30):
            assert client.get(base + '/big').content == BIG
        parts = (b'p' * 10000 for _ in range(100))
        wanted = hashlib.sha256(b'p' * 1000000).hexdigest()
        assert client.post(base, content=parts).text == wanted

    async def at_once():
        async with httpx.AsyncClient(http1=False, http2=True, timeout=20) as client:
            answers = await asyncio.gather(*(client.get(base + '/big') for _ in range(30)))
            assert all(it.http_version == 'HTTP/2' and it.content == BIG for it in answers)

            async def parts():
                for _ in range(100):
                    yield b'p' * 10000

            assert (await client.post(base, content=parts())).text == wanted

    asyncio.run(at_once())


class Raw:
    """One connection, frame by frame."""

    def __init__(self, port, settings=None):
        self.socket = socket.create_connection(('127.0.0.1', port), timeout=20)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        if settings:
            self.h2.local_settings.update(settings)
            self.h2.local_settings.acknowledge()
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def ask(self, path, method='GET', fields=(), end=True, **more):
        stream = self.h2.get_next_available_stream_id()
        head = [(':method', method), (':path', path), (':scheme', 'http'), (':authority', 'web')]
        self.h2.send_headers(stream, head + list(fields), end_stream=end, **more)
        self.flush()
        return stream

    def until(self, stream, last, gives=True):
        """Events until the last one wanted of a stream; windows are given back or not."""
        seen = []
        while True:
            data = self.socket.recv(65536)
            assert data, f'closed after {seen}'
            for event in self.h2.receive_data(data):
                assert not isinstance(event, (h2.events.PushedStreamReceived, h2.events.ConnectionTerminated)), event
                if isinstance(event, h2.events.DataReceived) and gives:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if getattr(event, 'stream_id', None) == stream:
                    seen.append(event)
            self.flush()
            if any(isinstance(it, last) for it in seen):
                return seen


def body(events):
    return b''.join(it.data for it in events if isinstance(it, h2.events.DataReceived))


def with_frames(port):
    ended = h2.events.StreamEnded
    raw = Raw(port, {h2.settings.SettingCodes.ENABLE_PUSH: 0})
    events = raw.until(raw.ask('/trailers', fields=[('te', 'trailers')]), ended)
    trailers = [dict(it.headers) for it in events if isinstance(it, h2.events.TrailersReceived)]
    assert [{bytes(k): bytes(v) for k, v in it.items()} for it in trailers] == [{b'x-sum': b'42'}], trailers
    # Trailers of a request reach a service of HTTP/1.1 that is told of them.
    stream = raw.ask('/said', 'POST', [('trailer', 'x-more')], end=False)
    raw.h2.send_data(stream, b'body')
    raw.h2.send_headers(stream, [('x-more', 'yes')], end_stream=True)
    raw.flush()
    assert body(raw.until(stream, ended)) == b'body|x-more: yes'
    # Priorities are allowed, and mean nothing.
    stream = raw.ask('/said', priority_weight=16, priority_depends_on=0, priority_exclusive=True)
    raw.h2.prioritize(stream, weight=1)
    raw.flush()
    raw.until(stream, ended)
    # One that is given up takes nothing from the others.
    given_up, other = raw.ask('/big'), raw.ask('/big')
    raw.h2.reset_stream(given_up, 8)
    raw.flush()
    assert body(raw.until(other, ended)) == BIG
    # A window that is used up stops that stream alone.
    slow = Raw(port, {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1000})
    slow.h2.increment_flow_control_window(1 << 24)
    slow.flush()
    stuck = slow.ask('/big')
    got = b''
    while len(got) < 1000:
        got += body(slow.until(stuck, h2.events.DataReceived, gives=False))
    assert got == BIG[:1000], len(got)
    other = slow.ask('/said')
    slow.until(other, ended)
    slow.h2.increment_flow_control_window(1 << 22, stuck)
    slow.flush()
    got += body(slow.until(stuck, ended, gives=False))
    assert got == BIG
    # As much as the window lets out, and more when it is opened.
    stream, sent = raw.ask('/', 'POST', end=False), 0
    while sent < len(BIG):
        room = min(raw.h2.local_flow_control_window(stream), raw.h2.max_outbound_frame_size, len(BIG) - sent)
        if room:
            raw.h2.send_data(stream, BIG[sent:sent + room])
            sent += room
            raw.flush()
        else:
            for event in raw.h2.receive_data(raw.socket.recv(65536)):
                assert not isinstance(event, h2.events.StreamReset), event
    raw.h2.end_stream(stream)
    raw.flush()
    assert body(raw.until(stream, ended)) == hashlib.sha256(BIG).hexdigest().encode()


if sys.argv[1] == 'serve':
    ThreadingHTTPServer(('127.0.0.1', int(sys.argv[2])), Origin).serve_forever()
with_httpx(f'http://127.0.0.1:{sys.argv[2]}')
with_frames(int(sys.argv[2]))
print('httpx and h2 agree')
