"""A gRPC service whose messages are StringValue, as far as it needs them.

    grpc_strings.py PORT
"""
import sys
import threading
from concurrent import futures

import grpc


def text(message):
    """The one field of a StringValue: a tag, a length, the bytes."""
    at, shift, length = 1, 0, 0
    while message:
        length |= (message[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if message[at - 1] < 128:
            break
    return message[at:at + length].decode()


class Strings(grpc.GenericRpcHandler):
    def service(self, call):
        kind = call.method.split('/')[-1]

        def one(request, context):
            context.set_trailing_metadata((('x-kind', kind),))
            if text(request) == 'fail':
                context.abort(grpc.StatusCode.NOT_FOUND, 'no such thing: ä')
            if text(request) == 'late':
                gone = threading.Event()
                context.add_callback(gone.set)
                gone.wait(20)
            return request

        def many(request, context):
            for number in range(100):
                if text(request) == 'broken' and number == 3:
                    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, 'enough')
                yield request

        handlers = {
            'One': grpc.unary_unary_rpc_method_handler(one, bytes, bytes),
            'Many': grpc.unary_stream_rpc_method_handler(many, bytes, bytes),
        }
        return handlers.get(kind)


server = grpc.server(futures.ThreadPoolExecutor(16))
server.add_generic_rpc_handlers((Strings(),))
assert server.add_insecure_port('127.0.0.1:' + sys.argv[1])
server.start()
server.wait_for_termination()
