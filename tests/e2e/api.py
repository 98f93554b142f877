"""The client API from Python, by Debian's gRPC and the messages of our .proto files: calls and streams of one endpoint.

A driver that includes it takes --descriptors (the build makes them) and is run by Debian's interpreter.
"""
import os
import queue
import sys
import threading
import time

import lib

# What is started from here is another program at once; waiting for gRPC's threads before a fork may take for ever.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
try:
    import grpc
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
except ImportError as error:
    lib.skip(f"Debian's python3-grpcio and python3-protobuf are needed: {error}")

OK = "OK"
CALL_TIMEOUT_S = 20.0
ANSWER_TIMEOUT_S = 10.0
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Messages:
    """Message classes and methods by name, from a descriptor set: messages.PutRequest(key=b"a")."""

    def __init__(self, path):
        files = descriptor_pb2.FileDescriptorSet()
        with open(path, "rb") as file:
            files.ParseFromString(file.read())
        pool = descriptor_pool.DescriptorPool()
        factory = message_factory.MessageFactory(pool)
        self.methods = {}
        for file in files.file:
            pool.Add(file)
        for file in files.file:
            for message in file.message_type:
                setattr(self, message.name,
                        factory.GetPrototype(pool.FindMessageTypeByName(f"{file.package}.{message.name}")))
            for service in file.service:
                for method in pool.FindServiceByName(f"{file.package}.{service.name}").methods:
                    self.methods[method.name] = (f"/{file.package}.{service.name}/{method.name}",
                                                 factory.GetPrototype(method.input_type),
                                                 factory.GetPrototype(method.output_type))


class Reply:
    """code ("OK", "NOT_FOUND"), the error's text, the message or None."""

    def __init__(self, code, text="", message=None):
        self.code = code
        self.text = text
        self.message = message

    def __getattr__(self, name):  # of the message
        if self.message is None:
            raise RuntimeError(f"no answer but {self}")
        return getattr(self.message, name)

    def __str__(self):
        return one_line(self.message) if self.code == OK else f"{self.code} {self.text}"


def one_line(message):
    return text_format.MessageToString(message, as_one_line=True)


def metadata_of(token=None, require_leader=False):
    """require_leader: as clients ask for it, or a text of one's own."""
    pairs = [("token", token)] if token is not None else []
    return pairs + [("hasleader", "true" if require_leader is True else require_leader)] if require_leader else pairs


class Stream:
    """A stream both ways: send(), then take() the answers as they come."""

    def __init__(self, api, method, token=None, require_leader=False):
        path, self.request, response = api.messages.methods[method]
        self._to_send = queue.SimpleQueue()
        self._came = queue.SimpleQueue()
        self._call = api.channel.stream_stream(path, self.request.SerializeToString, response.FromString)(
            iter(self._to_send.get, None), metadata=metadata_of(token, require_leader))
        self.end = None  # the Reply that ended it
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        try:
            for message in self._call:
                self._came.put(message)
            end = Reply(OK)
        except grpc.RpcError as error:
            end = Reply(error.code().name, error.details())
        self.end = end
        self._came.put(None)

    def send(self, **fields):
        self._to_send.put(self.request(**fields))

    def finish(self):
        """Half-closes: nothing more will be sent."""
        self._to_send.put(None)

    def take(self, timeout_s=ANSWER_TIMEOUT_S):
        """The next answer; None when the stream has ended or the time is up."""
        try:
            return self._came.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def cancel(self):
        self._call.cancel()
        self._to_send.put(None)


class WatchStream(Stream):
    """A Watch stream with its requests as methods."""

    def __init__(self, api, **options):
        super().__init__(api, "Watch", **options)
        self.messages = api.messages

    def create(self, **fields):
        self.send(create_request=self.messages.WatchCreateRequest(**fields))

    def created(self, **fields):
        """Creates and takes the answer."""
        self.create(**fields)
        return self.take()

    def drop(self, watch_id):
        self.send(cancel_request=self.messages.WatchCancelRequest(watch_id=watch_id))

    def progress(self):
        self.send(progress_request=self.messages.WatchProgressRequest())


