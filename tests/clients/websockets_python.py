"""The websockets package at both ends of two proxies.

    websockets_python.py serve PORT
    websockets_python.py call PORT
"""
import sys

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import serve


def handler(socket):
    path = socket.request.path
    if path.startswith('/close/'):
        socket.close(int(path.split('/')[2]), 'as asked')
        return
    for message in socket:
        if path == '/parts':
            middle = len(message) // 2
            message = iter([message[:middle], message[middle:]])
        socket.send(message)


def call(port):
    base = f'ws://127.0.0.1:{port}'
    limits = {'open_timeout': 20, 'max_size': 1 << 25}
    for compression in (None, 'deflate'):
        for path in ('/', '/parts'):
            with connect(base + path, compression=compression, **limits) as socket:
                names = [type(it).__name__ for it in socket.protocol.extensions]
                assert names == (['PerMessageDeflate'] if compression else []), names
                for said in ('a', 'ä' * 70000, b'\0\xff' * 100000):
                    socket.send(said)
                    assert socket.recv(20) == said
                socket.send(iter(['in ', 'three ', 'parts']))
                assert socket.recv(20) == 'in three parts'
                assert socket.ping(b'there?').wait(20)
                # Many that wait for nobody.
                for number in range(100):
                    socket.send(str(number))
                assert [socket.recv(20) for _ in range(100)] == [str(it) for it in range(100)]
    for code in (1000, 1001, 1008, 4999):
        with connect(f'{base}/close/{code}', **limits) as socket:
            try:
                socket.recv(20)
            except ConnectionClosed as closed:
                assert (closed.rcvd.code, closed.rcvd.reason) == (code, 'as asked'), closed
            else:
                raise AssertionError('it was to be closed')
    print('websockets agrees')


if sys.argv[1] == 'serve':
    with serve(handler, '127.0.0.1', int(sys.argv[2]), max_size=1 << 25) as server:
        server.serve_forever()
call(sys.argv[2])
