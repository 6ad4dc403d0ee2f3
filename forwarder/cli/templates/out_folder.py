"""Output `folder`: a file for every chunk, by way of the buffer."""

from pathlib import Path

from forwarder.api import Chunk, Output, UnrecoverableError, string


class FolderOutput(Output):
    """`write` gets a chunk. What it raises means: again later, as `<buffer>` says."""

    path = string("Folder that gets the files.")

    def write(self, chunk: Chunk) -> None:
        if "/" in (chunk.key.tag or ""):
            raise UnrecoverableError("this tag is no file name")  # no retry can help
        # the id is the same over all retries, so a file that was half written is written again
        target = Path(self.path) / f"{chunk.key.tag or 'events'}.{chunk.id.hex()}.msgpack"
        target.write_bytes(chunk.read())
