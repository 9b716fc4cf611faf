"""A forward proxy as small as it can be: CONNECT, and bytes both ways.

    http_forwarder.py PORT
"""
import socket
import sys
import threading


def carry(source, target):
    while data := source.recv(65536):
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)


def serve(caller):
    head = b''
    while b'\r\n\r\n' not in head:
        more = caller.recv(65536)
        if not more:
            return
        head += more
    head, rest = head.split(b'\r\n\r\n', 1)
    method, target, _ = head.split(b'\r\n')[0].decode().split(' ')
    assert method == 'CONNECT', head
    host, port = target.rsplit(':', 1)
    far = socket.create_connection((host, int(port)))
    caller.sendall(b'HTTP/1.1 200 Connected\r\n\r\n')
    far.sendall(rest)
    threading.Thread(target=carry, args=(far, caller), daemon=True).start()
    carry(caller, far)


listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))
while True:
    accepted, _ = listener.accept()
    threading.Thread(target=serve, args=(accepted,), daemon=True).start()
