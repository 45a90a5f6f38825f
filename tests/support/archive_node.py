"""A storage node in this process, and an export to send to it."""

import socket
import threading
from contextlib import contextmanager, suppress

from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from medfuse.archive.transfer import Options

FAST = Options(timeout_s=5.0)


@contextmanager
def node(answer=lambda count: 0x0000, classes=None, tls=None, port=0):
    """A storage SCP: its port and what it took; ``answer`` gives the n-th status, or None to cut the line."""
    taken = {}
    counted = [0]

    def on_store(event):
        counted[0] += 1
        status = answer(counted[0])
        if status is None:
            event.assoc.abort()
            return 0xC000
        if status in (0x0000, 0xB000):
            dataset = event.dataset
            dataset.file_meta = event.file_meta
            taken[str(dataset.SOPInstanceUID)] = dataset
        return status

    entity = AE(ae_title="ARCHIVE")
    entity.add_supported_context(Verification)
    from pydicom.uid import AllTransferSyntaxes
    from pynetdicom import AllStoragePresentationContexts

    for context in AllStoragePresentationContexts:
        if classes is None or context.abstract_syntax in classes:
            entity.add_supported_context(context.abstract_syntax, AllTransferSyntaxes)
    connections = []

    class Handler(RequestHandler):
        def handle(self):
            connections.append(self.request)
            super().handle()

    server = entity.make_server(
        ("127.0.0.1", port),
        server_class=ThreadedAssociationServer,
        evt_handlers=[(evt.EVT_C_STORE, on_store)],
        ssl_context=tls,
        request_handler=Handler,
    )
    entity._servers.append(server)  # from which its shutdown takes it
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.socket.getsockname()[1], taken
    finally:
        server.shutdown()
        thread.join()
        for connection in connections:  # pynetdicom leaves one open that the peer has closed before
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for association in server.active_associations:
            association.join(5.0)
        for connection in connections:
            connection.close()