class Api:
    """One endpoint: api.Put(key=b"a", value=b"1") gives a Reply."""

    def __init__(self, endpoint, messages):
        self.endpoint = endpoint
        self.messages = messages
        self.channel = grpc.insecure_channel(endpoint, options=OPTIONS + [("grpc.use_local_subchannel_pool", 1)])
        self._calls = {}

    def _call_of(self, name):
        if name not in self._calls:
            path, request, response = self.messages.methods[name]
            self._calls[name] = (self.channel.unary_unary(path, request.SerializeToString, response.FromString), request)
        return self._calls[name]

    def start(self, method, /, request=None, token=None, timeout_s=CALL_TIMEOUT_S, require_leader=False, **fields):
        """Begins a call; finish() waits for it."""
        call, make = self._call_of(method)
        return call.future(make(**fields) if request is None else request, timeout=timeout_s,
                           metadata=metadata_of(token, require_leader), wait_for_ready=True)

    def messages_of(self, method):
        """The class of a method's requests."""
        return self.messages.methods[method][1]

    @staticmethod
    def finish(future):
        try:
            return Reply(OK, message=future.result())
        except grpc.RpcError as error:
            return Reply(error.code().name, error.details())

    def call(self, method, /, request=None, **options):
        return self.finish(self.start(method, request, **options))

    def read_stream(self, method, /, timeout_s=CALL_TIMEOUT_S, token=None, require_leader=False, **fields):
        """All messages of a stream from the server, and the Reply that ended it."""
        path, make, response = self.messages.methods[method]
        call = self.channel.unary_stream(path, make.SerializeToString, response.FromString)(
            make(**fields), timeout=timeout_s, metadata=metadata_of(token, require_leader), wait_for_ready=True)
        got = []
        try:
            got.extend(call)
        except grpc.RpcError as error:
            return got, Reply(error.code().name, error.details())
        return got, Reply(OK)

    def watch(self, **options):
        return WatchStream(self, **options)

    def renewals(self, **options):
        """A LeaseKeepAlive stream."""
        return Stream(self, "LeaseKeepAlive", **options)

    def keep_alive(self, *ids, token=None):
        """The answers of one LeaseKeepAlive stream to these ids, and the stream's end."""
        stream = self.renewals(token=token)
        got = []
        for id_ in ids:
            stream.send(ID=id_)
            got.append(stream.take())
        stream.finish()
        lib.wait_until(lambda: stream.end is not None, ANSWER_TIMEOUT_S, "a half-closed stream of renewals ends")
        return got, stream.end

    def close(self):
        self.channel.close()

    def __getattr__(self, name):
        if name not in self.messages.methods:
            raise AttributeError(name)
        return lambda request=None, **options: self.call(name, request, **options)


# ---- requests that are long to write ----

def prefix_end(prefix):
    """The end of the range of a prefix, as clients compute it."""
    end = bytearray(prefix)
    while end:
        if end[-1] < 0xff:
            end[-1] += 1
            return bytes(end)
        end.pop()
    return b"\0"


class Ops:
    """Parts of transactions: ops.put(...), ops.mod(key, 5)."""

    def __init__(self, messages):
        self.m = messages

    def put(self, key, value=b"", **more):
        return self.m.RequestOp(request_put=self.m.PutRequest(key=key, value=value, **more))

    def range(self, key, **more):
        return self.m.RequestOp(request_range=self.m.RangeRequest(key=key, **more))

    def delete(self, key, **more):
        return self.m.RequestOp(request_delete_range=self.m.DeleteRangeRequest(key=key, **more))

    def txn(self, compare=(), success=(), failure=()):
        return self.m.RequestOp(request_txn=self.m.TxnRequest(compare=compare, success=success, failure=failure))

    def mod(self, key, revision, result="EQUAL"):
        return self.m.Compare(result=result, target="MOD", key=key, mod_revision=revision)

    def version(self, key, version, result="EQUAL"):
        return self.m.Compare(result=result, target="VERSION", key=key, version=version)

    def create(self, key, revision, result="EQUAL"):
        return self.m.Compare(result=result, target="CREATE", key=key, create_revision=revision)

    def value(self, key, value, result="EQUAL"):
        return self.m.Compare(result=result, target="VALUE", key=key, value=value)


def fail_after(seconds, what):
    """Ends the driver when it hangs."""
    def end():
        time.sleep(seconds)
        print(f"FAILED: {what} takes longer than {seconds} s", flush=True)
        os._exit(1)
    threading.Thread(target=end, daemon=True).start()


if __name__ == "__main__":
    sys.exit("a part of other drivers")
