"""A gRPC server for Upstream.pm: echoes what it gets, on a Unix socket.

    grpc_echo.py SOCKET LOG       a server, which notes each call in LOG
    grpc_echo.py call SOCKET METHOD [MESSAGE]
                                    a client: prints the status code of the
                                    call, and the message that came back

/echo/fail is answered with the status UNAVAILABLE, /echo/late after a second.
"""

import json
import sys
import time
from concurrent import futures

import grpc


class Echo(grpc.GenericRpcHandler):
    def __init__(self, log):
        self.log = log

    def service(self, details):
        def answer(request, context):
            line = json.dumps({
                'line': 'POST ' + details.method,
                'headers': [[key, value] for key, value
                            in context.invocation_metadata()
                            if isinstance(value, str)],
                'body': len(request)})

            with open(self.log, 'a') as log:
                log.write(line + '\n')

            if details.method == '/echo/late':
                time.sleep(1)

            if details.method == '/echo/fail':
                context.abort(grpc.StatusCode.UNAVAILABLE, 'asked for')

            return request

        return grpc.unary_unary_rpc_method_handler(answer)


def serve(socket, log):
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    server.add_generic_rpc_handlers((Echo(log),))
    server.add_insecure_port('unix:' + socket)
    server.start()
    server.wait_for_termination()


def call(socket, method, message=''):
    with grpc.insecure_channel('unix:' + socket) as channel:
        try:
            print('OK', channel.unary_unary(method)(
                message.encode(), timeout=5).decode())
        except grpc.RpcError as error:
            print(error.code().name)


if __name__ == '__main__':
    if sys.argv[1] == 'call':
        call(*sys.argv[2:])
    else:
        serve(*sys.argv[1:])
