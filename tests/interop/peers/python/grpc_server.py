"""A gRPC server of Google's C core, without protobuf: messages are bytes.

Takes one JSON object: {"port": 0} for plaintext; with "cert" and "key" for TLS. Prints its port.
"""

import json
import sys
from concurrent import futures

import grpc


def unary(request, context):
    metadata = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-initial", "here"),))
    context.set_trailing_metadata((("x-trailing", "there"), ("x-seen", metadata.get("x-qtls-group", "none"))))
    return b"echo " + request


def fail(request, context):
    context.set_trailing_metadata((("x-trailing", "failed"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the message of the error: " + request.decode())


def count(request, context):
    for number in range(int(request)):
        yield str(number).encode()


def total(requests, context):
    return str(sum(len(request) for request in requests)).encode()


def chat(requests, context):
    # An answer to each message before the next one comes: nothing on the way may wait for more.
    for request in requests:
        yield b"re: " + request
    context.set_trailing_metadata((("x-trailing", "chatted"),))


HANDLERS = grpc.method_handlers_generic_handler(
    "qtls.Test",
    {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Total": grpc.stream_unary_rpc_method_handler(total),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
    },
)


def main():
    options = json.loads(sys.argv[1])
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    server.add_generic_rpc_handlers((HANDLERS,))
    address = f"127.0.0.1:{options.get('port', 0)}"
    if "cert" in options:
        with open(options["key"], "rb") as key, open(options["cert"], "rb") as cert:
            credentials = grpc.ssl_server_credentials(((key.read(), cert.read()),))
        port = server.add_secure_port(address, credentials)
    else:
        port = server.add_insecure_port(address)
    server.start()
    print(f"port {port}", flush=True)
    # Until standard input ends, or somebody kills it.
    sys.stdin.read()


main()
